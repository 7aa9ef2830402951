"""Plane: which plane of a stack objects are in, as files of several planes say it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

COLUMNS = {"t": "time", "z": "z"}
"""Names of the columns that tell planes apart, in their order."""


@dataclass(frozen=True)
class Plane:
    """A plane of the image that a mask is of.

    Args:
        t, z: point in time and plane in depth, counted from 0; None where nothing is known of any.
        axes: "t", "z" or both: along which the mask has several planes; none for a single image.
    """

    t: int | None = None
    z: int | None = None
    axes: tuple[str, ...] = ()

    @property
    def numbers(self) -> dict[str, int]:
        """What the columns say that tell the planes of a stack apart; of a single image there are none."""
        at = {"t": self.t, "z": self.z}
        return {COLUMNS[axis]: at[axis] or 0 for axis in self.axes}

    @property
    def suffix(self) -> str:
        """What tells the name of this plane from those of others.

        >>> Plane(1, 3, ("t", "z")).suffix, Plane().suffix
        ('_t0001_z0003', '')
        """
        return "".join(f"_{name[0]}{number:04d}" for name, number in self.numbers.items())

    def columns(self, count: int) -> dict[str, NDArray[Any]]:
        """Return these columns of `count` objects, (count,) int64 each."""
        return {name: np.full(count, number, np.int64) for name, number in self.numbers.items()}


SINGLE = Plane()
"""That of a mask that is a single image."""
