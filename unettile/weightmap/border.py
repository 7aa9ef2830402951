"""Border: the numbers that decide a weight map's second term, and how far away a label can matter to it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from unettile.errors import UsageError

TOLERANCE = 1e-8
"""Share of w0 below which the second term is taken as 0."""


@dataclass(frozen=True)
class Border:
    """Height and reach of the border term w0 · exp(-(d1 + d2)² / (2 · sigma²)).

    Args:
        w0: height, ≥ 0; 0 for no such term.
        sigma: reach, > 0, in the unit of `pixel_size`.
        pixel_size: height and width of a pixel, > 0; (1, 1) for a sigma in px.

    Raises:
        UsageError: a number out of range.

    >>> Border(10, 2.5, (0.5, 0.25)).reach  # rows and columns
    (30, 60)
    """

    w0: float = 10.0
    sigma: float = 5.0
    pixel_size: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.w0) and self.w0 >= 0):
            raise UsageError(f"w0 is {self.w0:g}: it is the height of the border term and must be 0 or more")
        if not (math.isfinite(self.sigma) and self.sigma > 0):
            raise UsageError(f"sigma is {self.sigma:g}: it is a distance and must be above 0")
        if len(self.pixel_size) != 2 or not all(math.isfinite(size) and size > 0 for size in self.pixel_size):
            raise UsageError(f"the pixel size is {self.pixel_size}: need a height and a width above 0")

    @property
    def cutoff(self) -> float:
        """d1 + d2 beyond which the term is below TOLERANCE · w0 and set to 0: sigma · √(2 ln 1e8), 6.07 sigma."""
        return self.sigma * math.sqrt(-2 * math.log(TOLERANCE))

    @property
    def reach(self) -> tuple[int, int]:
        """Rows and columns beyond which no label matters to a pixel."""
        height, width = self.pixel_size
        return int(self.cutoff / height), int(self.cutoff / width)


def reach(sigma: float) -> int:
    """Return the distance in px beyond which no label matters to a pixel, for a sigma in px.

    >>> reach(5)
    30
    """
    return Border(sigma=sigma).reach[0]
