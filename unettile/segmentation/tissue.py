"""Tissue: where an image is not background, decided cell by cell, so that every job decides alike what it sees.

1. The commonest intensity of each channel is taken for the background's: glass in bright field, darkness in
   fluorescence. It comes from the bounded sample from which the intensity scaling is measured.
2. Of each cell of 64 × 64 px, counted from the image's (0, 0), the mean difference from the background is taken: the
   image at a 64th of its resolution.
3. Otsu's threshold (1979) over the cells of the sample parts tissue from background.
4. A cell is worked on if it, or one of its eight neighbours, is tissue.

All sums are of whole numbers, so that neither the order of work nor the machine can change them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.images.normalize import Scaling, sample_boxes
from unettile.images.slide import Slide

CELL = 64
"""Edge of a cell, px."""

_SMOOTH = 9  # of 256 intensities: the commonest is looked for in a histogram that noise has not made ragged

Read = Callable[[Box], NDArray[np.generic]]


@dataclass(frozen=True)
class Background:
    """What tells background from tissue in one image.

    Args:
        levels: the background's intensity by channel, 0 … 255 over the range that the scaling calls 0 … 1.
        threshold: cells whose mean difference from it is larger are tissue.
    """

    levels: tuple[int, ...]
    threshold: int

    @classmethod
    def measure(cls, slide: Slide, scaling: Scaling) -> Background:
        """Return the background of an image, from a bounded sample that depends on the image alone.

        Raises:
            InputError: the image cannot be read.
        """
        samples = [_levels(slide.read(box), scaling) for box in sample_boxes(slide.shape)]
        kernel = np.ones(_SMOOTH, np.int64)
        common = []
        for channel in range(slide.channels):
            histogram = np.zeros(256, np.int64)
            for sample in samples:
                histogram += np.bincount(sample[..., channel].ravel(), minlength=256)
            common.append(int(np.argmax(np.convolve(histogram, kernel, mode="same"))))
        unset = cls(tuple(common), 0)
        means = np.concatenate([unset._means(sample).ravel() for sample in samples])
        return cls(tuple(common), _otsu(np.bincount(means, minlength=256)))

    def inside(self, box: Box, shape: tuple[int, int], scaling: Scaling, read: Read) -> NDArray[np.bool_]:
        """Return which pixels of a box lie in cells to be worked on, (h, w).

        Args:
            shape: of the image, px.
            read: gives the pixels (h, w, C) of a box.
        """
        first = (box.y0 // CELL - 1, box.x0 // CELL - 1)
        last = (-(-box.y1 // CELL) + 1, -(-box.x1 // CELL) + 1)
        tissue = np.zeros((last[0] - first[0], last[1] - first[1]), np.bool_)
        inner = Box(first[0] * CELL, first[1] * CELL, last[0] * CELL, last[1] * CELL).intersect(Box.of_shape(shape))
        column = inner.x0 // CELL - first[1]
        for y in range(inner.y0, inner.y1, CELL):  # a row of cells at once: little memory
            band = Box(y, inner.x0, min(y + CELL, inner.y1), inner.x1)
            means = self._means(_levels(read(band), scaling))[0]
            tissue[y // CELL - first[0], column : column + len(means)] = means > self.threshold
        near = np.zeros_like(tissue)
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                near |= np.roll(tissue, (dy, dx), (0, 1))  # what comes round from the other side is cut off below
        rows, columns = np.arange(box.y0, box.y1) // CELL, np.arange(box.x0, box.x1) // CELL
        return near[np.ix_(rows - first[0], columns - first[1])]

    def _means(self, levels: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Return the mean difference from the background of each cell, rounded down, from levels (h, w, C)."""
        background = np.array(self.levels, np.int16)
        difference = np.abs(levels.astype(np.int16) - background).max(axis=-1).astype(np.int64)
        rows, columns = (np.arange(0, length, CELL) for length in difference.shape)
        sums = np.add.reduceat(np.add.reduceat(difference, rows, axis=0), columns, axis=1)
        heights, widths = (
            np.diff([*starts.tolist(), length])
            for starts, length in zip((rows, columns), difference.shape, strict=True)
        )
        means: NDArray[np.int64] = sums // np.outer(heights, widths)
        return means

    def to_dict(self) -> dict[str, Any]:
        return {"levels": list(self.levels), "threshold": self.threshold, "cell": CELL}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Background:
        return cls(tuple(int(level) for level in values["levels"]), int(values["threshold"]))


def _levels(pixels: NDArray[np.generic], scaling: Scaling) -> NDArray[np.uint8]:
    levels: NDArray[np.uint8] = np.clip(scaling.apply(pixels) * np.float32(255), 0, 255).astype(np.uint8)
    return levels


def _otsu(histogram: NDArray[np.intp]) -> int:
    """Return the number that parts a histogram so that the two parts differ most between them; 0 where it has one bar.

    Source: Otsu, A threshold selection method from gray-level histograms, 1979, equation 18 times the total squared.
    """
    counts = [int(count) for count in histogram]
    total, weighted = sum(counts), sum(level * count for level, count in enumerate(counts))
    best, best_level, below, below_weighted = 0.0, 0, 0, 0
    for level, count in enumerate(counts):
        below += count
        below_weighted += level * count
        if 0 < below < total:
            spread = (weighted * below - below_weighted * total) ** 2 / (below * (total - below))
            if spread > best:
                best, best_level = spread, level
    return best_level
