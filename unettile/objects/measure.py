"""Measurements of objects, added up block by block in whole numbers, so that blocks leave no trace in them.

The sums of N objects lie in a temporary file that is mapped into memory: pages that are not in use can leave it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.compiled import compiled
from unettile.images.slide import Slide
from unettile.objects.mapped import MappedArray
from unettile.tiling import BlockGrid

SUMS = np.dtype(
    [
        ("area", np.int64),
        ("y", np.int64),  # sums of y, x, y², y·x, x², from the object's first pixel
        ("x", np.int64),
        ("yy", np.int64),
        ("yx", np.int64),
        ("xx", np.int64),
        ("sides", np.int64),  # neighbours outside of the object, over a side and over a corner
        ("corners", np.int64),
        ("y0", np.int32),
        ("x0", np.int32),
        ("y1", np.int32),
        ("x1", np.int32),
    ]
)

FORGET = 2**20
"""Rows after which the memory of a table that is being filled is let go."""

OnProgress = Callable[[int, int], None]


class Labels(Protocol):
    """Ids 1 … count of an image, read by region."""

    @property
    def shape(self) -> tuple[int, int]: ...

    @property
    def count(self) -> int: ...

    def read(self, box: Box) -> NDArray[np.uint32]: ...


@dataclass(frozen=True)
class Measurements:
    """Figures of objects with consecutive ids, all arrays (n,), px.

    Args:
        area: px.
        centroid_y, centroid_x: mean of the pixels' coordinates; the first pixel of the image is (0, 0).
        box: (n, 4) int: y0, x0, y1, x1, half-open.
        perimeter: by the Cauchy-Crofton formula over four directions.
        eccentricity: of the ellipse of the same second moments, 0 for a circle; NaN where moments pass 63 bits.
        intensity: (n, C) mean of each channel.
    """

    area: NDArray[np.int64]
    centroid_y: NDArray[np.float64]
    centroid_x: NDArray[np.float64]
    box: NDArray[np.int64]
    perimeter: NDArray[np.float64]
    eccentricity: NDArray[np.float64]
    intensity: NDArray[np.float64]


class Sums:
    """The sums of all objects of an image.

    Args:
        table: (N,) of SUMS.
        origin: (N,) raster index of the pixel that coordinates are counted from.
        width: of the image.
        intensity: (N, C) sums of the channels of an image.
    """

    def __init__(self, table: MappedArray, origin: NDArray[np.int64], width: int, intensity: MappedArray) -> None:
        self._table = table
        self._origin, self._width = origin, width
        self._intensity = intensity

    def __len__(self) -> int:
        return int(self._table.array.size)

    def measurements(self, start: int, stop: int) -> Measurements:
        """Return the figures of the objects start + 1 … stop."""
        part = self._table.array[start:stop].copy()
        area = part["area"].astype(np.int64)
        n = area.astype(np.float64)
        y, x = part["y"] / n, part["x"] / n
        first_y, first_x = np.divmod(self._origin[start:stop], self._width)
        box = np.stack([part[name] for name in ("y0", "x0", "y1", "x1")], axis=1).astype(np.int64)
        intensity = np.asarray(self._intensity.array[start:stop] / n[:, None], np.float64)
        self._table.forget()
        self._intensity.forget()
        return Measurements(
            area,
            first_y + y,
            first_x + x,
            box,
            math.pi / 8 * (part["sides"] + part["corners"] / math.sqrt(2)),
            _eccentricity(part, n, y, x, box),
            intensity,
        )


def measure(
    objects: Labels,
    origin: NDArray[np.int64],
    image: Slide | None,
    grid: BlockGrid,
    directory: Path,
    on_progress: OnProgress,
) -> Sums:
    """Add up what `Sums` knows, in one pass over the blocks of `grid`.

    Args:
        objects: what to measure.
        origin: (N,) raster index of a pixel of each object, which coordinates are counted from.
        image: of the same shape, for mean intensities; or None.
        directory: where the temporary file is.

    Raises:
        InputError: an image that is damaged.
        OSError: no room for the temporary file.
    """
    count, (height, width) = objects.count, objects.shape
    table = MappedArray(directory, SUMS, (count,))
    for start in range(0, count, FORGET):
        table.array["y0"][start : start + FORGET], table.array["x0"][start : start + FORGET] = height, width
        table.forget()
    channels = 0 if image is None else image.channels
    whole = image is None or image.dtype.kind in "uib"
    intensity = MappedArray(directory, np.dtype(np.int64 if whole else np.float64), (count, channels))
    columns = tuple(table.array[name] for name in SUMS.names or ())
    done, total = 0, height * width
    for block in grid:
        labels = read_ringed(objects, block.box)
        if labels.any():
            _add(labels, block.box.y0, block.box.x0, width, origin, columns)
            if image is not None and labels[1:-1, 1:-1].any():
                _add_intensity(labels[1:-1, 1:-1], np.ascontiguousarray(image.read(block.box)), intensity.array)
            table.forget()
            intensity.forget()
        done += block.box.area
        on_progress(done, total)
    return Sums(table, origin, width, intensity)


def read_ringed(objects: Labels, box: Box) -> NDArray[np.uint32]:
    """Return the ids of a box with 1 px more on every side; what lies past the image is background."""
    ring = box.expand(1)
    seen = ring.intersect(Box.of_shape(objects.shape))
    pads = ((seen.y0 - ring.y0, ring.y1 - seen.y1), (seen.x0 - ring.x0, ring.x1 - seen.x1))
    return np.pad(objects.read(seen), pads)


def _eccentricity(
    part: NDArray[Any], n: NDArray[np.float64], y: NDArray[np.float64], x: NDArray[np.float64], box: NDArray[np.int64]
) -> NDArray[np.float64]:
    mu_yy, mu_yx, mu_xx = part["yy"] / n - y * y, part["yx"] / n - y * x, part["xx"] / n - x * x
    mean, spread = (mu_yy + mu_xx) / 2, np.hypot((mu_yy - mu_xx) / 2, mu_yx)
    large, small = mean + spread, np.maximum(mean - spread, 0.0)
    ratio = np.divide(small, large, out=np.ones_like(large), where=large > 0)
    found = np.sqrt(1.0 - ratio)
    extent = np.maximum(box[:, 2] - box[:, 0], box[:, 3] - box[:, 1]).astype(np.float64)
    found[n * extent**2 >= 2.0**63] = np.nan
    return found


@compiled
def _add(labels, top, left, width, origin, columns):  # type: ignore[no-untyped-def]
    """Add one block, read with 1 px more on every side, to the columns of the table."""
    area, sy, sx, syy, syx, sxx, sides, corners, y0, x0, y1, x1 = columns
    rows, across = labels.shape[0] - 2, labels.shape[1] - 2
    for i in range(rows):
        for j in range(across):
            own = labels[i + 1, j + 1]
            if own == 0:
                continue
            k = np.int64(own) - 1
            fy = origin[k] // width
            dy, dx = top + i - fy, left + j - (origin[k] - fy * width)
            area[k] += 1
            sy[k] += dy
            sx[k] += dx
            syy[k] += dy * dy
            syx[k] += dy * dx
            sxx[k] += dx * dx
            y0[k], x0[k] = min(y0[k], top + i), min(x0[k], left + j)
            y1[k], x1[k] = max(y1[k], top + i + 1), max(x1[k], left + j + 1)
            for a in range(-1, 2):
                for b in range(-1, 2):
                    if labels[i + 1 + a, j + 1 + b] != own:
                        if a == 0 or b == 0:
                            sides[k] += 1
                        else:
                            corners[k] += 1


@compiled
def _add_intensity(labels, image, sums):  # type: ignore[no-untyped-def]
    for i in range(labels.shape[0]):
        for j in range(labels.shape[1]):
            own = labels[i, j]
            if own != 0:
                for c in range(image.shape[2]):
                    sums[np.int64(own) - 1, c] += image[i, j, c]
