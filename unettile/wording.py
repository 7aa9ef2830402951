"""Wording: counts and sizes, said in one way everywhere."""

from __future__ import annotations


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return a count with its noun.

    Args:
        plural: of the noun; empty for its regular one.

    >>> counted(1, "file"), counted(0, "file"), counted(3, "class", "classes")
    ('1 file', '0 files', '3 classes')
    """
    return f"{count} {noun if count == 1 else plural or noun + 's'}"


def size_text(shape: tuple[int, int]) -> str:
    """Return the size of an image, height before width, as coordinates are (y, x) everywhere.

    >>> size_text((480, 640))
    '480 × 640 px'
    """
    return f"{shape[0]} × {shape[1]} px"
