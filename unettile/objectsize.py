"""Object size: how large the objects are that a model knows, as circles of their areas."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

_BEST = 1.25  # times the median; measured on images of four sources with both shipped models: see docs/sizes.md
_SMALL, _LARGE = 0.8, 1.5


@dataclass(frozen=True)
class ObjectSize:
    """Diameters 2·√(area / π), px of what the network sees; an object counts as much as it has pixels.

    Args:
        median: half of all pixels of objects lie in objects that are no larger.
        low, high: the same for a twentieth of them, and for all but a twentieth: the range that the model knows.

    Raises:
        ValueError: no sizes in this order above 0.

    >>> size = ObjectSize(28.0, 12.5, 55.0)
    >>> size.fits(22.0), size.fits(40.0), size.fits(45.0), size.best
    (False, True, False, 35.0)
    """

    median: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.median <= self.high < math.inf:
            raise ValueError(f"need sizes 0 < low <= median <= high, got {self.low}, {self.median} and {self.high}")

    @property
    def best(self) -> float:
        """The diameter, px, that objects are brought to: above the median, where outlines are drawn more finely."""
        return min(_BEST * self.median, self.high)

    def fits(self, diameter: float) -> bool:
        """Whether objects of that diameter, px, are best left as they are: known, and neither small nor large."""
        return max(self.low, _SMALL * self.median) <= diameter <= min(_LARGE * self.median, self.high)

    def to_dict(self) -> dict[str, float]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ObjectSize:
        return cls(float(values["median"]), float(values["low"]), float(values["high"]))
