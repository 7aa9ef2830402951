"""Lite-U-Net: the encoder of EfficientNet-Lite0, and a U-Net's decoder with nearest upsampling.

    image ─ stem, 1 block ─ 2 blocks ─ 2 blocks ─ 6 blocks ┐       each block: 1×1 wider → depthwise 3×3 or 5×5 → 1×1
    1/1     1/2             1/4        1/8        1/16     │       beside an identity, where the shape stays
     │       │               │          │                  │
     ▼       ▼               ▼          ▼                  │
    cat ◀── cat ◀────────── cat ◀───── cat ◀───────────────┘       each cat: nearest upsampling, two 3×3 convolutions

Encoder: Tan, Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019, table 1, in the
variant Lite0 of its authors: no squeeze-and-excitation, which looks at the whole window and so would tie a pixel to its
tile, and ReLU6. Decoder: as `unet` with `up = "nearest"`, and the image itself beside the features of full resolution.
Strided convolutions are padded alike on both sides, where the authors pad the far side alone: the same network, but for
the half pixel by which its features lie aside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from unettile.geometry import Geometry
from unettile.networks.blocks import Registered, check_window, class_logits, he_init
from unettile.networks.config import Padded, check_channels
from unettile.networks.lifting import Joined
from unettile.networks.margin import geometry_of

STEM = 32  # channels
NORM_EPSILON = 1e-3  # as the encoder was trained with on ImageNet


class Group(NamedTuple):
    """So many blocks of one shape in a row.

    Args:
        kernel: edge of the depthwise convolution, px.
        channels: of the output.
        wider: by which factor the channels grow inside a block; 1 leaves that convolution out.
        blocks: how many.
    """

    kernel: int
    channels: int
    wider: int
    blocks: int


LEVELS = (
    (Group(3, 16, 1, 1),),  # 1/2: the stem has halved it
    (Group(3, 24, 6, 2),),  # 1/4: the first block halves it, here and below
    (Group(5, 40, 6, 2),),  # 1/8
    (Group(3, 80, 6, 3), Group(5, 112, 6, 3)),  # 1/16
    (Group(5, 192, 6, 4), Group(3, 320, 6, 1)),  # 1/32
)


@dataclass(frozen=True)
class LiteUNetConfig(Padded):
    """What varies.

    Args:
        in_channels: channels of the image.
        classes: channels of the logits, background included.
        widths: channels of the decoder's levels, full resolution first. Their number says where the encoder ends: four
            at 1/16 of the size, five at 1/32, which looks more than twice as far and needs a margin to match.
        one_logit: two classes by one logit, a sigmoid, instead of two.

    Raises:
        ValueError: a figure is out of its range.
    """

    in_channels: int = 3
    classes: int = 2
    widths: tuple[int, ...] = (8, 24, 40, 80)
    one_logit: bool = False

    def __post_init__(self) -> None:
        check_channels(self, one_logit=self.one_logit)
        if not 2 <= len(self.widths) <= len(LEVELS) or min(self.widths) < 1:
            raise ValueError(f"need 2 to {len(LEVELS)} widths, each at least 1, got {self.widths}")

    @property
    def stride(self) -> int:
        return 1 << len(self.widths)

    @property
    def geometry(self) -> Geometry:
        return geometry_of(LiteUNet, self)


PRESETS = {
    "lite0": LiteUNetConfig(),
    "lite0-deep": LiteUNetConfig(widths=(8, 24, 40, 80, 160)),
}


class LiteUNet(Registered):
    """The network: float images (N, C, H, W) to logits (N, K, H, W), H and W multiples of the stride."""

    def __init__(self, config: LiteUNetConfig) -> None:
        super().__init__(config)
        depth = len(config.widths)
        self.encoder = LiteEncoder(config.in_channels, depth)
        skips = (config.in_channels, *(level[-1].channels for level in LEVELS[: depth - 1]))
        below = (*config.widths[1:], LEVELS[depth - 1][-1].channels)
        shapes = list(zip(skips, below, config.widths, strict=True))[::-1]  # lowest first
        self.join = nn.ModuleList(Joined(i) for _, i, _ in shapes)
        self.merge = nn.ModuleList(_double_conv(skip + i, o) for skip, i, o in shapes)
        self.head = nn.Conv2d(config.widths[0], 1 if config.one_logit else config.classes, 1)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        check_window(x, self.config)
        skips = [x, *self.encoder(x)]  # (N, C, H, W), (N, 16, H/2, W/2), … (N, 112, H/16, W/16)
        x = skips.pop()
        for join, merge in zip(self.join, self.merge, strict=True):
            x = merge(join(skips.pop(), x))  # (N, C, h, w) → (N, width, 2h, 2w)
        return class_logits(self.head(x))  # (N, K, H, W)


class LiteEncoder(nn.Module):
    """The encoder down to a level; its children stand in the order in which they are applied.

    Their names are those of files of ImageNet parameters but for an underscore before each (`networks/encoders.py`).
    """

    activated: ClassVar = {"conv_stem": "relu0"}

    def __init__(self, in_channels: int, levels: int) -> None:
        super().__init__()
        self.conv_stem = nn.Conv2d(in_channels, STEM, 3, stride=2, padding=1, bias=False)
        self.bn0 = nn.BatchNorm2d(STEM, NORM_EPSILON)
        self.relu0 = nn.ReLU6(inplace=True)
        blocks: list[LiteBlock] = []
        self.ends: list[int] = []  # the last block of each level
        i = STEM
        for level, groups in enumerate(LEVELS[:levels]):
            for number, group in enumerate(groups):
                for repeat in range(group.blocks):
                    blocks.append(LiteBlock(i, group, stride=2 if level and not number and not repeat else 1))
                    i = group.channels
            self.ends.append(len(blocks) - 1)
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Return the features of each level, (N, 16, H/2, W/2) first."""
        x = self.relu0(self.bn0(self.conv_stem(x)))  # (N, C, H, W) → (N, 32, H/2, W/2)
        features = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in self.ends:
                features.append(x)
        return features


class LiteBlock(nn.Module):
    """1×1 to more channels → depthwise → 1×1 without an activation, beside an identity where the shape stays."""

    activated: ClassVar = {"expand_conv": "relu0", "depthwise_conv": "relu1"}

    def __init__(self, i: int, group: Group, stride: int) -> None:
        super().__init__()
        inner = i * group.wider
        self.expand_conv: nn.Module | None = None
        if group.wider > 1:
            self.expand_conv = nn.Conv2d(i, inner, 1, bias=False)
            self.bn0 = nn.BatchNorm2d(inner, NORM_EPSILON)
            self.relu0 = nn.ReLU6(inplace=True)
        self.depthwise_conv = nn.Conv2d(
            inner, inner, group.kernel, stride=stride, padding=group.kernel // 2, groups=inner, bias=False
        )
        self.bn1 = nn.BatchNorm2d(inner, NORM_EPSILON)
        self.relu1 = nn.ReLU6(inplace=True)
        self.project_conv = nn.Conv2d(inner, group.channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(group.channels, NORM_EPSILON)
        self.stays = stride == 1 and i == group.channels

    def forward(self, x: Tensor) -> Tensor:
        beside = x
        if self.expand_conv is not None:
            x = self.relu0(self.bn0(self.expand_conv(x)))  # (N, C, H, W) → (N, 6C, H, W)
        x = self.relu1(self.bn1(self.depthwise_conv(x)))  # (N, 6C, H, W), or halved
        x = self.bn2(self.project_conv(x))  # (N, C', H, W)
        return x + beside if self.stays else x


def _double_conv(i: int, o: int) -> nn.Sequential:
    """Two 3×3 convolutions, each followed by batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(i, o, 3, padding=1, bias=False),
        nn.BatchNorm2d(o),
        nn.ReLU(inplace=True),
        nn.Conv2d(o, o, 3, padding=1, bias=False),
        nn.BatchNorm2d(o),
        nn.ReLU(inplace=True),
    )
