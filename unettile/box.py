"""Box: a half-open rectangle of pixels."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Box:
    """A half-open rectangle in level-0 pixels: rows y0 … y1 - 1, columns x0 … x1 - 1.

    Coordinates may be negative or lie past the image: a window at the image's edge reads mirrored pixels there.

    Raises:
        ValueError: an end lies before its start.

    >>> Box(0, 0, 4, 6).expand(1)
    Box(y0=-1, x0=-1, y1=5, x1=7)
    """

    y0: int
    x0: int
    y1: int
    x1: int

    def __post_init__(self) -> None:
        if self.y1 < self.y0 or self.x1 < self.x0:
            raise ValueError(f"a box must not end before it starts: {self}")

    @classmethod
    def of_shape(cls, shape: tuple[int, int]) -> Box:
        """Return the box of a whole image of shape (H, W)."""
        return cls(0, 0, shape[0], shape[1])

    @property
    def height(self) -> int:
        return self.y1 - self.y0

    @property
    def width(self) -> int:
        return self.x1 - self.x0

    @property
    def shape(self) -> tuple[int, int]:
        return self.height, self.width

    @property
    def area(self) -> int:
        return self.height * self.width

    @property
    def is_empty(self) -> bool:
        return self.area == 0

    @property
    def slices(self) -> tuple[slice, slice]:
        """Return the index of this box in an array whose first two axes are y and x (coordinates must be ≥ 0)."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    def pieces(self, edge: int, most: int) -> list[Box]:
        """Return squares of `edge` px that cover it, cut at its ends: at most so many, spread evenly.

        >>> [piece.x0 for piece in Box(0, 0, 10, 100).pieces(10, 3)]
        [0, 30, 60]
        """
        boxes = [
            Box(y, x, y + edge, x + edge).intersect(self)
            for y in range(self.y0, self.y1, edge)
            for x in range(self.x0, self.x1, edge)
        ]
        count = min(len(boxes), most)
        return [boxes[index * len(boxes) // count] for index in range(count)]

    def intersect(self, other: Box) -> Box:
        """Return the common part; an empty box if there is none."""
        y0, x0 = max(self.y0, other.y0), max(self.x0, other.x0)
        return Box(y0, x0, max(y0, min(self.y1, other.y1)), max(x0, min(self.x1, other.x1)))

    def expand(self, margin: int) -> Box:
        """Return the box grown by `margin` px on all four sides."""
        return Box(self.y0 - margin, self.x0 - margin, self.y1 + margin, self.x1 + margin)

    def shift(self, dy: int, dx: int) -> Box:
        return Box(self.y0 + dy, self.x0 + dx, self.y1 + dy, self.x1 + dx)

    def contains(self, other: Box) -> bool:
        return self.y0 <= other.y0 and self.x0 <= other.x0 and other.y1 <= self.y1 and other.x1 <= self.x1

    def relative_to(self, origin: Box) -> Box:
        """Return this box in the frame whose (0, 0) is the first pixel of `origin`."""
        return self.shift(-origin.y0, -origin.x0)
