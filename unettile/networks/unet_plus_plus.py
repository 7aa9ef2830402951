"""U-Net++: Zhou et al., "UNet++: A Nested U-Net Architecture for Medical Image Segmentation", DLMIA 2018, figure 1.

    X00 ──▶ X01 ──▶ X02 ──▶ X03 ──▶ X04        Xij takes all Xi0 … Xi(j-1) of its row, and X(i+1)(j-1) enlarged (eq. 1)
      ↘    ↗  ↘    ↗  ↘    ↗  ↘    ↗
       X10 ──▶ X11 ──▶ X12 ──▶ X13             deep supervision: a head on each of X01 … X04 (section 3.2)
         ↘    ↗  ↘    ↗  ↘    ↗
          X20 ──▶ X21 ──▶ X22                  pruned to 2: X00, X10, X01, X20, X11, X02 and the head of X02
            ↘    ↗  ↘    ↗
             X30 ──▶ X31
               ↘    ↗
                X40

In eval mode the logits are those of the last head alone (the paper's fast mode). Departures: batch norm after each
convolution, and bilinear upsampling (centres at half pixels) by default.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unettile.geometry import Geometry
from unettile.networks.blocks import Registered, check_window, class_logits, he_init
from unettile.networks.config import Padded, check_channels
from unettile.networks.margin import geometry_of

UPSAMPLINGS = ("bilinear", "nearest")


@dataclass(frozen=True)
class UNetPlusPlusConfig(Padded):
    """What varies; the defaults have 9,163,560 parameters, of them 66 in each of the four heads.

    Args:
        in_channels: channels of the image.
        classes: channels of the logits, background included.
        widths: channels of each level, top first.
        prune: build the network up to this level alone, 1 to the lowest; 0 keeps all.
        deep_supervision: a head on each node of the top row; else on the last alone.
        up: `bilinear` or `nearest`.
        one_logit: two classes by one logit, a sigmoid, instead of two.

    Raises:
        ValueError: a figure is out of its range.
    """

    in_channels: int = 3
    classes: int = 2
    widths: tuple[int, ...] = (32, 64, 128, 256, 512)
    prune: int = 0
    deep_supervision: bool = True
    up: str = "bilinear"
    one_logit: bool = False

    def __post_init__(self) -> None:
        check_channels(self, one_logit=self.one_logit)
        if not 2 <= len(self.widths) <= 7 or min(self.widths) < 1:
            raise ValueError(f"need 2 to 7 widths, each at least 1, got {self.widths}")
        if not 0 <= self.prune < len(self.widths):
            raise ValueError(f"need 0 <= prune <= {len(self.widths) - 1}, got {self.prune}")
        if self.prune and not self.deep_supervision:
            raise ValueError("prune needs deep_supervision: without it the last level alone has a head")
        if self.up not in UPSAMPLINGS:
            raise ValueError(f"up = {self.up!r} is not known: need one of {', '.join(UPSAMPLINGS)}")

    @property
    def depth(self) -> int:
        """How often the image is halved."""
        return self.prune or len(self.widths) - 1

    @property
    def stride(self) -> int:
        return int(2**self.depth)

    @property
    def geometry(self) -> Geometry:
        return geometry_of(UNetPlusPlus, self)


PRESETS = {"paper": UNetPlusPlusConfig()}


class UNetPlusPlus(Registered):
    """The network: float images (N, C, H, W) to logits (N, K, H, W), H and W multiples of its stride.

    In training mode with deep supervision: the list of the logits of all heads, the last head's first.
    """

    def __init__(self, config: UNetPlusPlusConfig) -> None:
        super().__init__(config)
        widths, depth = config.widths, config.depth
        self.depth = depth
        inputs = (config.in_channels, *widths)
        self.nodes = nn.ModuleDict()
        for j in range(depth + 1):
            for i in range(depth + 1 - j):
                channels = inputs[i] if j == 0 else j * widths[i] + widths[i + 1]
                self.nodes[f"{i}{j}"] = _double_conv(channels, widths[i])
        levels = range(1, depth + 1) if config.deep_supervision else (depth,)
        classes = 1 if config.one_logit else config.classes
        self.heads = nn.ModuleDict({str(level): nn.Conv2d(widths[0], classes, 1) for level in levels})
        self.pool = nn.MaxPool2d(2)
        self.up = nn.Upsample(scale_factor=2, mode=config.up)
        he_init(self)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        check_window(x, self.config)
        depth = self.depth
        rows: list[list[Tensor]] = []  # rows[i][j] is Xij
        for i in range(depth + 1):
            x = self.nodes[f"{i}0"](x if i == 0 else self.pool(x))  # (N, widths[i], H/2ⁱ, W/2ⁱ)
            rows.append([x])
            for j in range(1, i + 1):  # the diagonal from Xi0 up to X0i
                level = i - j
                below = self.up(rows[level + 1][j - 1])
                rows[level].append(self.nodes[f"{level}{j}"](torch.cat([*rows[level], below], dim=1)))
        if not self.training:
            return class_logits(self.heads[str(depth)](rows[0][depth]))  # (N, K, H, W)
        return [class_logits(head(rows[0][int(level)])) for level, head in reversed(list(self.heads.items()))]


def _double_conv(i: int, o: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (i, o):
        layers += [nn.Conv2d(channels, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)
