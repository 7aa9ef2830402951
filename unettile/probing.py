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
   output shifts by s. More rows of NaN never make fewer dirty: between two equal c(a) all are equal, unprobed.
4. What stays dirty at either end of either axis is the margin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice, pairwise

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
        receptive_field: px, the edge of the largest square on which one output pixel depends; None if not exact, or
            not asked for.
    """

    geometry: Geometry
    receptive_field: int | None


def measure_geometry(forward: Forward, channels: int, *, largest: int = LARGEST, field: bool = False) -> Measurement:
    """Measure a network's geometry.

    Args:
        forward: maps (C, H, W) float32 to (K, h, w) float32, on the CPU; raises ValueError or RuntimeError for a
            size that the network does not take.
        channels: C.
        largest: the longest strip tried, px.
        field: measure the receptive field, too.

    Raises:
        ValueError: fewer than three window sizes up to 1024 px were taken, what was seen follows no such law,
            or what the network makes of noise between 0 and 1 is no number.
    """
    sizes = _measure_sizes(forward, channels)
    strips = [_Strip(forward, channels, sizes, axis, far) for axis in (0, 1) for far in (False, True)]
    length = sizes.at_least(sizes.first + 8 * sizes.step)
    while not all(strip.is_bounded(length) for strip in strips):
        if length >= largest:
            margin, base = sizes.lost, (sizes.first - 2 * sizes.lost) % sizes.step
            return Measurement(Geometry(margin, sizes.step, base, exact=False), None)
        length = sizes.at_least(min(2 * length, largest))
    stride, length = _stride(strips, sizes, length)
    cut = max(0, *(strip.dirty(length, stride) - stride for strip in strips))
    margin = sizes.lost + -(-cut // stride) * stride
    geometry = Geometry(margin, stride, base=(length - 2 * margin) % stride)
    return Measurement(geometry, _receptive_field(strips, length, geometry) if field else None)


@dataclass(frozen=True)
class _Sizes:
    """Windows that a network takes: `first` and every `step` px more; the output is `lost` px smaller on each side."""

    first: int
    step: int
    lost: int

    def at_least(self, length: int, stride: int = 1) -> int:
        """Return the smallest size of at least `length` px; where sizes lie on the stride, one on the stride."""
        base = 0 if self.first % self.step == 0 else self.first
        step = max(stride, self.step)
        return max(self.first, base + -(-(length - base) // step) * step)


@dataclass(frozen=True)
class _Strip:
    """Windows of `width` px across and any length along an axis, with NaN at the near end of it or at the far one."""

    forward: Forward
    channels: int
    sizes: _Sizes
    axis: int
    far: bool
    _known: dict[tuple[int, int], int] = field(default_factory=dict, init=False, compare=False)

    def dirty(self, length: int, rows: int) -> int:
        """Return how many output rows, from the end with `rows` of NaN on, are needed to cover all that turn NaN."""
        if (length, rows) not in self._known:
            self._known[length, rows] = self._probe(length, rows)
        return self._known[length, rows]

    def look(self, length: int, start: int, stop: int) -> None:
        """Learn `dirty` for all rows from start to stop, both included, by halving: it never falls."""
        if self.dirty(length, start) == self.dirty(length, stop):
            self._known.update({(length, rows): self._known[length, start] for rows in range(start, stop)})
        elif stop - start > 1:
            middle = (start + stop) // 2
            self.look(length, start, middle)
            self.look(length, middle, stop)

    def _probe(self, length: int, rows: int) -> int:
        window = np.zeros((self.channels, length, self.sizes.first), np.float32)
        if self.far:
            window[:, length - rows :] = np.nan
        else:
            window[:, :rows] = np.nan
        hit: NDArray[np.bool_] = np.any(np.isnan(self._run(window)), axis=(0, 2))
        if self.far:
            hit = hit[::-1]
        found = np.flatnonzero(hit)
        return int(found[-1]) + 1 if len(found) else 0

    def is_bounded(self, length: int) -> bool:
        """Whether some rows stay clean when two steps of rows are NaN."""
        return self.dirty(length, 2 * self.sizes.step) < length - 2 * self.sizes.lost - 2 * self.sizes.step

    def shifts(self, length: int, stride: int, away: int) -> bool:
        """Whether noise, moved by `stride`, moves the output by as much, `away` px and more from the ends."""
        noise = np.random.default_rng(0).random((self.channels, length + stride, self.sizes.first), np.float32)
        first, second = self._run(noise[:, :length]), self._run(noise[:, stride:])
        if not np.isfinite(first).all():
            raise ValueError("what it makes of intensities between 0 and 1 is NaN or infinite")
        ours, theirs = first[:, stride + away : -away or None], second[:, away : -away - stride]
        return bool(np.abs(ours - theirs).max(initial=0) <= _TOLERANCE * np.abs(first).max())

    def _run(self, window: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the output with the strip's length along its second axis."""
        if self.axis == 0:
            return self.forward(window)
        return self.forward(np.ascontiguousarray(window.swapaxes(1, 2))).swapaxes(1, 2)


def _stride(strips: list[_Strip], sizes: _Sizes, length: int) -> tuple[int, int]:
    """Return the stride, and the length of the strips in which it was seen."""
    stride = sizes.step
    while stride <= _LARGEST_STRIDE:
        long = sizes.at_least(length + _FEWEST_PHASES + 2 * stride, stride)
        if all(_repeats(strip, long, stride) for strip in strips) and all(
            strip.shifts(sizes.at_least(2 * long, stride), stride, max(s.dirty(long, stride) for s in strips))
            for strip in strips
            if not strip.far
        ):
            return stride, long
        stride *= 2
    raise ValueError(f"what a row of the window reaches does not repeat within {_LARGEST_STRIDE} px")


def _repeats(strip: _Strip, long: int, stride: int) -> bool:
    """Whether a stride more of NaN makes as many rows more dirty, from every phase on."""
    if strip.dirty(long, 2 * stride) != strip.dirty(long, stride) + stride:
        return False  # which most that are too small fail
    last = 2 * stride + max(0, _FEWEST_PHASES - stride) - 1
    strip.look(long, stride, last + stride)
    return all(strip.dirty(long, a + stride) == strip.dirty(long, a) + stride for a in range(stride, last + 1))


def _receptive_field(strips: list[_Strip], long: int, geometry: Geometry) -> int:
    """Return the largest distance between the first and the last row on which one output row depends, plus one."""
    stride = geometry.stride
    height = long - 2 * strips[0].sizes.lost
    fields = []
    for near, far in ((strips[0], strips[1]), (strips[2], strips[3])):
        # row o of the output is dirty with the first a rows NaN if o < dirty(a): the least such a ends at its low row
        from_near = {a: near.dirty(long, a) for a in range(stride, 2 * stride)}
        from_far = {a: far.dirty(long, a) for a in range(stride, 2 * stride)}
        for row in range(stride):
            low = min(a - 1 + -(-(row + 1 - c) // stride) * stride for a, c in from_near.items())
            mirrored = height - 1 - row
            high = max(long - a - -(-(mirrored + 1 - c) // stride) * stride for a, c in from_far.items())
            fields.append(high - low + 1)
    return max(fields)


def _measure_sizes(forward: Forward, channels: int, largest: int = 1024) -> _Sizes:
    """Find windows whose outputs follow a law: among all sizes, else among even ones, multiples of 4, and so on."""
    tried: dict[int, int] = {}  # window edge → output edge, 0 if it is not taken

    def output(edge: int) -> int:
        if edge not in tried:
            try:
                tried[edge] = forward(np.zeros((channels, edge, edge), np.float32)).shape[-1]
            except (ValueError, RuntimeError):
                tried[edge] = 0
        return tried[edge]

    for every in (1, 2, 4, 8, 16, 32, 64):
        found = list(islice((edge for edge in range(every, largest + 1, every) if output(edge)), 3))
        if len(found) < 3:
            raise ValueError(f"the network took fewer than three window sizes up to {largest} px")
        steps = {later - edge for edge, later in pairwise(found)}
        lost = {edge - output(edge) for edge in found}
        if len(steps) == len(lost) == 1 and (less := lost.pop()) % 2 == 0 and less >= 0:
            return _Sizes(found[0], steps.pop(), less // 2)
    raise ValueError(f"windows of {', '.join(f'{n} px give {m}' for n, m in tried.items() if m)}: no geometry fits")
