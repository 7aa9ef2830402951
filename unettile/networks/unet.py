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

The config covers what is built in practice under this name; `PRESETS` has those that others have described. Departures
of the paper's own preset: dropout after the lowest level alone. `strided` was described with one sigmoid for each of
its three classes; here, as a mask has one class a pixel, classes exclude each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unettile.geometry import Geometry
from unettile.networks.blocks import Registered, check_window, class_logits, crop_to, he_init
from unettile.networks.config import check_channels
from unettile.networks.margin import geometry_of

CHOICES = {
    "padding": ("valid", "same"),
    "down": ("max", "strided"),
    "up": ("transposed", "nearest", "nearest-conv"),
    "activation": ("relu", "leaky_relu"),
}


@dataclass(frozen=True)
class UNetConfig:
    """What varies between U-Nets; the defaults are the paper's network (31,030,658 parameters).

    Args:
        in_channels: channels of the image.
        classes: channels of the logits, background included.
        widths: channels of each level, top first.
        dropout: probability, after the lowest level, while training.
        batch_norm: normalise after each 3×3 convolution.
        padding: of 3×3 convolutions: `valid` is none, `same` is a border of zeros, 1 px wide.
        down: `max` is 2×2 max pooling, `strided` a 3×3 convolution of stride 2 with its activation.
        up: `transposed` is a 2×2 transposed convolution that halves the channels, `nearest` doubles the pixels and
            keeps the channels, `nearest-conv` then halves them by a 1×1 convolution.
        activation: `relu`, or `leaky_relu` of slope 0.01.
        block_dropout: probabilities before the first and the second activation of each block, while training.
        norm_bias: convolutions before a batch norm have a bias, too; it has no effect on what can be learned.
        up_norm: normalise after each transposed convolution.
        head_kernel: 1 or 3, edge of the last convolution.
        one_logit: two classes by one logit, a sigmoid, instead of two.

    Raises:
        ValueError: a figure is out of its range, or choices exclude each other.
    """

    in_channels: int = 1
    classes: int = 2
    widths: tuple[int, ...] = (64, 128, 256, 512, 1024)
    dropout: float = 0.0
    batch_norm: bool = False
    padding: str = "valid"
    down: str = "max"
    up: str = "transposed"
    activation: str = "relu"
    block_dropout: tuple[float, ...] = (0.0, 0.0)
    norm_bias: bool = False
    up_norm: bool = False
    head_kernel: int = 1
    one_logit: bool = False

    def __post_init__(self) -> None:
        check_channels(self, one_logit=self.one_logit)
        if not 2 <= len(self.widths) <= 7 or min(self.widths) < 1:
            raise ValueError(f"need 2 to 7 widths, each at least 1, got {self.widths}")
        if len(self.block_dropout) != 2 or not all(0 <= p < 1 for p in (self.dropout, *self.block_dropout)):
            raise ValueError(f"need 0 <= dropout < 1, two of block_dropout, got {self.dropout}, {self.block_dropout}")
        for key, choices in CHOICES.items():
            if getattr(self, key) not in choices:
                raise ValueError(f"{key} = {getattr(self, key)!r} is not known: need one of {', '.join(choices)}")
        if self.head_kernel not in (1, 3):
            raise ValueError(f"need a head_kernel of 1 or 3, got {self.head_kernel}")
        if self.down == "strided" and self.padding == "valid":
            raise ValueError("down = 'strided' needs padding = 'same'")
        if self.up_norm and self.up != "transposed":
            raise ValueError("up_norm needs up = 'transposed'")

    @property
    def depth(self) -> int:
        """How often the image is halved."""
        return len(self.widths) - 1

    @property
    def lost(self) -> int:
        """Valid: two 3×3 convolutions cost 2·2ˡ px a side on level l, going down, at the bottom and coming up."""
        return 4 * (2**self.depth - 1) + 2 * 2**self.depth + self.head_kernel // 2 if self.padding == "valid" else 0

    @property
    def stride(self) -> int:
        return int(2**self.depth)

    @property
    def base(self) -> int:
        """Valid: 4 + 16k at depth 4, less what a 3×3 head loses."""
        return (4 - 2 * (self.head_kernel // 2)) % self.stride if self.padding == "valid" else 0

    @property
    def geometry(self) -> Geometry:
        return geometry_of(UNet, self)


PRESETS = {
    "paper": UNetConfig(),
    "upsample": UNetConfig(in_channels=3, classes=21, up="nearest"),
    "small": UNetConfig(in_channels=3, classes=4, widths=(32, 32, 64, 128, 256), padding="same", up="nearest"),
    "bn": UNetConfig(
        in_channels=3, widths=(32, 64, 128, 256, 512), padding="same", batch_norm=True, norm_bias=True, one_logit=True
    ),
    "tiny": UNetConfig(
        widths=(8, 16, 32, 64, 128),
        padding="same",
        batch_norm=True,
        norm_bias=True,
        up_norm=True,
        head_kernel=3,
        one_logit=True,
    ),
    "strided": UNetConfig(
        in_channels=3,
        classes=3,
        padding="same",
        batch_norm=True,
        norm_bias=True,
        down="strided",
        up="nearest-conv",
        activation="leaky_relu",
        block_dropout=(0.3, 0.4),
        head_kernel=3,
    ),
    "narrow": UNetConfig(widths=(16, 32, 64, 128, 256), batch_norm=True),
}


class UNet(Registered):
    """The network: float images (N, C, H, W) to logits (N, K, h, w), h = H - 2·lost."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__(config)
        widths = config.widths
        inputs = (config.in_channels, *widths[:-1])
        pairs = list(zip(widths[1:], widths[:-1], strict=True))[::-1]  # (below, this level), lowest first
        joined = [(i if config.up == "nearest" else o) + o for i, o in pairs]
        self.down = nn.ModuleList(_double_conv(i, o, config) for i, o in zip(inputs, widths, strict=True))
        self.shrink = nn.ModuleList(_shrink(width, config) for width in widths[:-1])
        self.dropout = nn.Dropout(config.dropout)
        self.up = nn.ModuleList(_up(i, o, config) for i, o in pairs)
        self.merge = nn.ModuleList(_double_conv(j, o, config) for j, (_, o) in zip(joined, pairs, strict=True))
        self.head = _conv(widths[0], 1 if config.one_logit else config.classes, config.head_kernel, config)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        check_window(x, self.config)
        skips: list[Tensor] = []
        for level, shrink in enumerate(self.shrink):
            x = self.down[level](x)  # (N, C, H, W) → (N, 2C, H - 4, W - 4); padded: (N, 2C, H, W), here and below
            skips.append(x)
            x = shrink(x)  # (N, 2C, H/2, W/2)
        x = self.dropout(self.down[-1](x))
        for up, merge in zip(self.up, self.merge, strict=True):
            x = up(x)  # (N, C, H, W) → (N, C/2, 2H, 2W); nearest: (N, C, 2H, 2W)
            x = merge(torch.cat([crop_to(skips.pop(), x.shape), x], dim=1))  # (N, C/2, 2H - 4, 2W - 4)
        return class_logits(self.head(x))  # (N, K, h, w)


def _conv(i: int, o: int, kernel: int, config: UNetConfig, *, normed: bool = False) -> nn.Conv2d:
    padding = kernel // 2 if config.padding == "same" else 0
    return nn.Conv2d(i, o, kernel, padding=padding, bias=config.norm_bias or not normed)


def _activation(config: UNetConfig) -> nn.Module:
    return nn.ReLU(inplace=True) if config.activation == "relu" else nn.LeakyReLU(inplace=True)


def _double_conv(i: int, o: int, config: UNetConfig) -> nn.Sequential:
    """Two 3×3 convolutions, each followed by (batch norm, dropout and) its activation."""
    layers: list[nn.Module] = []
    for channels, dropout in zip((i, o), config.block_dropout, strict=True):
        layers.append(_conv(channels, o, 3, config, normed=config.batch_norm))
        if config.batch_norm:
            layers.append(nn.BatchNorm2d(o))
        if dropout:
            layers.append(nn.Dropout(dropout))
        layers.append(_activation(config))
    return nn.Sequential(*layers)


def _shrink(width: int, config: UNetConfig) -> nn.Module:
    if config.down == "max":
        return nn.MaxPool2d(2)
    return nn.Sequential(nn.Conv2d(width, width, 3, stride=2, padding=1), _activation(config))


def _up(i: int, o: int, config: UNetConfig) -> nn.Module:
    if config.up == "nearest":
        return nn.Upsample(scale_factor=2)
    if config.up == "nearest-conv":
        return nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(i, o, 1))
    conv = nn.ConvTranspose2d(i, o, kernel_size=2, stride=2, bias=config.norm_bias or not config.up_norm)
    return nn.Sequential(conv, nn.BatchNorm2d(o)) if config.up_norm else conv
