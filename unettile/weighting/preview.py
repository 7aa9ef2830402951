"""Preview: a picture of a weight map for the eye, cells in one colour, background from dark to bright."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.images.canvas import Canvas, Layer
from unettile.images.colours import Colour
from unettile.images.write_png import write_png

LONGEST_EDGE = 2048  # px; of a larger map, each pixel of the picture shows the highest weight of a square
CELL: Colour = (70, 100, 130)
RAMP: tuple[Colour, ...] = ((0, 0, 0), (60, 15, 90), (165, 35, 90), (240, 100, 35), (255, 200, 60), (255, 255, 220))


class Preview:
    """The picture of one map, gathered while the map is computed.

    Args:
        shape: of the map, (H, W).
        w0: the border term that is shown brightest.
        background: the weight that is shown black.
    """

    def __init__(self, shape: tuple[int, int], w0: float, background: float) -> None:
        self._step = math.ceil(max(shape) / LONGEST_EDGE)
        self._w0 = w0
        self._background = background
        self._picture = np.zeros((-(-shape[0] // self._step), -(-shape[1] // self._step)), np.uint8)

    def add(self, box: Box, labels: NDArray[Any], weights: NDArray[np.float32]) -> None:
        """Take in a part of the map, its labels and weights (h, w)."""
        share = (weights - np.float32(self._background)) / np.float32(self._w0 or 1)
        numbers = np.where(labels == 0, 1 + np.clip(254 * share, 0, 254), 0).astype(np.uint8)
        y, x = box.y0 // self._step, box.x0 // self._step
        highest = _highest(_highest(numbers, box.y0, self._step, 0), box.x0, self._step, 1)
        part = self._picture[y : y + highest.shape[0], x : x + highest.shape[1]]
        np.maximum(part, highest, out=part)

    def write(self, path: Path, metadata: dict[str, Any]) -> None:
        """Write the picture as a PNG, whatever the name.

        Args:
            metadata: what it says of itself.

        Raises:
            OSError: the destination cannot be written.
        """
        layer = Layer("preview", colours=(CELL, *_ramp(255)))
        canvas = Canvas((self._picture.shape[0], self._picture.shape[1]), (layer,), metadata=metadata)
        write_png(path, canvas, lambda box: self._picture[box.slices])


def _highest(numbers: NDArray[np.uint8], start: int, step: int, axis: int) -> NDArray[np.uint8]:
    """Return the highest of every `step` numbers along an axis, counted from the map's own edge."""
    if step == 1:
        return numbers
    firsts = np.arange(start - start % step, start + numbers.shape[axis], step) - start
    highest: NDArray[np.uint8] = np.maximum.reduceat(numbers, np.maximum(firsts, 0), axis=axis)
    return highest


def _ramp(count: int) -> tuple[Colour, ...]:
    places = np.linspace(0, len(RAMP) - 1, count)
    channels = [np.interp(places, range(len(RAMP)), [colour[c] for colour in RAMP]) for c in range(3)]
    return tuple((round(r), round(g), round(b)) for r, g, b in zip(*channels, strict=True))
