"""Lettering: short texts in pictures, in letters of 5 × 7 px that need no font of the system."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 6, 9
"""Of a letter with the gap after it, and of a line with room for what hangs below."""

# Seven rows of five px and two below the line, as numbers of five bits.
_GLYPHS = {
    "0": (14, 17, 19, 21, 25, 17, 14, 0, 0),
    "1": (4, 12, 4, 4, 4, 4, 14, 0, 0),
    "2": (14, 17, 1, 2, 4, 8, 31, 0, 0),
    "3": (14, 17, 1, 6, 1, 17, 14, 0, 0),
    "4": (2, 6, 10, 18, 31, 2, 2, 0, 0),
    "5": (31, 16, 30, 1, 1, 17, 14, 0, 0),
    "6": (6, 8, 16, 30, 17, 17, 14, 0, 0),
    "7": (31, 1, 2, 4, 8, 8, 8, 0, 0),
    "8": (14, 17, 17, 14, 17, 17, 14, 0, 0),
    "9": (14, 17, 17, 15, 1, 2, 12, 0, 0),
    ".": (0, 0, 0, 0, 0, 12, 12, 0, 0),
    "a": (0, 0, 14, 1, 15, 17, 15, 0, 0),
    "b": (16, 16, 30, 17, 17, 17, 30, 0, 0),
    "c": (0, 0, 14, 16, 16, 17, 14, 0, 0),
    "d": (1, 1, 15, 17, 17, 17, 15, 0, 0),
    "e": (0, 0, 14, 17, 31, 16, 14, 0, 0),
    "g": (0, 0, 15, 17, 17, 17, 15, 1, 14),
    "i": (4, 0, 12, 4, 4, 4, 14, 0, 0),
    "l": (12, 4, 4, 4, 4, 4, 14, 0, 0),
    "m": (0, 0, 26, 21, 21, 21, 21, 0, 0),
    "n": (0, 0, 30, 17, 17, 17, 17, 0, 0),
    "o": (0, 0, 14, 17, 17, 17, 14, 0, 0),
    "p": (0, 0, 30, 17, 17, 17, 30, 16, 16),
    "r": (0, 0, 22, 25, 16, 16, 16, 0, 0),
    "s": (0, 0, 15, 16, 14, 1, 30, 0, 0),
    "t": (8, 8, 28, 8, 8, 9, 6, 0, 0),
    "x": (0, 0, 17, 10, 4, 10, 17, 0, 0),
}


def letter(
    picture: NDArray[np.uint8], text: str, place: tuple[int, int], scale: int, colour: NDArray[np.uint8]
) -> None:
    """Write a text into a picture (h, w, 3), in place; what does not fit is cut, what has no glyph is a gap.

    Args:
        place: upper left corner of the text, (y, x).
        scale: px of the picture that a px of a letter is.
        colour: (3,).
    """
    bits = np.zeros((HEIGHT, WIDTH * len(text)), np.bool_)
    for number, sign in enumerate(text):
        for row, value in enumerate(_GLYPHS.get(sign, ())):
            for column in range(5):
                bits[row, WIDTH * number + column] = value >> (4 - column) & 1
    drawn = bits.repeat(scale, axis=0).repeat(scale, axis=1)
    y, x = place
    there = picture[y : y + drawn.shape[0], x : x + drawn.shape[1]]
    there[drawn[: there.shape[0], : there.shape[1]]] = colour
