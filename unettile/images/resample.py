"""Resampling: a slide at another pixel size, as a pure function of global coordinates.

Pixel i of the result has its centre at (i + 1/2) · scale in the source. It is the mean of the source pixels around that
point, weighted by a triangle whose half-width is the larger of both pixels, so that nothing finer is left to alias:

    source   |  0  |  1  |  2  |  3  |  4  |  5  |
    weight       .·´ `·.     of result pixel 0, at scale 1.5; what would lie past the image has none
    result   |    0    |    1    |    2    |    3

Weights depend on i and the scale alone, and their products are summed one after the other, in a fixed order: a region
holds exactly the pixels that the whole image has there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.images.georeference import Georeference
from unettile.images.nodata import NoData
from unettile.images.pixelsize import PixelSize
from unettile.images.spacing import Spacing
from unettile.images.view import NoSuchImage, View

LARGEST_FACTOR = 64.0
"""Further than by this factor no pixel is stretched or shrunk: the pixel size asked for must be a mistake."""

BAND_PIXELS = 2**20
"""Source pixels held at once, about."""


class Source(Protocol):
    """What is resampled; `unettile.images.slide.Slide` says what the parts mean."""

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
    def known(self, box: Box) -> NDArray[np.bool_] | None: ...
    @property
    def view(self) -> View: ...
    def read(self, box: Box) -> NDArray[Any]: ...
    def close(self) -> None: ...


class ResampledSlide:
    """A slide whose pixels have another size, and are square.

    Args:
        source: a slide that knows its pixel size; closing this closes it.
        mpp: edge of the new pixels, micrometres.

    Raises:
        NoSuchImage: the size differs beyond LARGEST_FACTOR.
    """

    def __init__(self, source: Source, mpp: float) -> None:
        assert source.pixel_size_um is not None
        self._source = source
        y, x = source.pixel_size_um
        self._scale = mpp / y, mpp / x
        if not all(1 / LARGEST_FACTOR <= scale <= LARGEST_FACTOR for scale in self._scale):
            raise NoSuchImage(
                f"--mpp {mpp:g} is too far from its pixels of {y:g} × {x:g} µm: need a size within a factor of"
                f" {LARGEST_FACTOR:g}"
            )
        height, width = source.shape
        self.shape = max(1, round(height / self._scale[0])), max(1, round(width / self._scale[1]))
        self.pixel_size_um: PixelSize | None = (mpp, mpp)
        self.spacing = source.spacing
        self.downsample = source.downsample[0] * self._scale[0], source.downsample[1] * self._scale[1]
        self.path, self.reader, self.files = source.path, source.reader, source.files
        self.orientation, self.no_data, self.lossy = source.orientation, source.no_data, source.lossy
        self.channels, self.channel_names, self.dtype = source.channels, source.channel_names, source.dtype
        self.origin_um, self.view = source.origin_um, source.view
        self.georeference = None if source.georeference is None else source.georeference.scaled(*self._scale)
        if source.reader == "zarr" and source.origin_um is not None:  # OME-Zarr places centres of pixels
            self.origin_um = (source.origin_um[0] + (mpp - y) / 2, source.origin_um[1] + (mpp - x) / 2)

    def read(self, box: Box) -> NDArray[Any]:
        """Return the region (h, w, channels) in the source's type; of integers, means are rounded.

        Raises:
            InputError: as the source's.
        """
        assert Box.of_shape(self.shape).contains(box), f"{box} lies outside of {self.shape}"
        out = np.empty((*box.shape, self.channels), self.dtype)
        if box.is_empty:
            return out
        columns = _Taps(box.x0, box.x1, self._scale[1], self._source.shape[1])
        wide = columns.stop - columns.start
        step = max(1, int(BAND_PIXELS / wide / max(1.0, self._scale[0])))
        for y0 in range(box.y0, box.y1, step):
            y1 = min(y0 + step, box.y1)
            rows = _Taps(y0, y1, self._scale[0], self._source.shape[0])
            pixels = self._source.read(Box(rows.start, columns.start, rows.stop, columns.stop))
            out[y0 - box.y0 : y1 - box.y0] = _as_type(_means(pixels, rows, columns), self.dtype)
        return out

    def known(self, box: Box) -> NDArray[np.bool_] | None:
        """Return which pixels (h, w) hold data: those whose centre lies in a pixel that does; None if all do."""
        rows, columns = (
            np.minimum(((np.arange(start, stop) + 0.5) * scale).astype(np.int64), length - 1)
            for start, stop, scale, length in zip(
                (box.y0, box.x0), (box.y1, box.x1), self._scale, self._source.shape, strict=True
            )
        )
        region = Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)
        known = self._source.known(region)
        return None if known is None else known[np.ix_(rows - region.y0, columns - region.x0)]

    def close(self) -> None:
        self._source.close()

    def __enter__(self) -> ResampledSlide:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Taps:
    """Where the source pixels of result pixels first … last - 1 lie along an axis, and their weights.

    start, stop: of all of them. begin: (n,) of each, counted from `start`. weights: (n, taps); 0 past the image.
    """

    def __init__(self, first: int, last: int, scale: float, length: int) -> None:
        reach = max(scale, 1.0)
        centres = (np.arange(first, last) + 0.5) * scale
        begin = np.floor(centres - reach - 0.5).astype(np.int64) + 1
        near = begin[:, None] + np.arange(math.ceil(2 * reach) + 1)
        weights = np.maximum(0.0, 1.0 - np.abs(near + 0.5 - centres[:, None]) / reach)
        weights[(near < 0) | (near >= length)] = 0.0
        total = np.zeros(len(centres))
        for tap in range(weights.shape[1]):  # in a fixed order, whatever numpy's `sum` would choose
            total += weights[:, tap]
        self.weights = weights / total[:, None]
        self.start, self.stop = max(0, int(near.min())), min(length, int(near.max()) + 1)
        self.begin = begin - self.start


def _means(pixels: NDArray[Any], rows: _Taps, columns: _Taps) -> NDArray[Any]:
    """Return the weighted means (h, w, C) of pixels, which begin at the taps' first row and column."""
    from unettile.images.resample_kernel import mean_columns, mean_rows  # numba takes a second to import

    values = _as_float(pixels)
    height, width, channels = values.shape
    part = np.empty((len(rows.begin), width, channels), values.dtype)
    flat = values.reshape(height, width * channels)
    mean_rows(flat, rows.begin, rows.weights.astype(values.dtype), part.reshape(len(part), -1))
    means = np.empty((len(part), len(columns.begin), channels), values.dtype)
    mean_columns(part, columns.begin, columns.weights.astype(values.dtype), means)
    return means


def _as_float(pixels: NDArray[Any]) -> NDArray[Any]:
    narrow = pixels.dtype.itemsize < 4 or pixels.dtype == np.float32
    return np.ascontiguousarray(pixels, np.float32 if narrow else np.float64)


def _as_type(means: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    if dtype.kind == "f":
        return means.astype(dtype)
    ends = np.iinfo(dtype)
    top = float(ends.max)
    if top > ends.max:  # the largest 64-bit integers are no doubles
        top = float(np.nextafter(top, 0.0))
    whole: NDArray[Any] = np.clip(np.rint(means), ends.min, top).astype(dtype)
    return whole
