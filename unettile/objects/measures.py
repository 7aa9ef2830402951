"""Measures: which figures of objects are asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from unettile.errors import UsageError

MEASURES = ("basic", "shape", "intensity", "all")


@dataclass(frozen=True)
class Measures:
    """What is measured, beside area, place, perimeter, eccentricity and mean intensities.

    Args:
        shape: areas of hulls, axes, diameters, and the distance to the nearest neighbour.
        intensity: spread, order and sum of the values, and centroids that are weighted with them.
        percentiles: of the values, with `intensity`; from 0 to 100.

    Raises:
        UsageError: a percentile out of range, or twice.
    """

    shape: bool = False
    intensity: bool = False
    percentiles: tuple[float, ...] = (5.0, 95.0)

    def __post_init__(self) -> None:
        if any(not math.isfinite(one) or not 0 <= one <= 100 for one in self.percentiles):
            raise UsageError(f"--percentiles {_listed(self.percentiles)}: need numbers from 0 to 100, like 5,95")
        if len(set(self.percentiles)) < len(self.percentiles):
            raise UsageError(f"--percentiles {_listed(self.percentiles)}: need each number once")

    @classmethod
    def of(cls, name: str, percentiles: tuple[float, ...] = (5.0, 95.0)) -> Measures:
        """Return the measures of a name in MEASURES."""
        return cls(name in ("shape", "all"), name in ("intensity", "all"), percentiles)


def _listed(numbers: tuple[float, ...]) -> str:
    return ",".join(f"{number:g}" for number in numbers)


BASIC = Measures()
