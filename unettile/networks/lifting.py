"""Lifting: enlarging a feature map and convolving it, in one step.

A decoder enlarges what comes from below, joins it to what lies beside, and convolves both:

    conv(cat(beside, up(below)))  =  conv₁(beside) + conv₂(up(below))

Four pixels of the enlarged map are one, so a 3×3 convolution of it is a transposed convolution of the small map,
with 4×4 taps and stride 2, each tap a sum of the 3×3 ones. Nothing is enlarged in memory or copied together, and four
products are computed where there were nine. Sums are rounded elsewhere: the result is the same up to that.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

TAPS = torch.tensor([[0.0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]])
"""(4, 3): which of the 3 taps along an axis each of the 4 sums. Tap t adds input row i to output row 2i - 1 + t."""


class Joined(nn.Module):
    """Features beside others that are enlarged to twice the size by repeating pixels.

    Args:
        below: channels of these.
    """

    def __init__(self, below: int) -> None:
        super().__init__()
        self.channels = below
        self.up = nn.Upsample(scale_factor=2)

    def forward(self, beside: Tensor, below: Tensor) -> Tensor:
        """Return (N, C + C', 2h, 2w) of (N, C, 2h, 2w) and (N, C', h, w)."""
        return torch.cat([beside, self.up(below)], dim=1)


class Lifted(nn.Module):
    """What a convolution makes of `Joined` features.

    Args:
        conv: 3×3, of stride 1, padded by 1.
        below: how many of its input channels, the last ones, are enlarged.
    """

    def __init__(self, conv: nn.Conv2d, below: int) -> None:
        super().__init__()
        beside, o = conv.in_channels - below, conv.out_channels
        weight = conv.weight.detach()
        lifted = torch.einsum("oiyx,ty,ux->iotu", weight[:, beside:], TAPS, TAPS)
        self.beside = nn.Conv2d(beside, o, 3, padding=1)
        self.beside.weight, self.beside.bias = nn.Parameter(weight[:, :beside].contiguous()), conv.bias
        self.below = nn.ConvTranspose2d(below, o, 4, stride=2, padding=1, bias=False)
        self.below.weight = nn.Parameter(lifted.contiguous())

    def forward(self, beside: Tensor, below: Tensor) -> Tensor:
        """Return (N, o, 2h, 2w) of (N, C, 2h, 2w) and (N, C', h, w)."""
        convolved: Tensor = self.beside(beside) + self.below(below)
        return convolved


def lift_upsampling(network: nn.Module) -> nn.Module:
    """Let a network for inference, batch norm folded, convolve what it joins as `Lifted`, in place; return the network.

    A network that can be changed so has `join`, a list of `Joined`, and `merge`, a list whose entries begin with the
    convolutions.
    """
    joins, merges = getattr(network, "join", None), getattr(network, "merge", None)
    if isinstance(joins, nn.ModuleList) and isinstance(merges, nn.ModuleList):
        for number, (join, merge) in enumerate(zip(joins, merges, strict=True)):
            assert isinstance(join, Joined) and isinstance(merge, nn.Sequential) and isinstance(merge[0], nn.Conv2d)
            joins[number], merge[0] = Lifted(merge[0], join.channels), nn.Identity()
    return network
