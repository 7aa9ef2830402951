"""No data: pixels that hold none, as their file declares; they take no part in anything, and give the model no edges.

A file declares a number that stands for "no data" (the GDAL_NODATA tag of maps and of some microscopes), or that a
channel is opacity: where it is 0, colours mean nothing. A channel that is only said to be opacity, and whose numbers
are those of a stain, is one: some writers call every fourth channel so. Among real numbers NaN declares itself: it is
none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.errors import InputError
from unettile.images.georeference import Georeference
from unettile.images.normalize import sample_boxes
from unettile.images.pixelsize import PixelSize
from unettile.images.spacing import Spacing
from unettile.images.view import View

OPAQUE_OR_NOT = 0.9
"""Of the numbers of an opacity at least so many are 0 or the largest there can be."""


@dataclass(frozen=True)
class NoData:
    """How a file declares that a pixel holds no data.

    Args:
        value: that every channel of such a pixel has; None if there is none.
        opacity: the number, among all that are stored, of the channel that is 0 there; None if there is none.
        nan: a pixel of which a channel is NaN holds none.
    """

    value: float | None = None
    opacity: int | None = None
    nan: bool = False

    @classmethod
    def of(cls, value: float | None, opacity: int | None, dtype: np.dtype[Any]) -> NoData:
        """Return what a declaration means in pixels of a type."""
        return cls(None if value is None or value != value else value, opacity, dtype.kind == "f")

    def found(self, pixels: NDArray[Any]) -> NDArray[np.bool_]:
        """Return which of the pixels (h, w, C) hold data as far as their own numbers say."""
        known = np.ones(pixels.shape[:2], np.bool_)
        if self.value is not None:
            known &= (pixels != pixels.dtype.type(self.value)).any(axis=2)
        if self.nan:
            known &= ~np.isnan(pixels).any(axis=2)
        return known


ALL_DATA = NoData()
"""Every pixel holds data, as far as the file says."""


class Source(Protocol):
    """What may hold pixels without data; `unettile.images.slide.Slide` says what the parts mean."""

    @property
    def path(self) -> Path: ...
    @property
    def reader(self) -> str: ...
    @property
    def files(self) -> Sequence[Path]: ...
    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def channels(self) -> int: ...
    @property
    def channel_names(self) -> tuple[str, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def pixel_size_um(self) -> PixelSize | None: ...
    @property
    def spacing(self) -> Spacing: ...
    @property
    def downsample(self) -> tuple[float, float]: ...
    @property
    def origin_um(self) -> tuple[float, float] | None: ...
    @property
    def georeference(self) -> Georeference | None: ...
    @property
    def orientation(self) -> int: ...
    @property
    def no_data(self) -> NoData: ...
    @property
    def lossy(self) -> bool: ...
    @property
    def view(self) -> View: ...
    def read(self, box: Box) -> NDArray[Any]: ...
    def close(self) -> None: ...


class FilledSlide:
    """A slide whose pixels without data have the middle intensity of those that hold some.

    Args:
        source: a slide that declares such pixels; closing this closes it.
        opacity: the same image with the one channel that is its opacity; None if it has none.

    Raises:
        InputError: no pixel that was sampled holds data, or the image cannot be read.
    """

    def __init__(self, source: Source, opacity: Source | None = None) -> None:
        self._source, self._opacity = source, opacity
        self.path, self.view, self.reader, self.files = source.path, source.view, source.reader, source.files
        self.shape, self.channels, self.dtype = source.shape, source.channels, source.dtype
        self.channel_names, self.pixel_size_um = source.channel_names, source.pixel_size_um
        self.spacing, self.downsample, self.origin_um = source.spacing, source.downsample, source.origin_um
        self.orientation, self.no_data, self.lossy = source.orientation, source.no_data, source.lossy
        self.georeference = source.georeference
        self._fill: NDArray[Any] | None = None
        try:
            if opacity is not None and not _is_opacity(opacity):
                opacity.close()
                self._opacity = None
            if self.no_data.value is not None or self._opacity is not None:
                self._fill = self._middle()
        except InputError:
            self.close()
            raise

    def read(self, box: Box) -> NDArray[Any]:
        """Return the region (h, w, channels); errors as the source's."""
        pixels = self._source.read(box)
        known = self._known(box, pixels)
        if known.all():
            return pixels
        if self._fill is None:  # most images of real numbers hold no NaN: they are not measured for it
            self._fill = self._middle()
        return np.where(known[..., None], pixels, self._fill)

    def known(self, box: Box) -> NDArray[np.bool_] | None:
        """Return which pixels (h, w) of a region hold data; None if all of the image do."""
        if self.no_data.value is None and self._opacity is None and not self.no_data.nan:
            return None
        return self._known(box, self._source.read(box))

    def close(self) -> None:
        self._source.close()
        if self._opacity is not None:
            self._opacity.close()

    def __enter__(self) -> FilledSlide:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _known(self, box: Box, pixels: NDArray[Any]) -> NDArray[np.bool_]:
        known = self.no_data.found(pixels)
        if self._opacity is not None:
            known &= self._opacity.read(box)[..., 0] != 0
        return known

    def _middle(self) -> NDArray[Any]:
        """Return the median of each channel over the sampled pixels that hold data."""
        parts = []
        for box in sample_boxes(self.shape):
            pixels = self._source.read(box)
            parts.append(pixels[self._known(box, pixels)])
        sample = np.concatenate(parts)
        if len(sample) == 0:
            raise InputError(f"{self.path}: none of its pixels holds data, as it declares; need some that do")
        middle: NDArray[Any] = np.percentile(sample, 50, axis=0, method="lower").astype(self.dtype)
        return middle


def stored_number(text: Any, dtype: np.dtype[Any]) -> float | None:
    """Return the number that a declaration of no data means in pixels of a type; None if none of them can be it."""
    try:
        value = float(str(text).strip().rstrip("\0"))
    except ValueError:
        return None
    if dtype.kind == "f":
        return value
    whole = value == value and abs(value) < 2**53 and value == int(value)
    limits = np.iinfo(dtype) if dtype.kind in "iu" else None
    return value if limits is not None and whole and limits.min <= value <= limits.max else None


def _is_opacity(slide: Source) -> bool:
    """Whether a channel that is said to be opacity has the numbers of one: some 0, most the largest, few between."""
    top = np.iinfo(slide.dtype).max if slide.dtype.kind in "iu" else 1
    pixels = clear = opaque = 0
    for box in sample_boxes(slide.shape):
        numbers = slide.read(box)
        pixels += numbers.size
        clear += int(np.count_nonzero(numbers == 0))
        opaque += int(np.count_nonzero(numbers == top))
    return opaque > 0 and clear + opaque >= OPAQUE_OR_NOT * pixels
