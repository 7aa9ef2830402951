"""Spacing: how far apart the planes of a stack lie, and how much time passes from one point in time to the next."""

from __future__ import annotations

import math
from dataclasses import dataclass

from unettile.typed import Positive

MOST = 1e12
"""Nothing is further apart, in micrometres or seconds."""


@dataclass(frozen=True)
class Spacing:
    """What is known of the steps along depth and time; a change of the size of pixels changes neither.

    Args:
        z_um: from plane to plane, micrometres; None if unknown.
        time_s: from one point in time to the next, seconds; None if unknown.
    """

    z_um: Positive | None = None
    time_s: Positive | None = None

    @classmethod
    def of(cls, z_um: float | None = None, time_s: float | None = None) -> Spacing:
        """Return what a file states; what is no finite number above 0 is unknown.

        >>> Spacing.of(0.5, math.nan), Spacing.of(-1.0, 0.0)
        (Spacing(z_um=0.5, time_s=None), Spacing(z_um=None, time_s=None))
        """
        return cls(_known(z_um), _known(time_s))

    def or_else(self, other: Spacing) -> Spacing:
        """Return this, with what is unknown taken from another."""
        return Spacing(
            other.z_um if self.z_um is None else self.z_um, other.time_s if self.time_s is None else self.time_s
        )


UNKNOWN = Spacing()
"""Nothing is said."""


def _known(step: float | None) -> float | None:
    return float(step) if step is not None and math.isfinite(step) and 0.0 < step <= MOST else None
