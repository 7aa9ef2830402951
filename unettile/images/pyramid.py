"""Pyramid: the levels of a canvas, each half the one below, made in one pass over the pixels.

    level 3                 tile              The pixels are read in pieces of 2ᵖ × 2ᵖ tiles (here p = 2); each gives
                       /    |   |    \\       its part of the levels 0 … p at once. Four tiles of level p become one of
    levels 0 … 2    piece piece piece piece   level p + 1, and so on, depth first.

Of each level only the tile in work is kept: memory grows with the number of levels, not with the image.

Level n has ceil(H / 2ⁿ) × ceil(W / 2ⁿ) px; the last one fits into a tile. At an odd edge the last row or column counts
twice. What comes in which order depends on the canvas alone.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.images.canvas import PIECE_BYTES, TILE_EDGE, Canvas, Reader

Part = tuple[int, Box, NDArray[Any]]
"""A level, a box in its pixels that starts on a tile, and the pixels (C, h, w)."""


class Pyramid:
    """The levels of a canvas.

    Args:
        canvas: what is written; one without a pyramid has level 0 alone.
        least: levels that a pyramid has in any case.
    """

    def __init__(self, canvas: Canvas, least: int = 1) -> None:
        self._canvas = canvas
        self.shapes = [canvas.shape]
        while canvas.has_pyramid and (max(self.shapes[-1]) > TILE_EDGE or len(self.shapes) < least):
            self.shapes.append((-(-self.shapes[-1][0] // 2), -(-self.shapes[-1][1] // 2)))
        tile_bytes = canvas.channels * TILE_EDGE**2 * canvas.dtype.itemsize
        self._depth = 0  # levels that a piece reaches above 0
        while self._depth + 1 < len(self.shapes) and tile_bytes * 4 ** (self._depth + 1) <= PIECE_BYTES:
            self._depth += 1

    def part_edge(self, level: int) -> int:
        """Return the edge of the boxes of a level, px; those at the end of the level may be smaller."""
        return TILE_EDGE << max(0, self._depth - level)

    def stream(self, read: Reader) -> Iterator[Part]:
        """Yield every level, part by part; each pixel is read once."""
        if self._canvas.has_pyramid:
            yield from self._grow(read, len(self.shapes) - 1, 0, 0)
        else:
            yield from self._bands(read)

    def _grow(self, read: Reader, level: int, row: int, column: int) -> Generator[Part, None, NDArray[Any]]:
        """Yield one tile of a level, at or above the pieces' own, after all below it; return its pixels."""
        edge = self.part_edge(level)
        box = Box(row * edge, column * edge, (row + 1) * edge, (column + 1) * edge)
        box = box.intersect(Box.of_shape(self.shapes[level]))
        if level == self._depth:
            return (yield from self._piece(read, row, column))
        pixels = np.empty((self._canvas.channels, *box.shape), self._canvas.dtype)
        below = Box.of_shape(self.shapes[level - 1])
        for y, x in ((0, 0), (0, 1), (1, 0), (1, 1)):
            if (2 * row + y) * edge < below.y1 and (2 * column + x) * edge < below.x1:
                part = self._reduced((yield from self._grow(read, level - 1, 2 * row + y, 2 * column + x)))
                top, left = y * edge // 2, x * edge // 2
                pixels[:, top : top + part.shape[1], left : left + part.shape[2]] = part
        yield level, box, pixels
        return pixels

    def _piece(self, read: Reader, row: int, column: int) -> Generator[Part, None, NDArray[Any]]:
        """Read a piece, and yield what it holds of the levels up to the one where it is a single tile."""
        edge = TILE_EDGE << self._depth
        box = Box(row * edge, column * edge, (row + 1) * edge, (column + 1) * edge)
        box = box.intersect(Box.of_shape(self._canvas.shape))
        pixels = self._canvas.read(read, box)
        yield 0, box, pixels
        for level in range(1, self._depth + 1):
            pixels = self._reduced(pixels)
            y0, x0 = box.y0 >> level, box.x0 >> level
            yield level, Box(y0, x0, y0 + pixels.shape[1], x0 + pixels.shape[2]), pixels
        return pixels

    def _bands(self, read: Reader) -> Iterator[Part]:
        """Yield level 0 from top to bottom, in rows of tiles that are cut where they would be too large."""
        canvas = self._canvas
        height, width = canvas.shape
        step = max(1, PIECE_BYTES // (canvas.channels * TILE_EDGE**2 * canvas.dtype.itemsize)) * TILE_EDGE
        for y in range(0, height, TILE_EDGE):
            for x in range(0, width, step):
                box = Box(y, x, min(y + TILE_EDGE, height), min(x + step, width))
                yield 0, box, canvas.read(read, box)

    def _reduced(self, pixels: NDArray[Any]) -> NDArray[Any]:
        parts = []
        for layer in self._canvas.layers:
            planes = pixels[self._canvas.planes(layer)]
            parts.append(majority(planes) if layer.reduction == "majority" else mean(planes))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def majority(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return half the size, (…, ceil(h / 2), ceil(w / 2)): of each 2 × 2 pixels the number that occurs most often.

    Of numbers that occur equally often it is the one that comes first, row by row. That favours no class: the smallest
    number would shrink objects from level to level, the largest would swell them, and taking every second pixel would
    keep single wrong ones.

    >>> majority(np.array([[1, 0, 3, 3, 5], [0, 0, 4, 4, 5]]))
    array([[0, 3, 5]])
    """
    from unettile.images.halving import put_majority  # numba takes its time to be imported

    height, width = pixels.shape[-2:]
    out = np.empty((*pixels.shape[:-2], -(-height // 2), -(-width // 2)), pixels.dtype)
    planes, bits = np.ascontiguousarray(pixels).reshape(-1, height, width), f"u{pixels.itemsize}"
    put_majority(planes.view(bits), out.reshape(-1, *out.shape[-2:]).view(bits))
    return out


def mean(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return half the size, (…, ceil(h / 2), ceil(w / 2)): the mean of each 2 × 2 pixels, halves of integers up.

    >>> mean(np.array([[1, 2, 9], [2, 1, 8]], np.uint8))
    array([[2, 9]], dtype=uint8)
    """
    wide = np.float64 if pixels.dtype.kind == "f" else np.dtype(f"u{2 * pixels.dtype.itemsize}")
    a, b, c, d = _quarters(pixels)
    total = a.astype(wide)
    for quarter in (b, c, d):
        total += quarter
    return (total / 4 if pixels.dtype.kind == "f" else (total + 2) >> 2).astype(pixels.dtype)


def _quarters(pixels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return upper left, upper right, lower left and lower right of each 2 × 2 pixels."""
    height, width = pixels.shape[-2:]
    if height % 2 or width % 2:
        pixels = np.pad(pixels, [(0, 0)] * (pixels.ndim - 2) + [(0, height % 2), (0, width % 2)], mode="edge")
    return tuple(np.ascontiguousarray(pixels[..., y::2, x::2]) for y in (0, 1) for x in (0, 1))  # type: ignore[return-value]
