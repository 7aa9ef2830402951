"""DeepLabv3+: a dilated encoder, convolutions side by side at several reaches, and a decoder with one skip.

    image ─ stem ─ stage 1 ─ stage 2 ─ stage 3 ─ stage 4 ┬─ 1×1 ──────────┐      stage 4 is dilated
    1/1     1/2    1/4  │    1/8       1/16      1/16    ├─ 3×3, rate 6 ──┤
                        │                                ├─ 3×3, rate 12 ─┼─ cat ─ 1×1 ─ ×4 ─┐
                        │                                └─ 3×3, rate 18 ─┘        1/16      ▼
                        └─ 1×1 to 48 channels ────────────────────────────────────────────▶ cat ─ 3×3 ─ 3×3 ─ 1×1 ─ ×4
                                                                                            1/4                     1/1

Chen, Zhu, Papandreou, Schroff, Adam, "Encoder-Decoder with Atrous Separable Convolution for Semantic Image
Segmentation", ECCV 2018, figure 2. Where a stage no longer halves, its first convolution stays as it is and those
after it are dilated by two: they compute what the encoder computed, at every place instead of every other one, so its
ImageNet parameters stay true. At an output stride of 8 so do two stages, and the rates are doubled, as in section 4.1.

Departures: the encoder is ResNet34 or EfficientNet-Lite0 instead of Xception; the mean over the image, a fifth branch
in the figure, is left out unless `image_pooling` asks for it, since it ties every pixel to its whole window, so that no
tiles can agree; it has a bias in the place of batch norm, which learns nothing of one number.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from unettile.geometry import Geometry
from unettile.networks.blocks import Registered, check_window, class_logits, he_init
from unettile.networks.config import Padded, check_channels
from unettile.networks.lite_unet import LEVELS, LiteEncoder
from unettile.networks.margin import geometry_of
from unettile.networks.resnet_unet import ResNet

ENCODERS = ("resnet34", "lite0")
OUTPUT_STRIDES = (8, 16)
SKIP = 48  # channels of the skip, of the paper's table 1
SKIP_STRIDE = 4
WIDTHS, BLOCKS = (64, 128, 256, 512), (3, 4, 6, 3)  # of ResNet34


@dataclass(frozen=True)
class DeepLabConfig(Padded):
    """What varies.

    Args:
        in_channels: channels of the image.
        classes: channels of the logits, background included.
        encoder: `resnet34` or `lite0`, EfficientNet-Lite0.
        widths, blocks: channels and residual blocks of the four stages of a ResNet; `lite0` has its own.
        output_stride: px of the image for one of the encoder's last map, 8 or 16.
        rates: dilations of the 3×3 convolutions side by side, at an output stride of 16; doubled at 8.
        width: channels of each of them, and of the decoder.
        separable: 3×3 convolutions of each channel alone, and 1×1 convolutions of all, instead of full ones.
        image_pooling: the mean over the window goes beside them. The network is then not exact.
        one_logit: two classes by one logit, a sigmoid, instead of two.

    Raises:
        ValueError: a figure is out of its range.
    """

    in_channels: int = 3
    classes: int = 2
    encoder: str = "resnet34"
    widths: tuple[int, ...] = WIDTHS
    blocks: tuple[int, ...] = BLOCKS
    output_stride: int = 16
    rates: tuple[int, ...] = (6, 12, 18)
    width: int = 256
    separable: bool = True
    image_pooling: bool = False
    one_logit: bool = False

    def __post_init__(self) -> None:
        check_channels(self, one_logit=self.one_logit)
        if self.encoder not in ENCODERS:
            raise ValueError(f"encoder = {self.encoder!r} is not known: need one of {', '.join(ENCODERS)}")
        if len(self.widths) != 4 or min(self.widths) < 1 or len(self.blocks) != 4 or min(self.blocks) < 1:
            raise ValueError(f"need four widths and four blocks, each at least 1, got {self.widths} and {self.blocks}")
        if self.encoder != "resnet34" and (self.widths, self.blocks) != (WIDTHS, BLOCKS):
            raise ValueError(f"widths and blocks are those of resnet34, the encoder is {self.encoder}: leave them out")
        if self.output_stride not in OUTPUT_STRIDES:
            raise ValueError(f"output_stride = {self.output_stride} is not possible: need 8 or 16")
        if not self.rates or min(self.rates) < 1 or self.width < 1:
            raise ValueError(f"need rates and a width of at least 1, got {self.rates} and {self.width}")

    @property
    def stride(self) -> int:
        return self.output_stride

    @property
    def geometry(self) -> Geometry:
        """With the mean over the window, the margin is that of all else, and not enough."""
        near = geometry_of(DeepLab, replace(self, image_pooling=False))
        return replace(near, exact=not self.image_pooling)


PRESETS = {
    "resnet34": DeepLabConfig(),
    "lite0": DeepLabConfig(encoder="lite0"),
}


class DeepLab(Registered):
    """The network: float images (N, C, H, W) to logits (N, K, H, W), H and W multiples of the stride."""

    def __init__(self, config: DeepLabConfig) -> None:
        super().__init__(config)
        width, halved = config.width, OUTPUT_STRIDES.index(config.output_stride)
        self.encoder: ResNet | LiteEncoder
        if config.encoder == "resnet34":
            self.encoder = ResNet(config.in_channels, config.widths, config.blocks)
            stages, shallow, deep = [self.encoder.layer3, self.encoder.layer4], config.widths[0], config.widths[3]
            dilate([block for stage in stages[halved:] for block in stage])
        else:
            self.encoder = LiteEncoder(config.in_channels, len(LEVELS))
            shallow, deep = LEVELS[1][-1].channels, LEVELS[-1][-1].channels
            dilate(self.encoder.blocks[self.encoder.ends[2 + halved] + 1 :])
        rates = [rate * 16 // config.output_stride for rate in config.rates]
        self.aspp = ASPP(deep, width, rates, separable=config.separable, image_pooling=config.image_pooling)
        self.up = nn.Upsample(scale_factor=config.output_stride // SKIP_STRIDE, mode="bilinear")
        self.skip = ConvNormReLU(shallow, SKIP, 1)
        conv = Separable if config.separable else ConvNormReLU
        self.merge = nn.Sequential(conv(width + SKIP, width, 3), conv(width, width, 3))
        self.head = nn.Conv2d(width, 1 if config.one_logit else config.classes, 1)
        self.enlarge = nn.Upsample(scale_factor=SKIP_STRIDE, mode="bilinear")
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        check_window(x, self.config)
        features = self.encoder(x)
        shallow = features[0 if isinstance(self.encoder, ResNet) else 1]  # (N, 64, H/4, W/4)
        x = self.up(self.aspp(features[-1]))  # (N, 512, H/16, W/16) → (N, 256, H/16, W/16) → (N, 256, H/4, W/4)
        x = self.merge(torch.cat([x, self.skip(shallow)], dim=1))  # (N, 256, H/4, W/4)
        return class_logits(self.enlarge(self.head(x)))  # (N, K, H, W)


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: (N, i, h, w) → (N, o, h, w), what lies at several distances side by side."""

    def __init__(self, i: int, o: int, rates: list[int], *, separable: bool, image_pooling: bool) -> None:
        super().__init__()
        conv = Separable if separable else ConvNormReLU
        self.branches = nn.ModuleList([ConvNormReLU(i, o, 1), *(conv(i, o, 3, rate) for rate in rates)])
        self.pooled = nn.Sequential(nn.Conv2d(i, o, 1), nn.ReLU(inplace=True)) if image_pooling else None
        self.project = ConvNormReLU((len(rates) + 1 + image_pooling) * o, o, 1)

    def forward(self, x: Tensor) -> Tensor:
        seen = [branch(x) for branch in self.branches]
        if self.pooled is not None:
            mean = self.pooled(x.mean(dim=(2, 3), keepdim=True))  # (N, o, 1, 1)
            seen.append(mean.expand(-1, -1, x.shape[2], x.shape[3]))
        result: Tensor = self.project(torch.cat(seen, dim=1))
        return result


class ConvNormReLU(nn.Sequential):
    """A padded convolution, batch norm and ReLU."""

    def __init__(self, i: int, o: int, kernel: int, rate: int = 1, groups: int = 1) -> None:
        padding = rate * (kernel // 2)
        conv = nn.Conv2d(i, o, kernel, padding=padding, dilation=rate, groups=groups, bias=False)
        super().__init__(conv, nn.BatchNorm2d(o), nn.ReLU(inplace=True))


class Separable(nn.Sequential):
    """A convolution of each channel alone, then 1×1 (figure 3), batch norm and ReLU after both (section 3.2)."""

    def __init__(self, i: int, o: int, kernel: int, rate: int = 1) -> None:
        super().__init__(ConvNormReLU(i, i, kernel, rate, groups=i), ConvNormReLU(i, o, 1))


def dilate(blocks: Iterable[nn.Module]) -> None:
    """Let blocks of an encoder halve no more, in place: what they computed of every other pixel, they do of each."""
    rate = 1
    for block in blocks:
        convs = [module for module in block.modules() if isinstance(module, nn.Conv2d)]
        before = rate
        rate *= max(conv.stride[0] for conv in convs)
        for conv in convs:
            spread = before if conv.stride[0] > 1 else rate  # what it reads lies as close as before it halved
            conv.stride = (1, 1)
            if conv.kernel_size[0] > 1:
                conv.dilation = (spread, spread)
                conv.padding = (spread * (conv.kernel_size[0] // 2),) * 2
