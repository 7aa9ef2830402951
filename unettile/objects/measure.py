"""Measurements of objects, added up block by block in whole numbers, so that blocks leave no trace in them.

The sums of N objects lie in a temporary file that is mapped into memory: pages that are not in use can leave it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.compiled import compiled
from unettile.objects.mapped import MappedArray
from unettile.objects.scan import Part

SUMS = np.dtype(
    [
        ("area", np.int64),
        ("y", np.int64),  # sums of y, x, y², y·x, x², from the object's first pixel
        ("x", np.int64),
        ("yy", np.int64),
        ("yx", np.int64),
        ("xx", np.int64),
        ("sides", np.int64),  # neighbours outside of the object, over a side (counted twice) and over a corner
        ("corners", np.int64),
        ("y0", np.int32),
        ("x0", np.int32),
        ("y1", np.int32),
        ("x1", np.int32),
    ]
)

FORGET = 2**20
"""Rows after which the memory of a table that is being filled is let go."""


@dataclass(frozen=True)
class Measurements:
    """Figures of objects with consecutive ids, all arrays (n,), px.

    Args:
        area: px.
        centroid_y, centroid_x: mean of the pixels' coordinates; the first pixel of the image is (0, 0).
        box: (n, 4) int: y0, x0, y1, x1, half-open.
        perimeter: by the Cauchy-Crofton formula over four directions.
        eccentricity: of the ellipse of the same second moments, 0 for a circle; NaN where moments pass 63 bits.
        major, minor: axes of that ellipse, NaN likewise.
        orientation: of its major axis, radians from the image's first axis (downwards), -π/2 to π/2; NaN likewise.
    """

    area: NDArray[np.int64]
    centroid_y: NDArray[np.float64]
    centroid_x: NDArray[np.float64]
    box: NDArray[np.int64]
    perimeter: NDArray[np.float64]
    eccentricity: NDArray[np.float64]
    major: NDArray[np.float64]
    minor: NDArray[np.float64]
    orientation: NDArray[np.float64]


class Sums:
    """The sums of all objects of an image.

    Args:
        table: (N,) of SUMS.
        origin: (N,) raster index of the pixel that coordinates are counted from.
        width: of the image.
    """

    def __init__(self, table: MappedArray, origin: NDArray[np.int64], width: int) -> None:
        self._table, self._origin, self._width = table, origin, width

    def __len__(self) -> int:
        return int(self._table.array.size)

    def measurements(self, start: int, stop: int) -> Measurements:
        """Return the figures of the objects start + 1 … stop."""
        part = self._table.array[start:stop].copy()
        self._table.forget()
        area = part["area"].astype(np.int64)
        n = area.astype(np.float64)
        y, x = part["y"] / n, part["x"] / n
        first_y, first_x = np.divmod(self._origin[start:stop], self._width)
        box = np.stack([part[name] for name in ("y0", "x0", "y1", "x1")], axis=1).astype(np.int64)
        return Measurements(
            area,
            first_y + y,
            first_x + x,
            box,
            math.pi / 8 * (part["sides"] // 2 + part["corners"] / math.sqrt(2)),
            *_ellipse(part, n, y, x, box),
        )

    def centroids(self) -> NDArray[np.float64]:
        """Return the mean of the pixels' coordinates of all objects, (N, 2): y, x."""
        found = np.empty((len(self), 2))
        for start in range(0, len(self), FORGET):
            some = self.measurements(start, min(start + FORGET, len(self)))
            found[start : start + FORGET] = np.stack([some.centroid_y, some.centroid_x], axis=1)
        return found


class Summing:
    """Adds up what `Sums` knows, part by part.

    Args:
        directory: of the temporary file.
        origin: (N,) raster index of a pixel of each object, which coordinates are counted from.
        shape: of the image.

    Raises:
        OSError: no room for the temporary file.
    """

    def __init__(self, directory: Path, origin: NDArray[np.int64], shape: tuple[int, int]) -> None:
        count, (height, width) = origin.size, shape
        self._table = MappedArray(directory, SUMS, (count,))
        for start in range(0, count, FORGET):
            rows = self._table.array[start : start + FORGET]
            rows["y0"], rows["x0"] = height, width
            self._table.forget()
        self._origin, self._height, self._width = origin, height, width
        self._columns = tuple(self._table.array[name] for name in SUMS.names or ())

    def see(self, part: Part) -> None:
        """Add the pixels of a part."""
        last = (part.box.y1 == self._height, part.box.x1 == self._width)
        runs = part.runs.starts, part.runs.ends, part.runs.values
        corner = part.box.y0, part.box.x0
        _add(*runs, corner, part.box.width, self._width, self._origin, self._columns)
        _add_neighbours(*runs, part.box.width, last, self._columns)
        self._table.forget()

    def finish(self) -> Sums:
        return Sums(self._table, self._origin, self._width)


def _ellipse(
    part: NDArray[Any], n: NDArray[np.float64], y: NDArray[np.float64], x: NDArray[np.float64], box: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return eccentricity, both axes and orientation of the ellipse of the same second moments."""
    mu_yy, mu_yx, mu_xx = part["yy"] / n - y * y, part["yx"] / n - y * x, part["xx"] / n - x * x
    mean, spread = (mu_yy + mu_xx) / 2, np.hypot((mu_yy - mu_xx) / 2, mu_yx)
    large, small = mean + spread, np.maximum(mean - spread, 0.0)
    ratio = np.divide(small, large, out=np.ones_like(large), where=large > 0)
    round_ones = np.where(mu_yx > 0, math.pi / 4, -math.pi / 4)  # what scikit-image says where both axes weigh the same
    orientation = np.where(mu_xx == mu_yy, round_ones, 0.5 * np.arctan2(2 * mu_yx, mu_yy - mu_xx))
    extent = np.maximum(box[:, 2] - box[:, 0], box[:, 3] - box[:, 1]).astype(np.float64)
    too_large = n * extent**2 >= 2.0**63
    found = np.sqrt(1.0 - ratio), 4 * np.sqrt(np.maximum(large, 0.0)), 4 * np.sqrt(small), orientation
    for figures in found:
        figures[too_large] = np.nan
    return found


@compiled
def _add(starts, ends, values, corner, across, width, origin, columns):  # type: ignore[no-untyped-def]
    """Add the pixels of one part, `across` px wide, to the columns of the table, run by run.

    starts, ends, values: runs of the part read with 1 px more on every side; see `Runs`.
    """
    area, sy, sx, syy, syx, sxx, _, _, y0, x0, y1, x1 = columns
    top, left = corner
    for i in range(1, starts.size - 2):
        y, end = top + i - 1, 1
        for run in range(starts[i], starts[i + 1]):
            begin, end = end, min(np.int64(ends[run]), across + 1)
            if values[run] == 0 or begin >= end:
                continue
            k = np.int64(values[run]) - 1
            first, n = left + begin - 1, end - begin
            fy = origin[k] // width
            dy = y - fy
            low = first - (origin[k] - fy * width)
            high = low + n - 1
            total = n * (low + high) // 2
            squares = (high * (high + 1) * (2 * high + 1) - (low - 1) * low * (2 * low - 1)) // 6
            area[k] += n
            sy[k] += n * dy
            sx[k] += total
            syy[k] += n * dy * dy
            syx[k] += dy * total
            sxx[k] += squares
            y0[k], x0[k] = min(y0[k], y), min(x0[k], first)
            y1[k], x1[k] = max(y1[k], y + 1), max(x1[k], first + n)


@compiled
def _add_neighbours(starts, ends, values, across, last, columns):  # type: ignore[no-untyped-def]
    """Count neighbours where four pixels meet that are not all alike, from runs as `_add` takes them.

    Of two over a side both ends see it, of two over a corner one point does. Points belong to parts as in `outline`.
    Where no run ends, above and below the line between two rows, all points see the same.
    """
    sides, corners = columns[6], columns[7]
    points = across + (1 if last[1] else 0)
    rows = starts.size - 3
    for i in range(rows + (1 if last[0] else 0)):
        above, below, begin = starts[i], starts[i + 1], 0
        while True:
            end = min(ends[above], ends[below])
            a, c = values[above], values[below]
            alike = min(np.int64(end) - 1, points) - begin
            if a != c and alike > 0:
                for one in (a, c):
                    if one != 0:
                        sides[np.int64(one) - 1] += 2 * alike
                        corners[np.int64(one) - 1] += 2 * alike
            if end > points:
                break
            above += ends[above] == end
            below += ends[below] == end
            b, d = values[above], values[below]
            for one, other in ((a, b), (a, c), (b, d), (c, d)):
                if one != other:
                    if one != 0:
                        sides[np.int64(one) - 1] += 1
                    if other != 0:
                        sides[np.int64(other) - 1] += 1
            for one, other in ((a, d), (b, c)):
                if one != other:
                    if one != 0:
                        corners[np.int64(one) - 1] += 1
                    if other != 0:
                        corners[np.int64(other) - 1] += 1
            begin = end
