"""Intensities of objects: sums alone, or all values of each object, brought together, for their spread and order.

Sums of whole numbers are exact in any order. Of floating-point numbers, and where more than the mean is asked for, the
values of each object are sorted before anything is computed of them, so that blocks leave no trace.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unettile.compiled import compiled
from unettile.objects.gather import Gathering, Grouped
from unettile.objects.mapped import MappedArray
from unettile.objects.scan import Part, Picture


@dataclass(frozen=True)
class Intensities:
    """Figures of consecutive objects, in the values of a picture.

    Args:
        mean: (n, C).
        sd: (n, C) standard deviation of the object's pixels.
        smallest, largest, median, total: (n, C).
        percentiles: (n, C, P), between two values in proportion, as NumPy's `linear`.
        centroid_y, centroid_x: (n, C) mean of the coordinates, weighted with the values; NaN where these add up to 0.
    """

    mean: NDArray[np.float64]
    sd: NDArray[np.float64]
    smallest: NDArray[np.float64]
    largest: NDArray[np.float64]
    median: NDArray[np.float64]
    total: NDArray[np.float64]
    percentiles: NDArray[np.float64]
    centroid_y: NDArray[np.float64]
    centroid_x: NDArray[np.float64]


class Totals:
    """Adds up the values of a picture of whole numbers.

    Args:
        directory: of the temporary file.
        count: of objects.
        picture: which is shown.
        number: of the picture among those of a part.

    Raises:
        OSError: no room for the temporary file.
    """

    def __init__(self, directory: Path, count: int, picture: Picture, number: int) -> None:
        self._sums = MappedArray(directory, np.dtype(np.int64), (count, picture.channels))
        self._number = number

    def see(self, part: Part) -> None:
        """Add the values of a part."""
        if part.pictures is not None:
            _add(part.inside, part.pictures[self._number], self._sums.array)
            self._sums.forget()

    def means(self, start: int, stop: int, area: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the means (n, C) of the objects start + 1 … stop, which have so many px."""
        found = np.asarray(self._sums.array[start:stop] / area[:, None], np.float64)
        self._sums.forget()
        return found


class Values:
    """Brings together the values of a picture by object.

    Args:
        directory: of temporary files.
        origin: (N,) raster index of a pixel of each object, which coordinates are counted from.
        width: of the image.
        picture: which is shown.
        number: of the picture among those of a part.

    Raises:
        OSError: no room for a temporary file.
    """

    def __init__(self, directory: Path, origin: NDArray[np.int64], width: int, picture: Picture, number: int) -> None:
        self._gathering = Gathering(directory, origin.size, picture.dtype, picture.channels)
        exact = np.dtype(np.int64 if picture.dtype.kind in "uib" else np.float64)
        self._moments = MappedArray(directory, exact, (origin.size, picture.channels, 2))
        self._origin, self._width, self._number = origin, width, number
        self._grouped: Grouped | None = None

    def see(self, part: Part) -> None:
        """Take the values of a part.

        Raises:
            OSError: no room for the temporary file.
        """
        if part.pictures is None:
            return
        values = part.pictures[self._number]
        inside = part.inside > 0
        self._gathering.add(part.inside[inside], values[inside])
        _add_moments(part.inside, values, part.box.y0, part.box.x0, self._origin, self._width, self._moments.array)
        self._moments.forget()

    def close(self) -> None:
        """Let go of what was taken and is not brought together yet."""
        self._gathering.close()

    def finish(self) -> None:
        """Take no more.

        Raises:
            OSError: no room for the temporary file.
        """
        self._grouped = self._gathering.finish()

    def intensities(self, start: int, stop: int, percentiles: tuple[float, ...]) -> Intensities:
        """Return the figures of the objects start + 1 … stop."""
        assert self._grouped is not None, "first all parts are seen"
        starts, values = self._grouped.part(start, stop)
        n, channels = stop - start, values.shape[1]
        figures = np.empty((6 + len(percentiles), n, channels))
        for channel in range(channels):
            column = np.ascontiguousarray(values[:, channel], np.float64)
            _figures(starts, column, np.array(percentiles, np.float64), figures[:, :, channel])
        mean, sd, smallest, largest, median, total = figures[:6]
        weighted = self._moments.array[start:stop].astype(np.float64)
        self._moments.forget()
        first_y, first_x = np.divmod(self._origin[start:stop], self._width)
        shifted = [
            np.divide(weighted[:, :, axis], total, out=np.full(total.shape, np.nan), where=total != 0)
            for axis in range(2)
        ]
        return Intensities(
            mean,
            sd,
            smallest,
            largest,
            median,
            total,
            np.moveaxis(figures[6:], 0, -1),
            first_y[:, None] + shifted[0],
            first_x[:, None] + shifted[1],
        )


@compiled
def _add(labels, image, sums):  # type: ignore[no-untyped-def]
    for i in range(labels.shape[0]):
        for j in range(labels.shape[1]):
            own = labels[i, j]
            if own != 0:
                for c in range(image.shape[2]):
                    sums[np.int64(own) - 1, c] += image[i, j, c]


@compiled
def _add_moments(labels, image, top, left, origin, width, sums):  # type: ignore[no-untyped-def]
    for i in range(labels.shape[0]):
        for j in range(labels.shape[1]):
            own = labels[i, j]
            if own != 0:
                k = np.int64(own) - 1
                fy = origin[k] // width
                dy, dx = top + i - fy, left + j - (origin[k] - fy * width)
                for c in range(image.shape[2]):
                    sums[k, c, 0] += dy * image[i, j, c]
                    sums[k, c, 1] += dx * image[i, j, c]


@compiled
def _figures(starts, values, percentiles, found):  # type: ignore[no-untyped-def]
    """Fill (6 + P, n): mean, deviation, smallest, largest, median, sum and percentiles of each object's values."""
    for k in range(starts.size - 1):
        own = np.sort(values[starts[k] : starts[k + 1]])
        n = own.size
        total = 0.0
        for i in range(n):
            total += own[i]
        mean = total / n
        spread = 0.0
        for i in range(n):
            spread += (own[i] - mean) ** 2
        found[0, k], found[1, k], found[2, k], found[3, k] = mean, np.sqrt(spread / n), own[0], own[n - 1]
        found[4, k] = (own[(n - 1) // 2] + own[n // 2]) / 2
        found[5, k] = total
        for p in range(percentiles.size):
            place = (n - 1) * percentiles[p] / 100
            below = int(place)
            above = min(below + 1, n - 1)
            found[6 + p, k] = own[below] + (own[above] - own[below]) * (place - below)
