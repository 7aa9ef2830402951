"""Markers: what stands beside a block's pixels, and says which block of which plan they are."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.typed import Count, Sha256


@dataclass(frozen=True)
class Marker:
    """Of a finished block.

    Args:
        plan: id of the plan.
        block: index of the block.
        sha256: of its pixels.
    """

    plan: Sha256
    block: Count
    sha256: Sha256

    @classmethod
    def of(cls, plan: str, block: int, pixels: NDArray[np.uint8]) -> Marker:
        """Mark the pixels of a block, (P, h, w)."""
        return cls(plan, block, digest(pixels))

    def is_of(self, plan: str, block: int) -> bool:
        """Whether it marks that block of that plan."""
        return (self.plan, self.block) == (plan, block)

    def to_json(self) -> str:
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class PartHeader:
    """Of a block in work, whose pixels follow in the same file.

    Args:
        marker: of the pixels.
        tiles: how many tiles of the block are in them, the first ones.
    """

    marker: Marker
    tiles: Count

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def digest(pixels: NDArray[Any]) -> str:
    """Return the SHA-256 of pixels in the order of their axes."""
    return hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()
