"""ResNet34-U-Net: a residual encoder, and a light decoder to which the encoder's maps are added.

    image ─ 7×7/2 ─ 3×3 max/2 ─ layer1 ─────── layer2 ─────── layer3 ─────── layer4
    1/1     1/2     1/4         1/4   │         1/8   │        1/16  │        1/32│
                                      ▼               ▼              ▼            │
    3×3 ◀ 3×3 ◀ 4×4·2 ◀── up1 ◀────── + ◀─── up2 ◀─── + ◀─── up3 ◀── + ◀── up4 ◀──┘
    1/1         1/1       1/2         1/4             1/8            1/16

Encoder: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, table 1, 34 layers. Decoder:
Chaurasia, Culurciello, "LinkNet: Exploiting Encoder Representations for Efficient Semantic Segmentation", VCIP 2017,
figures 1 and 2: each block is 1×1 → transposed 3×3 of stride 2 → 1×1 at a quarter of its input's channels. Departure:
the last transposed convolution is 4×4, whose taps spread evenly over a stride of 2, and stands before the last two 3×3.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from unettile.geometry import Geometry
from unettile.networks.blocks import Registered, check_window, class_logits, he_init
from unettile.networks.config import Padded, check_channels
from unettile.networks.margin import geometry_of

STRIDE = 32


@dataclass(frozen=True)
class ResNetUNetConfig(Padded):
    """What varies; the defaults have 21,656,897 parameters.

    Args:
        in_channels: channels of the image.
        classes: channels of the logits, background included.
        widths: channels of the encoder's four layers; the first is its stem's, too.
        blocks: residual blocks of each layer.
        one_logit: two classes by one logit, a sigmoid, instead of two.

    Raises:
        ValueError: a figure is out of its range.
    """

    in_channels: int = 3
    classes: int = 2
    widths: tuple[int, ...] = (64, 128, 256, 512)
    blocks: tuple[int, ...] = (3, 4, 6, 3)
    one_logit: bool = True

    def __post_init__(self) -> None:
        check_channels(self, one_logit=self.one_logit)
        if len(self.widths) != 4 or min(self.widths) < 8:
            raise ValueError(f"need four widths, each at least 8, got {self.widths}")
        if len(self.blocks) != 4 or min(self.blocks) < 1:
            raise ValueError(f"need four numbers of blocks, each at least 1, got {self.blocks}")

    @property
    def stride(self) -> int:
        return STRIDE

    @property
    def geometry(self) -> Geometry:
        return geometry_of(ResNetUNet, self)


PRESETS = {"linknet": ResNetUNetConfig()}


class ResNetUNet(Registered):
    """The network: float images (N, C, H, W) to logits (N, K, H, W), H and W multiples of 32.

    `encoder` has the names of torchvision's ResNet34, so that its parameters load.
    """

    def __init__(self, config: ResNetUNetConfig) -> None:
        super().__init__(config)
        widths = config.widths
        self.encoder = ResNet(config.in_channels, widths, config.blocks)
        self.up4 = DecoderBlock(widths[3], widths[2])
        self.up3 = DecoderBlock(widths[2], widths[1])
        self.up2 = DecoderBlock(widths[1], widths[0])
        self.up1 = DecoderBlock(widths[0], widths[0])
        half = widths[0] // 2
        self.last = nn.Sequential(
            nn.ConvTranspose2d(widths[0], half, 4, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(half, half, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(half, 1 if config.one_logit else config.classes, 3, padding=1),
        )
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        check_window(x, self.config)
        e1, e2, e3, e4 = self.encoder(x)
        x = self.up4(e4) + e3  # (N, 256, H/16, W/16)
        x = self.up3(x) + e2  # (N, 128, H/8, W/8)
        x = self.up2(x) + e1  # (N, 64, H/4, W/4)
        x = self.up1(x)  # (N, 64, H/2, W/2)
        return class_logits(self.last(x))  # (N, K, H, W)


class ResNet(nn.Module):
    """The encoder; its children have torchvision's names and stand in the order in which they are applied."""

    def __init__(self, in_channels: int, widths: tuple[int, ...], blocks: tuple[int, ...]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, widths[0], 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.layer1 = _layer(widths[0], widths[0], blocks[0], stride=1)
        self.layer2 = _layer(widths[0], widths[1], blocks[1], stride=2)
        self.layer3 = _layer(widths[1], widths[2], blocks[2], stride=2)
        self.layer4 = _layer(widths[2], widths[3], blocks[3], stride=2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x = F.relu(self.bn1(self.conv1(x)))  # (N, C, H, W) → (N, 64, H/2, W/2)
        e1 = self.layer1(self.maxpool(x))  # (N, 64, H/4, W/4)
        e2 = self.layer2(e1)  # (N, 128, H/8, W/8)
        e3 = self.layer3(e2)  # (N, 256, H/16, W/16)
        return e1, e2, e3, self.layer4(e3)  # (N, 512, H/32, W/32)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside an identity, or a 1×1 convolution where the shape changes (figure 2, option B)."""

    def __init__(self, i: int, o: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(i, o, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(o)
        self.conv2 = nn.Conv2d(o, o, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(o)
        self.downsample: nn.Module | None = None
        if stride > 1 or i != o:
            self.downsample = nn.Sequential(nn.Conv2d(i, o, 1, stride=stride, bias=False), nn.BatchNorm2d(o))

    def forward(self, x: Tensor) -> Tensor:
        beside = x if self.downsample is None else self.downsample(x)
        x = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(x)) + beside)


class DecoderBlock(nn.Sequential):
    """Doubles the size at a quarter of the channels: (N, i, h, w) → (N, o, 2h, 2w)."""

    def __init__(self, i: int, o: int) -> None:
        quarter = i // 4
        super().__init__(
            nn.Conv2d(i, quarter, 1),
            nn.BatchNorm2d(quarter),
            nn.ReLU(inplace=True),
            nn.ConvTranspose2d(quarter, quarter, 3, stride=2, padding=1, output_padding=1),
            nn.BatchNorm2d(quarter),
            nn.ReLU(inplace=True),
            nn.Conv2d(quarter, o, 1),
            nn.BatchNorm2d(o),
            nn.ReLU(inplace=True),
        )


def _layer(i: int, o: int, blocks: int, stride: int) -> nn.Sequential:
    return nn.Sequential(BasicBlock(i, o, stride), *(BasicBlock(o, o, 1) for _ in range(blocks - 1)))
