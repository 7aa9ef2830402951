"""FCN: Long, Shelhamer, Darrell, "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015, on VGG16.

    image ─ block1 ─ pool1 ─ block2 ─ pool2 ─ block3 ─ pool3 ─ block4 ─ pool4 ─ block5 ─ pool5 ─ fc6 ─ fc7 ─ score
    1/1              1/2              1/4              1/8 │            1/16 │           1/32                   │
                                                          1×1               1×1             FCN-32s: ×32 ◀──────┤
                                                           │                 └────────── + ◀────── ×2 ◀─────────┘
                                                           │                             ├──▶ FCN-16s: ×16
                                                           └──────────── + ◀──── ×2 ◀────┘
                                                                         └──▶ FCN-8s: ×8

VGG16: Simonyan, Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition", ICLR 2015, model D;
fc6 and fc7 are its first two dense layers as convolutions. Departures: every convolution is padded to keep its size,
where the paper pads the image by 100 px and crops; all upsampling is the fixed bilinear kernel, where the paper lets
that of ×2 be learned; the scores begin random, not with zeros.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unettile.geometry import Geometry
from unettile.networks.blocks import Registered, check_window, class_logits, he_init
from unettile.networks.config import Padded, check_channels
from unettile.networks.margin import geometry_of

DEPTHS = (2, 2, 3, 3, 3)  # 3×3 convolutions of each block
STRIDE = 32


@dataclass(frozen=True)
class FCNConfig(Padded):
    """What varies between FCNs; the defaults are FCN-32s for the 21 classes of PASCAL VOC (134,346,581 parameters).

    Args:
        in_channels: channels of the image.
        classes: channels of the logits, background included.
        finest: stride of the finest scores, px: 32, 16 or 8.
        widths: channels of the five blocks.
        dense: channels of fc6 and fc7.
        dropout: probability after fc6 and after fc7, while training.
        one_logit: two classes by one logit, a sigmoid, instead of two.

    Raises:
        ValueError: a figure is out of its range.
    """

    in_channels: int = 3
    classes: int = 21
    finest: int = 32
    widths: tuple[int, ...] = (64, 128, 256, 512, 512)
    dense: int = 4096
    dropout: float = 0.5
    one_logit: bool = False

    def __post_init__(self) -> None:
        check_channels(self, one_logit=self.one_logit)
        if self.finest not in (32, 16, 8):
            raise ValueError(f"need finest = 32, 16 or 8, got {self.finest}")
        if len(self.widths) != 5 or min(*self.widths, self.dense) < 1:
            raise ValueError(f"need five widths and dense, each at least 1, got {self.widths} and {self.dense}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"need 0 <= dropout < 1, got {self.dropout}")

    @property
    def stride(self) -> int:
        return STRIDE

    @property
    def geometry(self) -> Geometry:
        return geometry_of(FCN, self)


PRESETS_32 = {"paper": FCNConfig()}
PRESETS_16 = {"paper": FCNConfig(finest=16)}
PRESETS_8 = {"paper": FCNConfig(finest=8)}


class FCN(Registered):
    """The network: float images (N, C, H, W) to logits (N, K, H, W), H and W multiples of 32.

    `features` has the names of torchvision's VGG16, so that its parameters load.
    """

    def __init__(self, config: FCNConfig) -> None:
        super().__init__(config)
        classes = 1 if config.one_logit else config.classes
        self.features = vgg_features(config.in_channels, config.widths)
        self.fc6 = nn.Conv2d(config.widths[-1], config.dense, 7, padding=3)
        self.fc7 = nn.Conv2d(config.dense, config.dense, 1)
        self.dense = nn.Sequential(nn.ReLU(inplace=True), nn.Dropout(config.dropout))
        self.score = nn.Conv2d(config.dense, classes, 1)
        self.score4 = nn.Conv2d(config.widths[3], classes, 1) if config.finest <= 16 else None
        self.score3 = nn.Conv2d(config.widths[2], classes, 1) if config.finest == 8 else None
        self.twofold = nn.Upsample(scale_factor=2, mode="bilinear")
        self.enlarge = nn.Upsample(scale_factor=config.finest, mode="bilinear")
        he_init(self)

    def forward(self, x: Tensor) -> Tensor:
        check_window(x, self.config)
        pooled: list[Tensor] = []
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, nn.MaxPool2d):
                pooled.append(x)  # (N, 64, H/2, W/2), (N, 128, H/4, W/4) … (N, 512, H/32, W/32)
        x = self.dense(self.fc7(self.dense(self._fc6(x))))  # (N, 4096, H/32, W/32)
        x = self.score(x)  # (N, K, H/32, W/32)
        for score, skip in ((self.score4, pooled[3]), (self.score3, pooled[2])):
            if score is not None:
                x = self.twofold(x) + score(skip)  # (N, K, H/16, W/16), then (N, K, H/8, W/8)
        return class_logits(self.enlarge(x))  # (N, K, H, W)

    def _fc6(self, x: Tensor) -> Tensor:
        if not self.training or min(x.shape[2:]) >= self.fc6.kernel_size[0] // 2:
            return self.fc6(x)  # type: ignore[no-any-return]
        # on fewer rows than the padding, oneDNN's bfloat16 leaves dead memory in the gradient of taps that see nothing
        with torch.autocast(x.device.type, enabled=False):
            return self.fc6(x.to(self.fc6.weight.dtype))  # type: ignore[no-any-return]


def vgg_features(in_channels: int, widths: tuple[int, ...]) -> nn.Sequential:
    """Return the convolutions of VGG16, padded, with ReLU and 2×2 max pooling after each block."""
    layers: list[nn.Module] = []
    channels = in_channels
    for width, depth in zip(widths, DEPTHS, strict=True):
        for _ in range(depth):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)
