"""A picture of bounded size: the image, or black, with every object in a colour."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.images.colours import distinct_colours
from unettile.images.normalize import Normalization
from unettile.images.slide import Slide
from unettile.objects.scan import OnProgress, Part

LONGEST = 2048
"""Longest side of the picture, px."""

TINT = 0.45  # share of the colour inside an object where an image lies below
READ_PIXELS = 2**22  # asked for at once


class Thumbnail:
    """Takes the object in the middle of every square of `factor` px; those at the image's end may be smaller.

    Args:
        shape: of the image.
    """

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self.factor = -(-max(shape) // LONGEST)
        self._rows, self._columns = (_middles(length, self.factor) for length in shape)
        self.ids = np.zeros((self._rows.size, self._columns.size), np.uint32)

    def see(self, part: Part) -> None:
        """Take those whose middles lie in a part."""
        box = part.box
        top, bottom = np.searchsorted(self._rows, (box.y0, box.y1))
        left, right = np.searchsorted(self._columns, (box.x0, box.x1))
        rows, columns = self._rows[top:bottom] - box.y0, self._columns[left:right] - box.x0
        self.ids[top:bottom, left:right] = part.inside[rows[:, None], columns[None, :]]


def draw_overlay(seen: Thumbnail, image: Slide | None, on_progress: OnProgress) -> NDArray[np.uint8]:
    """Return the picture, (h, w, 3) uint8; neither side is longer than LONGEST.

    A large image is reduced by a whole number: the mean of its pixels, and the object in the middle of them. Where
    nothing is reduced, outlines are drawn in the full colour.

    Raises:
        InputError: the image is damaged.
    """
    (height, width), factor = seen.shape, seen.factor
    rows = max(1, READ_PIXELS // (width * factor))
    scaling = None if image is None else Normalization().measure(image)
    table = np.array([(0, 0, 0), *distinct_colours(256)[1:]], np.uint8)
    drawn = np.zeros((*seen.ids.shape, 3), np.uint8)
    rims = rims_of(seen.ids) if factor == 1 and image is not None else None
    for top in range(0, drawn.shape[0], rows):
        box = Box(top * factor, 0, min((top + rows) * factor, height), width)
        ids = seen.ids[top : top + rows]
        kinds = (ids - np.uint32(1)) % np.uint32(len(table) - 1) + np.uint32(1)
        colours = np.take(table, np.where(ids > 0, kinds, np.uint32(0)), axis=0)
        if image is None or scaling is None:
            drawn[top : top + ids.shape[0]] = colours
        else:
            below = 255 * np.clip(three_channels(reduced(scaling.apply(image.read(box)), factor)), 0.0, 1.0)
            share = np.full(ids.shape, TINT, np.float32)
            if rims is not None:
                share[rims[top : top + rows]] = 1.0
            share[ids == 0] = 0.0
            mixed = below + (colours - below) * share[:, :, None]
            drawn[top : top + ids.shape[0]] = np.rint(mixed).astype(np.uint8)
        on_progress(box.y1 * width, height * width)
    return drawn


def write_overlay(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write the picture as PNG."""
    path.write_bytes(imagecodecs.png_encode(picture))


def _middles(length: int, factor: int) -> NDArray[np.intp]:
    """Return the middle of every `factor` places; of what is left at the end, its own middle."""
    starts = np.arange(0, length, factor)
    return (starts + np.minimum(starts + factor, length)) // 2


def reduced(pixels: NDArray[Any], factor: int) -> NDArray[np.float32]:
    """Return the means (h, w, C) of squares of `factor` px; those at the end may be smaller."""
    if factor == 1:
        return pixels.astype(np.float32)
    down, across = np.arange(0, pixels.shape[0], factor), np.arange(0, pixels.shape[1], factor)
    sums = np.add.reduceat(np.add.reduceat(pixels, down, axis=0), across, axis=1)
    counts = np.outer(np.diff([*down, pixels.shape[0]]), np.diff([*across, pixels.shape[1]]))
    means: NDArray[np.float32] = (sums / counts[:, :, None]).astype(np.float32)
    return means


def three_channels(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the first three channels, or the first one three times."""
    return pixels[:, :, :3] if pixels.shape[2] >= 3 else np.repeat(pixels[:, :, :1], 3, axis=2)


def rims_of(ids: NDArray[np.uint32]) -> NDArray[np.bool_]:
    """Return the pixels (h, w) of objects that have another id above, below, left or right of them."""
    rims = np.zeros(ids.shape, np.bool_)
    down, across = ids[1:] != ids[:-1], ids[:, 1:] != ids[:, :-1]
    rims[1:] |= down
    rims[:-1] |= down
    rims[:, 1:] |= across
    rims[:, :-1] |= across
    return rims & (ids > 0)
