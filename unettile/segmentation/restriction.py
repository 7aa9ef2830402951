"""Restriction: what a plan says of where an image is worked on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from msgspec import Meta

from unettile.images.fingerprint import Fingerprint
from unettile.images.nodata import NoData
from unettile.segmentation.tissue import Background
from unettile.typed import Finite, Sha256


@dataclass(frozen=True)
class Declared:
    """How the image declares pixels without data, as JSON can hold it.

    Args:
        value: that such pixels have; what is not finite by its name.
        opacity: the channel that is 0 there.
        nan: a channel of such pixels is NaN.
    """

    value: Finite | Literal["nan", "inf", "-inf"] | None = None
    opacity: Annotated[int, Meta(ge=0, le=2**16)] | None = None
    nan: bool = False

    @classmethod
    def of(cls, no_data: NoData) -> Declared:
        value = no_data.value
        if value is None or math.isfinite(value):
            return cls(value, no_data.opacity, no_data.nan)
        return cls("nan" if math.isnan(value) else "inf" if value > 0 else "-inf", no_data.opacity, no_data.nan)


@dataclass(frozen=True)
class Drawn:
    """Polygons that say where to work.

    Args:
        count: how many there are.
        sha256: of their corners, px of what the network sees.
    """

    count: Annotated[int, Meta(ge=1, le=2**32)]
    sha256: Sha256


@dataclass(frozen=True)
class Restriction:
    """Where to work: not everywhere.

    Args:
        no_data: how the image declares pixels that hold none; None if all hold some.
        background: what is left out as background, if that is.
        mask: fingerprint of the image that says where, if one does.
        polygons: that say where, if some do.
    """

    no_data: Declared | None = None
    background: Background | None = None
    mask: Fingerprint | None = None
    polygons: Drawn | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON, without what is None."""
        parts = {
            "no_data": None if self.no_data is None else vars(self.no_data),
            "background": None if self.background is None else self.background.to_dict(),
            "mask": None if self.mask is None else self.mask.to_dict(),
            "polygons": None if self.polygons is None else vars(self.polygons),
        }
        return {name: part for name, part in parts.items() if part is not None}
