"""Colours of palette images: reading them, and choosing them for classes."""

from __future__ import annotations

import colorsys
from typing import Any

import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]

_GOLDEN_TURN = 0.6180339887498949


def distinct_colours(count: int) -> tuple[Colour, ...]:
    """Return `count` colours for class indices: black for 0, then hues that differ from their neighbours.

    The hue turns by the golden ratio from class to class, so a class keeps its colour whatever `count` is.

    >>> distinct_colours(3)
    ((0, 0, 0), (255, 220, 51), (178, 89, 255))
    """
    colours: list[Colour] = [(0, 0, 0)]
    for index in range(1, count):
        hue = (0.52 + index * _GOLDEN_TURN) % 1.0
        red, green, blue = colorsys.hsv_to_rgb(hue, (0.8, 0.65)[(index + 1) % 2], 1.0)
        colours.append((round(red * 255), round(green * 255), round(blue * 255)))
    return tuple(colours[:count])


class ColourTable:
    """The colours that the numbers of a palette image stand for.

    Args:
        table: (N, 3) or (N, 4) uint8: red, green, blue and, where a colour is transparent, opacity.
    """

    def __init__(self, table: NDArray[np.uint8]) -> None:
        assert table.ndim == 2 and table.shape[1] in (3, 4) and table.dtype == np.uint8
        grey = table.shape[1] == 3 and bool((table == table[:, :1]).all())
        self._table = table[:, :1] if grey else table

    @property
    def channels(self) -> int:
        """Return 1 if all colours are greys, else 3, or 4 where some are transparent."""
        return int(self._table.shape[1])

    def apply(self, numbers: NDArray[Any]) -> NDArray[np.uint8]:
        """Return the colours (h, w, channels) of numbers (h, w, 1); a number past the table is black."""
        table = self._table
        missing = int(numbers.max(initial=0)) + 1 - len(table)
        if missing > 0:
            table = np.concatenate([table, np.zeros((missing, table.shape[1]), np.uint8)])
        colours: NDArray[np.uint8] = table[numbers[..., 0]]
        return colours
