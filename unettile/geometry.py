"""Geometry: which window sizes a network takes, what it loses at the border, and on what grid it may be moved.

A network maps a window of input edge n to an output of edge n - 2·margin. Moving the window by a multiple of the
*stride* moves the output by exactly as much; any other shift changes the phase of the poolings and so the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.errors import UsageError

Forward = Callable[[NDArray[np.float32]], NDArray[np.float32]]


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


def measure_geometry(forward: Forward, channels: int, *, largest: int = 1024) -> Geometry:
    """Measure a network's geometry by looking at what it does, without trusting what it says.

    1. Feed windows of every size and keep those that the network takes: they give stride, base and the border lost.
    2. Set one input pixel to NaN, which travels through convolution, ReLU and pooling alike, and see which output
       pixels it reaches. Doing so for each pixel of two periods gives the reach and the true period of the phase.

    Args:
        forward: maps (C, H, W) float32 to (K, h, w) float32, on the CPU; raises ValueError or RuntimeError for a
            size that the network does not take.
        channels: C.
        largest: the largest window tried, px.

    Returns:
        The geometry. `exact` is False if a pixel still reaches the output's border in the largest window tried.

    Raises:
        ValueError: fewer than three window sizes up to `largest` were taken, or what was seen follows no such law.
    """
    sizes = _legal_sizes(forward, channels, largest)
    (n0, m0), (n1, m1), (n2, m2) = sizes
    step = n1 - n0
    if not (n2 - n1 == step == m1 - m0 == m2 - m1) or (n0 - m0) % 2:
        raise ValueError(f"window sizes {n0}, {n1}, {n2} give outputs {m0}, {m1}, {m2}: no geometry fits")
    lost = (n0 - m0) // 2

    edge = n0
    while True:
        edge += 4 * step
        reached = [_reached(forward, channels, edge, edge // 2 + shift) for shift in range(2 * step)]
        bounded = all(low > 0 and high < edge - 2 * lost for low, high in reached)
        if bounded or 2 * edge > largest:
            break
    if not bounded:
        return Geometry(margin=lost, stride=step, base=m0 % step, exact=False)
    stride = step
    if not _repeats(reached, stride):
        raise ValueError(f"what an input pixel reaches does not repeat every {step} px")
    margin = lost + _polluted(reached[:stride], edge // 2, edge, edge - 2 * lost)
    return Geometry(margin=margin, stride=stride, base=(m0 + 2 * (lost - margin)) % stride)


def _legal_sizes(forward: Forward, channels: int, largest: int) -> list[tuple[int, int]]:
    """Return the first three (input edge, output edge) that the network takes with at least one output pixel."""
    found: list[tuple[int, int]] = []
    for edge in range(1, largest + 1):
        try:
            output = forward(np.zeros((channels, edge, edge), np.float32))
        except (ValueError, RuntimeError):
            continue
        if output.shape[-1] > 0:
            found.append((edge, output.shape[-1]))
        if len(found) == 3:
            return found
    raise ValueError(f"the network took fewer than three window sizes up to {largest} px")


def _reached(forward: Forward, channels: int, edge: int, pixel: int) -> tuple[int, int]:
    """Return the half-open range of output rows that the input pixel (pixel, pixel) reaches."""
    window = np.zeros((channels, edge, edge), np.float32)
    window[:, pixel, pixel] = np.nan
    hit: NDArray[np.bool_] = np.any(np.isnan(forward(window)), axis=0)
    rows, columns = np.flatnonzero(np.any(hit, axis=1)), np.flatnonzero(np.any(hit, axis=0))
    if not len(rows):
        raise ValueError(f"input pixel {pixel} of a window of {edge} px reaches no output")
    return int(min(rows[0], columns[0])), int(max(rows[-1], columns[-1])) + 1


def _repeats(reached: list[tuple[int, int]], shift: int) -> bool:
    """Whether moving the input pixel by `shift` moves everything it reaches by `shift`."""
    pairs = zip(reached, reached[shift:], strict=False)
    return all((later[0] - shift, later[1] - shift) == earlier for earlier, later in pairs)


def _polluted(reached: list[tuple[int, int]], first: int, edge: int, output_edge: int) -> int:
    """Return how many border px of the output see past the window (padding), rounded up to whole strides.

    Args:
        reached: output range [low, high) of each input pixel of one stride, from pixel `first` on.
        first: the input pixel of reached[0].
        edge, output_edge: of the window that was measured, px.
    """
    stride = len(reached)

    def inputs_of(output: int) -> tuple[int, int]:
        """Return the first and last input pixel that the output depends on, were the window endless."""
        lowest = min(first + i + ((output - high) // stride + 1) * stride for i, (_, high) in enumerate(reached))
        highest = max(first + i + (output - low) // stride * stride for i, (low, _) in enumerate(reached))
        return lowest, highest

    for cut in range(0, output_edge // 2, stride):
        starts = (inputs_of(cut + phase)[0] for phase in range(stride))
        ends = (inputs_of(output_edge - 1 - cut - phase)[1] for phase in range(stride))
        if min(starts) >= 0 and max(ends) < edge:
            return cut
    raise ValueError(f"every output of a window of {edge} px sees past the window")
