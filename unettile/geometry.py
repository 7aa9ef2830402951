"""Geometry: which window sizes a network takes, what it loses at the border, and on what grid it may be moved.

A network maps a window of input edge n to an output of edge n - 2·margin. Moving the window by a multiple of the
*stride* moves the output by exactly as much; any other shift changes the phase of the poolings and so the answer.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from unettile.errors import UsageError


@dataclass(frozen=True)
class Geometry:
    """The shape law of one network.

    Args:
        margin: px that a window has more than its output, on each side.
        stride: px; window origins are multiples of it. A power of two for networks that pool 2×2.
        base: legal output edges are base + stride·k, k ≥ 1, with 0 ≤ base < stride.
        exact: no output pixel depends on input pixels outside its margin, so that tiling cannot change it.

    Raises:
        ValueError: a figure is out of its range.

    >>> Geometry(margin=92, stride=16, base=4).write_edge(388)
    384
    """

    margin: int
    stride: int
    base: int
    exact: bool = True

    def __post_init__(self) -> None:
        if self.margin < 0 or self.stride < 1 or not 0 <= self.base < self.stride:
            raise ValueError(f"need margin >= 0, stride >= 1 and 0 <= base < stride, got {self}")

    def input_edge(self, output_edge: int) -> int:
        """Return the window's edge, in px, for a legal output edge."""
        return output_edge + 2 * self.margin

    def write_edge(self, output_edge: int) -> int:
        """Return how much of the output is written: the largest multiple of the stride in it (384 of 388)."""
        return output_edge // self.stride * self.stride

    def is_legal(self, output_edge: int) -> bool:
        return output_edge > self.base and (output_edge - self.base) % self.stride == 0

    def smallest_output_edge(self, length: int) -> int:
        """Return the smallest legal output edge that writes at least `length` px at once."""
        return self.base + self.stride * max(1, -(-length // self.stride))

    def check_output_edge(self, output_edge: int) -> None:
        """Refuse an output edge that the network cannot produce.

        Raises:
            UsageError: names the nearest legal edges.
        """
        if self.is_legal(output_edge):
            return
        below = self.base + (output_edge - self.base) // self.stride * self.stride
        nearest = [edge for edge in (below, below + self.stride) if edge > self.base]
        use = " or ".join(str(edge) for edge in nearest) if nearest else str(self.base + self.stride)
        law = f"{self.base} + {self.stride}k" if self.base else f"{self.stride}k"
        raise UsageError(f"tile edge {output_edge} does not fit this network: need {law}; use {use}")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Geometry:
        return cls(int(values["margin"]), int(values["stride"]), int(values["base"]), bool(values["exact"]))
