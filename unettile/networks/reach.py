"""Reach: how far a network looks, by integer arithmetic from its output back to its input."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Reach:
    """Rows low … high (both included) of a feature map on which some rows of the output depend.

    Begin with the rows of one period of the output, call the method of each layer in the reverse of their order, and
    what is left are rows of the image. Layers are meant as padded: row 0 of each map lies on row 0 of the image.

    >>> Reach(0, 1).conv(3).nearest().conv(3).pool()  # a pooled level of one convolution, and one above it
    Reach(low=-4, high=5)
    """

    low: int
    high: int

    def conv(self, kernel: int, *, stride: int = 1, dilation: int = 1) -> Reach:
        """Pass a convolution of odd kernel, padded by half of it."""
        first = self.low * stride - dilation * (kernel // 2)
        return Reach(first, self.high * stride + dilation * (kernel // 2))

    def pool(self) -> Reach:
        """Pass a 2×2 pooling."""
        return Reach(2 * self.low, 2 * self.high + 1)

    def nearest(self) -> Reach:
        """Pass nearest upsampling by 2, or a 2×2 transposed convolution of stride 2."""
        return Reach(self.low // 2, self.high // 2)

    def transposed(self, kernel: int) -> Reach:
        """Pass a transposed convolution of stride 2, padded by 1."""
        return Reach(-((kernel - 2 - self.low) // 2), (self.high + 1) // 2)

    def bilinear(self, factor: int = 2) -> Reach:
        """Pass bilinear upsampling by an even factor, its centres at half pixels."""
        return Reach((2 * self.low + 1 - factor) // (2 * factor), (2 * self.high + 1 - factor) // (2 * factor) + 1)

    def join(self, other: Reach) -> Reach:
        """Return what either of two branches reaches."""
        return Reach(min(self.low, other.low), max(self.high, other.high))


def margin_of(walk: Callable[[Reach], Reach], stride: int) -> int:
    """Return the px by which rows of the output look past themselves, rounded up to whole strides.

    Args:
        walk: from rows of the output to those of the image on which they depend.
    """
    reach = walk(Reach(0, stride - 1))
    return -(-max(-reach.low, reach.high - stride + 1) // stride) * stride


def receptive_field(walk: Callable[[Reach], Reach], stride: int) -> int:
    """Return the edge, px, of the largest square of the image on which one pixel of the output depends."""
    reaches = (walk(Reach(phase, phase)) for phase in range(stride))
    return max(reach.high - reach.low + 1 for reach in reaches)
