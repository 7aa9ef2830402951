"""U-Net: Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation", MICCAI 2015.

    572 → 570 → 568 ─────────────── crop ──────────────▶ 392 → 390 → 388 → 1×1
                 ↓ 2×2 max                                ↑ 2×2 up, channels halved
                284 → 282 → 280 ─────── crop ──────▶ 200 → 198 → 196
                             ↓                        ↑
                            140 → 138 → 136 ──▶ 104 → 102 → 100
                                         ↓       ↑
                                        68 → 66 → 64 ──▶ 56 → 54 → 52
                                                   ↓     ↑
                                                  32 → 30 → 28

Departures from the paper: any number of channels, classes, levels and widths; batch norm after each 3×3 convolution
where the config asks for it (folded into the convolutions for inference); dropout after the lowest level alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unettile.geometry import Geometry
from unettile.networks.blocks import DoubleConv, crop_to, he_init


@dataclass(frozen=True)
class UNetConfig:
    """What varies between U-Nets; the defaults are the paper's network (31,030,658 parameters).

    Args:
        in_channels: channels of the image.
        classes: channels of the logits, background included.
        widths: channels of each level, top first.
        dropout: probability, after the lowest level, while training.
        batch_norm: normalise after each 3×3 convolution.

    Raises:
        ValueError: a figure is out of its range.
    """

    in_channels: int = 1
    classes: int = 2
    widths: tuple[int, ...] = (64, 128, 256, 512, 1024)
    dropout: float = 0.0
    batch_norm: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))  # JSON and TOML bring lists
        if self.in_channels < 1 or self.classes < 2:
            raise ValueError(f"need in_channels >= 1 and classes >= 2, got {self.in_channels} and {self.classes}")
        if not 2 <= len(self.widths) <= 7 or min(self.widths) < 1:
            raise ValueError(f"need 2 to 7 widths, each at least 1, got {self.widths}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"need 0 <= dropout < 1, got {self.dropout}")

    @property
    def depth(self) -> int:
        """How often the image is halved."""
        return len(self.widths) - 1

    @property
    def geometry(self) -> Geometry:
        """Margin: two 3×3 convolutions cost 2·2ˡ px a side on level l, going down, at the bottom and coming up."""
        stride = 2**self.depth
        return Geometry(margin=4 * (stride - 1) + 2 * stride, stride=stride, base=4 % stride)


class UNet(nn.Module):
    """The network: float images (N, C, H, W) to logits (N, K, H - 2·margin, W - 2·margin).

    Raises:
        ValueError: (in `forward`) a window whose edges do not fit the geometry.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        self.geometry = config.geometry
        widths = config.widths
        norm = config.batch_norm
        inputs = (config.in_channels, *widths[:-1])
        self.down = nn.ModuleList(DoubleConv(i, o, batch_norm=norm) for i, o in zip(inputs, widths, strict=True))
        self.dropout = nn.Dropout(config.dropout)
        pairs = list(zip(widths[1:], widths[:-1], strict=True))[::-1]  # (below, this level), lowest first
        self.up = nn.ModuleList(nn.ConvTranspose2d(i, o, kernel_size=2, stride=2) for i, o in pairs)
        self.merge = nn.ModuleList(DoubleConv(2 * o, o, batch_norm=norm) for _, o in pairs)
        self.head = nn.Conv2d(widths[0], config.classes, kernel_size=1)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        self._check(x)
        skips: list[Tensor] = []
        for level, block in enumerate(self.down):
            if level:
                x = F.max_pool2d(x, kernel_size=2)  # (N, C, H, W) → (N, C, H/2, W/2)
            x = block(x)  # (N, 2C, H - 4, W - 4)
            skips.append(x)
        x = self.dropout(skips.pop())
        for up, merge in zip(self.up, self.merge, strict=True):
            x = up(x)  # (N, C/2, 2H, 2W)
            x = merge(torch.cat([crop_to(skips.pop(), x.shape), x], dim=1))  # (N, C, H, W) → (N, C/2, H - 4, W - 4)
        logits: Tensor = self.head(x)  # (N, K, h, w)
        return logits

    def _check(self, x: Tensor) -> None:
        if x.ndim != 4 or x.shape[1] != self.config.in_channels:
            raise ValueError(f"need images (N, {self.config.in_channels}, H, W), got shape {tuple(x.shape)}")
        for edge in x.shape[2:]:
            output = int(edge) - 2 * self.geometry.margin
            if output < max(1, self.geometry.base) or (output - self.geometry.base) % self.geometry.stride:
                raise ValueError(f"a window edge of {edge} px does not fit {self.geometry}")
