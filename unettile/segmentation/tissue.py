"""Tissue: where an image may hold something, decided cell by cell, so that every job decides alike what it sees.

A cell of 64 × 64 px, counted from the image's (0, 0), is background if it is nothing but noise:

1. Means are taken of squares of 4, 8 and 16 px, and compared with their median over the cell. A square that differs
   by more than five times what pixel noise explains, and by more than a model can see, is something. The noise is the
   cell's own: the mean difference of pixels that touch.
2. The mean of the cell must be near the commonest intensity of the image, glass or darkness, or it lies inside of
   something large and smooth.

What is kept is widened by the margin of the network, in whole cells: it sees all that it sees without this. Sums are of
whole numbers, so that neither the order of work nor the machine can change them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray
from scipy import ndimage

from unettile.box import Box
from unettile.images.normalize import Scaling, sample_boxes
from unettile.images.slide import Slide

CELL = 64
"""Edge of a cell, px."""

STEPS = 4096
"""Whole numbers for the range of intensities that the scaling calls 0 … 1."""

NOISE = 5.0  # standard deviations: of the 256 squares of a cell of mere noise, none is larger in 5,000 cells
NOISE_ROWS = 4  # of so many rows one is looked at for the noise
SQUARES = {4: STEPS / 40, 8: STEPS / 64, 16: STEPS / 64}
"""Edges of squares, px, and contrasts that no model sees: less than half of the least among 30,000 objects of ours."""
LEVEL = STEPS / 16
"""How far from the commonest intensity the mean of background may lie."""

_NORMAL_DIFFERENCE = 2 / math.sqrt(math.pi)  # mean distance of two numbers of a normal distribution, in deviations
_BIN = STEPS // 256  # of the histogram in which the commonest intensity is looked for
_SMOOTH = 9  # bins: noise has not made it ragged

Read = Callable[[Box], NDArray[np.generic]]


@dataclass(frozen=True)
class Background:
    """What an image's background is.

    Args:
        levels: its intensity by channel, in STEPS of the range that the scaling calls 0 … 1.
    """

    levels: tuple[Annotated[int, Meta(ge=-STEPS, le=4 * STEPS)], ...]

    @classmethod
    def measure(cls, slide: Slide, scaling: Scaling) -> Background:
        """Return the commonest intensities of an image, from a bounded sample that depends on the image alone.

        Raises:
            InputError: the image cannot be read.
        """
        bins = 5 * STEPS // _BIN  # intensities are clipped to -1 … 4
        histograms = np.zeros((slide.channels, bins), np.int64)
        for box in sample_boxes(slide.shape):
            numbers = (_in_steps(slide.read(box), scaling) + STEPS) // _BIN
            for channel, histogram in enumerate(histograms):
                histogram += np.bincount(numbers[..., channel].ravel(), minlength=bins + 1)[:bins]
        smooth = [np.convolve(histogram, np.ones(_SMOOTH, np.int64), mode="same") for histogram in histograms]
        return cls(tuple(int(counts.argmax()) * _BIN + _BIN // 2 - STEPS for counts in smooth))

    def holds_something(self, steps: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Return which cells (n,) are not background, from their pixels in STEPS (n, CELL, CELL, C)."""
        rows = steps[:, ::NOISE_ROWS]
        across = np.abs(rows[:, :, 1:] - rows[:, :, :-1]).reshape(len(steps), -1, steps.shape[3])
        noise = across.mean(axis=1) / _NORMAL_DIFFERENCE
        found = np.zeros(len(steps), np.bool_)
        sums, before = steps, 1
        for edge, unseen in SQUARES.items():  # of the squares before
            sums = _in_squares(sums, edge // before)
            before = edge
            squares = sums.reshape(len(steps), -1, steps.shape[3])
            largest = np.abs(squares - np.median(squares, axis=1, keepdims=True)).max(axis=1)
            found |= (largest > edge * np.maximum(NOISE * noise, edge * unseen)).any(axis=1)
        mean = sums.sum(axis=(1, 2), dtype=np.int64) / CELL**2
        something: NDArray[np.bool_] = found | (np.abs(mean - self.levels) > LEVEL).any(axis=1)
        return something

    def to_dict(self) -> dict[str, Any]:
        squares = {str(edge): unseen for edge, unseen in SQUARES.items()}
        rule = {"steps": STEPS, "noise": NOISE, "squares": squares, "level": LEVEL, "cell": CELL}
        return {"levels": list(self.levels), **rule}


class Tissue:
    """Where one image is worked on; cells are looked at when they are first asked for.

    Args:
        background: of the image.
        shape: of the image, px.
        scaling: of its intensities.
        read: gives the pixels (h, w, C) of a box of it.
        margin: px around what is something that is kept with it.
    """

    def __init__(
        self, background: Background, shape: tuple[int, int], scaling: Scaling, read: Read, margin: int
    ) -> None:
        self._background, self._shape, self._scaling, self._read = background, shape, scaling, read
        self._reach = max(1, -(-margin // CELL))  # cells
        grid = (-(-shape[0] // CELL), -(-shape[1] // CELL))
        self._known: NDArray[np.bool_] = np.zeros(grid, np.bool_)
        self._something: NDArray[np.bool_] = np.zeros(grid, np.bool_)

    def inside(self, box: Box) -> NDArray[np.bool_]:
        """Return which pixels of a box lie in cells to be worked on, (h, w).

        Raises:
            InputError: the image cannot be read.
        """
        cells = Box(box.y0 // CELL, box.x0 // CELL, -(-box.y1 // CELL), -(-box.x1 // CELL))
        near = cells.expand(self._reach).intersect(Box.of_shape(self._known.shape))
        for row in range(near.y0, near.y1):
            self._look(row, near.x0, near.x1)
        kept = self._widened(near)[cells.relative_to(near).slices]
        rows, columns = (
            np.arange(start, stop) // CELL - first
            for start, stop, first in ((box.y0, box.y1, cells.y0), (box.x0, box.x1, cells.x0))
        )
        return kept[np.ix_(rows, columns)]

    def left_out(self) -> float:
        """Return the share of the image that is not worked on; cells that were not asked for are looked at now."""
        whole = Box.of_shape(self._known.shape)
        for row in range(whole.y1):
            self._look(row, 0, whole.x1)
        heights, widths = (np.minimum(CELL, length - np.arange(0, length, CELL)) for length in self._shape)
        area = int((np.outer(heights, widths) * ~self._widened(whole)).sum())
        return area / (self._shape[0] * self._shape[1])

    def _widened(self, cells: Box) -> NDArray[np.bool_]:
        widened: NDArray[np.bool_] = ndimage.maximum_filter(
            self._something[cells.slices], 2 * self._reach + 1, mode="constant", cval=False
        )
        return widened

    def _look(self, row: int, first: int, last: int) -> None:
        """Look at the cells of a row that are not known: a row at once takes little memory."""
        todo = np.flatnonzero(~self._known[row, first:last]) + first
        if not len(todo):
            return
        height, width = self._shape
        # The last cells of a row and of a column end where the image does, so that they are of real pixels.
        starts = np.minimum(np.arange(todo[0], todo[-1] + 1) * CELL, max(0, width - CELL))
        y0 = min(row * CELL, max(0, height - CELL))
        box = Box(y0, int(starts[0]), y0 + CELL, int(starts[-1]) + CELL)
        steps = _in_steps(self._read(box.intersect(Box.of_shape(self._shape))), self._scaling)
        missing = [(0, short) for short in (box.height - steps.shape[0], box.width - steps.shape[1], 0)]
        steps = np.pad(steps, missing, mode="symmetric")  # of an image that is smaller than a cell
        cells = np.stack([steps[:, start : start + CELL] for start in starts - starts[0]])
        columns = slice(int(todo[0]), int(todo[-1]) + 1)
        self._something[row, columns] = self._background.holds_something(cells)
        self._known[row, columns] = True


def _in_squares(numbers: NDArray[np.int32], edge: int) -> NDArray[np.int32]:
    """Return the sums over squares of `edge` numbers a side, (n, h, w, C) → (n, h / edge, w / edge, C)."""
    n, height, width, channels = numbers.shape
    rows = numbers.reshape(n, height // edge, edge, width, channels).sum(axis=2, dtype=np.int32)
    squares = rows.reshape(n, height // edge, width // edge, edge, channels)
    sums: NDArray[np.int32] = squares.sum(axis=3, dtype=np.int32)
    return sums


def _in_steps(pixels: NDArray[np.generic], scaling: Scaling) -> NDArray[np.int32]:
    steps: NDArray[np.int32] = np.rint(scaling.apply(pixels) * np.float32(STEPS)).astype(np.int32)
    return steps
