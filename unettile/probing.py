"""Probing: a network's geometry, measured by looking at what it does, without trusting what it says.

    rows of the window      0 ......... a ............................... n
                            NaN NaN NaN |  zeros
    rows of the output      dirty dirty dirty dirty | clean ............. h
                                                   c(a)

A NaN travels through convolution, activation, pooling, upsampling and batch norm alike. Rows of NaN therefore show how
far the rows below them look up, which is as far as a network looks past the upper edge of its window. Windows are
strips, as narrow as the network takes them, so that long ones are cheap; both axes are probed, from both ends.

1. Feed windows of every size; those that the network takes give the step between sizes and the border lost.
2. Lengthen the strip until some rows stay clean; where none ever do, the network looks at all of its window.
3. c(a + s) = c(a) + s for all a holds for the stride s and its multiples, and noise confirms it: shifted by s, the
   output shifts by s.
4. What stays dirty at either end of either axis is the margin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unettile.geometry import Geometry

Forward = Callable[[NDArray[np.float32]], NDArray[np.float32]]

LARGEST = 4096  # px: of a strip
_FEWEST_PHASES = 16  # a network that takes windows of any size is looked at for so many, px
_LARGEST_STRIDE = 256
_TOLERANCE = 1e-3  # of the largest output: what float32 kernels chosen by size may differ by, and no phase would


@dataclass(frozen=True)
class Measurement:
    """What was seen.

    Args:
        geometry: `exact` is False if the network looks at all of the largest strip tried; its margin is then only
            what windows lose.
        receptive_field: px, the edge of the largest square on which one output pixel depends; None if not exact.
    """

    geometry: Geometry
    receptive_field: int | None


def measure_geometry(forward: Forward, channels: int, *, largest: int = LARGEST) -> Measurement:
    """Measure a network's geometry.

    Args:
        forward: maps (C, H, W) float32 to (K, h, w) float32, on the CPU; raises ValueError or RuntimeError for a
            size that the network does not take.
        channels: C.
        largest: the longest strip tried, px.

    Raises:
        ValueError: fewer than three window sizes up to 1024 px were taken, or what was seen follows no such law.
    """
    (n0, m0), (n1, m1), (n2, m2) = _legal_sizes(forward, channels)
    step = n1 - n0
    if not (n2 - n1 == step == m1 - m0 == m2 - m1) or (n0 - m0) % 2:
        raise ValueError(f"window sizes {n0}, {n1}, {n2} give outputs {m0}, {m1}, {m2}: no geometry fits")
    lost = (n0 - m0) // 2
    strips = [_Strip(forward, channels, n0, lost, axis, far) for axis in (0, 1) for far in (False, True)]
    length, most = n0 + 8 * step, n0 + (largest - n0) // step * step
    while not all(strip.is_bounded(length, step) for strip in strips):
        if length >= most:
            return Measurement(Geometry(lost, step, m0 % step, exact=False), None)
        length = min(most, n0 + 2 * (length - n0))
    stride = _stride(strips, length, step)
    cut = max(0, *(strip.dirty(length, stride) - stride for strip in strips))
    margin = lost + -(-cut // stride) * stride
    aligned = 0 if n0 % step == 0 else n0  # where sizes between strides are taken, those on the stride are used
    base = (aligned - 2 * margin) % stride
    return Measurement(Geometry(margin, stride, base), _receptive_field(strips, length, stride, lost))


@dataclass(frozen=True)
class _Strip:
    """Windows of `width` px across and any length along an axis, with NaN at the near end of it or at the far one."""

    forward: Forward
    channels: int
    width: int
    lost: int
    axis: int
    far: bool

    def dirty(self, length: int, rows: int) -> int:
        """Return how many output rows, from the end with `rows` of NaN on, are needed to cover all that turn NaN."""
        window = np.zeros((self.channels, length, self.width), np.float32)
        window[:, length - rows :] = np.nan if self.far else 0
        window[:, :rows] = 0 if self.far else np.nan
        hit: NDArray[np.bool_] = np.any(np.isnan(self._run(window)), axis=(0, 2))
        if self.far:
            hit = hit[::-1]
        found = np.flatnonzero(hit)
        return int(found[-1]) + 1 if len(found) else 0

    def is_bounded(self, length: int, step: int) -> bool:
        """Whether some rows stay clean when a whole step of rows is NaN, and for every phase of the next."""
        return self.dirty(length, 2 * step) < length - 2 * self.lost - 2 * step

    def shifts(self, length: int, stride: int) -> bool:
        """Whether noise, moved by `stride`, moves the output by as much, away from the ends."""
        noise = np.random.default_rng(0).random((self.channels, length + stride, self.width), np.float32)
        first, second = self._run(noise[:, :length]), self._run(noise[:, stride:])
        away = max(0, self.dirty(length, stride))
        ours, theirs = first[:, stride + away : -away or None], second[:, away : -away - stride]
        return bool(np.abs(ours - theirs).max(initial=0) <= _TOLERANCE * np.abs(first).max())

    def _run(self, window: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the output with the strip's length along its second axis."""
        if self.axis == 0:
            return self.forward(window)
        return self.forward(np.ascontiguousarray(window.swapaxes(1, 2))).swapaxes(1, 2)


def _stride(strips: list[_Strip], length: int, step: int) -> int:
    stride = step
    while stride <= _LARGEST_STRIDE:
        long = length + -(-(_FEWEST_PHASES + 2 * stride) // step) * step
        phases = range(stride, 2 * stride + max(0, _FEWEST_PHASES - stride))
        if all(s.dirty(long, a + stride) == s.dirty(long, a) + stride for s in strips for a in phases) and all(
            s.shifts(_multiple(2 * long, stride, length), stride) for s in strips
        ):
            return stride
        stride *= 2
    raise ValueError(f"what a row of the window reaches does not repeat within {_LARGEST_STRIDE} px")


def _multiple(length: int, stride: int, legal: int) -> int:
    """Return a length, at least `length`, that differs from a legal one by whole strides."""
    return legal + -(-(length - legal) // stride) * stride


def _receptive_field(strips: list[_Strip], length: int, stride: int, lost: int) -> int:
    """Return the largest distance between the first and the last row on which one output row depends, plus one."""
    fields = []
    for near, far in ((strips[0], strips[1]), (strips[2], strips[3])):
        long = _multiple(length + 2 * stride, stride, length)
        height = long - 2 * lost
        # row o of the output is dirty with the first a rows NaN if o < dirty(a): the least such a ends at its low row
        from_near = {a: near.dirty(long, a) for a in range(stride, 2 * stride)}
        from_far = {a: far.dirty(long, a) for a in range(stride, 2 * stride)}
        for row in range(stride):
            low = min(a - 1 + -(-(row + 1 - c) // stride) * stride for a, c in from_near.items())
            mirrored = height - 1 - row
            high = max(long - a - -(-(mirrored + 1 - c) // stride) * stride for a, c in from_far.items())
            fields.append(high - low + 1)
    return max(fields)


def _legal_sizes(forward: Forward, channels: int, largest: int = 1024) -> list[tuple[int, int]]:
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
