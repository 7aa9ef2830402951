"""Object size: how large the objects are that a model knows, as circles of their areas."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class ObjectSize:
    """Diameters 2·√(area / π), px of what the network sees; an object counts as much as it has pixels.

    Args:
        median: half of all pixels of objects lie in objects that are no larger.
        low, high: the same for a twentieth of them, and for all but a twentieth: the range that the model knows.

    Raises:
        ValueError: no sizes in this order above 0.

    >>> ObjectSize(28.0, 12.5, 55.0).fits(45.0)
    True
    """

    median: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.median <= self.high < math.inf:
            raise ValueError(f"need sizes 0 < low <= median <= high, got {self.low}, {self.median} and {self.high}")

    def fits(self, diameter: float) -> bool:
        """Whether the model knows objects of that diameter, px."""
        return self.low <= diameter <= self.high

    def to_dict(self) -> dict[str, float]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ObjectSize:
        return cls(float(values["median"]), float(values["low"]), float(values["high"]))
