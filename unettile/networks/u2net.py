"""U²-Net: Qin, Zhang, Huang, Dehghan, Zaiane, Jagersand, "U²-Net: Going Deeper with Nested U-Structure", 2020, fig. 5.

    En1 RSU-7 ──────────────────────────────▶ De1 RSU-7 ─ 3×3 ─ side 1 ─┐
     ↓ 2×2 max                                 ↑ ×2                      │
     En2 RSU-6 ─────────────────────────▶ De2 RSU-6 ─ 3×3 ─ ×2  side 2 ──┤
      ↓                                    ↑                             │
      En3 RSU-5 ────────────────────▶ De3 RSU-5 ─ 3×3 ─ ×4      side 3 ──┤
       ↓                               ↑                                 ├─ 1×1 ─ logits
       En4 RSU-4 ───────────────▶ De4 RSU-4 ─ 3×3 ─ ×8          side 4 ──┤
        ↓                          ↑                                     │
        En5 RSU-4F ──────────▶ De5 RSU-4F ─ 3×3 ─ ×16           side 5 ──┤
         ↓                      ↑                                        │
         En6 RSU-4F ────────────┴──── 3×3 ─ ×32                 side 6 ──┘

RSU-L is a U-Net of L levels inside a residual (figure 2e): 3×3 convolutions with batch norm and ReLU, the lowest
dilated by 2. RSU-4F pools nothing and dilates by 1, 2, 4 and 8 instead.

What a pixel depends on is a square of thousands of px, so no window is large enough to be exact: the geometry has a
margin of `MARGIN` px and says `exact=False`. Departures: the bilinear upsampling has its centres at half pixels, and
windows are multiples of 32 px, so that no pooling rounds up.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from unettile.geometry import Geometry
from unettile.networks.blocks import Registered, check_window, class_logits, he_init
from unettile.networks.config import Padded, check_channels

STRIDE = 32
MARGIN = 320  # px
LEVELS = (7, 6, 5, 4)  # of the RSU of stages 1 to 4; stages 5 and 6 have RSU-4F
DILATIONS = (1, 2, 4, 8)


@dataclass(frozen=True)
class U2NetConfig(Padded):
    """What varies; the defaults are the full network (44,009,869 parameters).

    Args:
        in_channels: channels of the image.
        classes: channels of the logits, background included.
        mids, outs: inner and outer channels of the six encoder stages, top first.
        decoder_mids, decoder_outs: of the five decoder stages, top first.
        one_logit: two classes by one logit, a sigmoid, instead of two.

    Raises:
        ValueError: a figure is out of its range.
    """

    in_channels: int = 3
    classes: int = 2
    mids: tuple[int, ...] = (32, 32, 64, 128, 256, 256)
    outs: tuple[int, ...] = (64, 128, 256, 512, 512, 512)
    decoder_mids: tuple[int, ...] = (16, 32, 64, 128, 256)
    decoder_outs: tuple[int, ...] = (64, 64, 128, 256, 512)
    one_logit: bool = True

    def __post_init__(self) -> None:
        check_channels(self, one_logit=self.one_logit)
        for key, count in (("mids", 6), ("outs", 6), ("decoder_mids", 5), ("decoder_outs", 5)):
            values = getattr(self, key)
            if len(values) != count or min(values) < 1:
                raise ValueError(f"need {count} {key}, each at least 1, got {values}")

    @property
    def stride(self) -> int:
        return STRIDE

    @property
    def geometry(self) -> Geometry:
        return Geometry(MARGIN, STRIDE, base=0, exact=False)


FULL = {"paper": U2NetConfig()}
SMALL = {
    "paper": U2NetConfig(mids=(16,) * 6, outs=(64,) * 6, decoder_mids=(16,) * 5, decoder_outs=(64,) * 5),
}


class U2Net(Registered):
    """The network: float images (N, C, H, W) to logits (N, K, H, W), H and W multiples of 32.

    In training mode: a list, the fused logits first, then those of the six sides.
    """

    def __init__(self, config: U2NetConfig) -> None:
        super().__init__(config)
        outs, up = config.outs, config.decoder_outs
        classes = 1 if config.one_logit else config.classes
        self.encoder = nn.ModuleList()
        for i, mid, out, levels in zip((config.in_channels, *outs), config.mids, outs, (*LEVELS, 0, 0), strict=False):
            self.encoder.append(RSU(levels, i, mid, out) if levels else RSU4F(i, mid, out))
        self.decoder = nn.ModuleList()
        below = (*up[1:], outs[5])
        for i, skip, mid, out, levels in zip(below, outs, config.decoder_mids, up, (*LEVELS, 0), strict=False):
            self.decoder.append(RSU(levels, i + skip, mid, out) if levels else RSU4F(i + skip, mid, out))
        self.sides = nn.ModuleList(nn.Conv2d(width, classes, 3, padding=1) for width in (*up, outs[5]))
        self.fuse = nn.Conv2d(6 * classes, classes, 1)
        self.pool = nn.MaxPool2d(2)
        self.enlarge = nn.ModuleList(nn.Upsample(scale_factor=2**level, mode="bilinear") for level in range(1, 6))
        he_init(self)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        check_window(x, self.config)
        encoded: list[Tensor] = []
        for stage in self.encoder:
            x = stage(self.pool(x) if encoded else x)  # (N, outs[i], H/2ⁱ, W/2ⁱ)
            encoded.append(x)
        decoded = [encoded.pop()]
        for stage in reversed(self.decoder):
            decoded.append(stage(torch.cat([self.enlarge[0](decoded[-1]), encoded.pop()], dim=1)))
        sides = [side(x) for side, x in zip(self.sides, reversed(decoded), strict=True)]  # (N, K, H/2ⁱ, W/2ⁱ)
        sides = [sides[0], *(enlarge(x) for enlarge, x in zip(self.enlarge, sides[1:], strict=True))]  # (N, K, H, W)
        logits = class_logits(self.fuse(torch.cat(sides, dim=1)))
        return [logits, *(class_logits(side) for side in sides)] if self.training else logits


class ConvNormReLU(nn.Sequential):
    """A padded 3×3 convolution, batch norm and ReLU."""

    def __init__(self, i: int, o: int, dilation: int = 1) -> None:
        conv = nn.Conv2d(i, o, 3, padding=dilation, dilation=dilation)
        super().__init__(conv, nn.BatchNorm2d(o), nn.ReLU(inplace=True))


class RSU(nn.Module):
    """RSU-L: (N, i, h, w) → (N, out, h, w); L - 2 poolings."""

    def __init__(self, levels: int, i: int, mid: int, out: int) -> None:
        super().__init__()
        self.first = ConvNormReLU(i, out)
        self.down = nn.ModuleList([ConvNormReLU(out, mid), *(ConvNormReLU(mid, mid) for _ in range(levels - 2))])
        self.bottom = ConvNormReLU(mid, mid, dilation=2)
        self.up = nn.ModuleList([*(ConvNormReLU(2 * mid, mid) for _ in range(levels - 2)), ConvNormReLU(2 * mid, out)])
        self.pool = nn.MaxPool2d(2)
        self.twofold = nn.Upsample(scale_factor=2, mode="bilinear")

    def forward(self, x: Tensor) -> Tensor:
        beside: Tensor = self.first(x)
        x = beside
        skips: list[Tensor] = []
        for conv in self.down:
            x = conv(self.pool(x) if skips else x)  # (N, mid, h/2ˡ, w/2ˡ)
            skips.append(x)
        x = self.bottom(x)  # as low as the last of `down`
        for conv in self.up:
            skip = skips.pop()
            x = conv(torch.cat([x if x.shape == skip.shape else self.twofold(x), skip], dim=1))
        return x + beside


class RSU4F(nn.Module):
    """RSU-4F: (N, i, h, w) → (N, out, h, w), dilated instead of pooled."""

    def __init__(self, i: int, mid: int, out: int) -> None:
        super().__init__()
        self.first = ConvNormReLU(i, out)
        self.down = nn.ModuleList(ConvNormReLU(mid if d > 1 else out, mid, d) for d in DILATIONS)
        self.up = nn.ModuleList(ConvNormReLU(2 * mid, mid if d > 1 else out, d) for d in DILATIONS[-2::-1])

    def forward(self, x: Tensor) -> Tensor:
        beside: Tensor = self.first(x)
        x = beside
        skips: list[Tensor] = []
        for conv in self.down:
            x = conv(x)
            skips.append(x)
        x = skips.pop()
        for conv in self.up:
            x = conv(torch.cat([x, skips.pop()], dim=1))
        return x + beside
