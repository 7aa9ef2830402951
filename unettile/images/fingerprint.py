"""Fingerprint: what tells one image from another, as a plan and the metadata of an output hold it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from unettile.errors import InputError
from unettile.images.orientation import UPRIGHT
from unettile.images.slide import Slide, fingerprint
from unettile.typed import Count, Name, Sha256, Shape, Unfit, from_plain


@dataclass(frozen=True)
class Fingerprint:
    """See `unettile.images.slide.fingerprint`, which makes it.

    Args:
        bytes: of the files, or of an array's pixels.
        header_sha256, content_sha256: of the beginning, and of samples.
        reader: what reads it.
        shape: height and width, px.
        dtype: of its pixels, as numpy names it.
        channels: that are read.
        orientation: as TIFF counts them; upright where nothing was turned.

    Raises:
        ValueError: no type of pixels.
    """

    bytes: Count
    header_sha256: Sha256
    content_sha256: Sha256
    reader: Name
    shape: Shape
    dtype: Name
    channels: Annotated[int, Meta(ge=1, le=2**16)]
    orientation: Annotated[int, Meta(ge=1, le=8)] = UPRIGHT

    def __post_init__(self) -> None:
        if self.dtype not in _DTYPES:
            raise ValueError(f"dtype = {self.dtype[:60]!r}, need one of {', '.join(_DTYPES)}")

    @classmethod
    def of(cls, slide: Slide) -> Fingerprint:
        """Take the fingerprint of an image.

        Raises:
            InputError: a file cannot be read, or no plan can hold an image of that size.
        """
        try:
            return from_plain(fingerprint(slide), cls)
        except Unfit as error:
            raise InputError(f"{slide.path} cannot be worked on: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON; an upright image says nothing of how it lies."""
        values = asdict(self) | {"shape": list(self.shape)}
        if self.orientation == UPRIGHT:
            del values["orientation"]
        return values


_DTYPES = tuple(np.dtype(code).name for code in "?bBhHiIlLqQefd")
