"""Zoomed: an image and its labels at another size, resampled by region."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.images.resample import ResampledSlide, Source
from unettile.images.slide import Slide

LARGEST_ZOOM = 8.0
SMALLEST_ZOOM = 1 / 32


class ZoomedSlide(ResampledSlide):
    """An image enlarged by a factor; made smaller, nothing finer than its new pixels is left to alias.

    Args:
        base: the image; closing this closes it.
        zoom: new px for each px of the image.
        level: a lower resolution of the same image, to be read in its stead; None for the image itself.
    """

    def __init__(self, base: Slide, zoom: float, level: Slide | None = None) -> None:
        source = base if level is None else level
        factor = source.downsample[0] / base.downsample[0], source.downsample[1] / base.downsample[1]
        super().__init__(cast(Source, _OfPixels(source, factor)), 1 / zoom)
        self.base, self._level, self.view = base, level, base.view
        self.shape = max(1, round(base.shape[0] * zoom)), max(1, round(base.shape[1] * zoom))
        self.downsample = base.downsample[0] / zoom, base.downsample[1] / zoom
        size = base.pixel_size_um
        self.pixel_size_um = None if size is None else (size[0] / zoom, size[1] / zoom)
        self.georeference = None if base.georeference is None else base.georeference.scaled(1 / zoom, 1 / zoom)
        self.origin_um = base.origin_um
        if base.reader == "zarr" and base.origin_um is not None and size is not None:  # it places centres of pixels
            y, x = ((1 / zoom - 1) / 2 * edge for edge in size)
            self.origin_um = base.origin_um[0] + y, base.origin_um[1] + x

    def close(self) -> None:
        self.base.close()
        if self._level is not None:
            self._level.close()


def zoomed_image(slide: Slide, zoom: float) -> Slide:
    """Return a slide enlarged by `zoom`; see `ZoomedSlide`."""
    return cast(Slide, ZoomedSlide(slide, zoom))


def base_of(slide: Slide) -> Slide:
    """Return the image that a zoomed one is of; any other is its own."""
    return slide.base if isinstance(slide, ZoomedSlide) else slide


class ZoomedLabels:
    """Labels enlarged by `zoom`: each pixel has the id of the one that its centre falls on.

    Args:
        slide: the labels; closing this closes them.
        shape: (H, W) of the image that was enlarged alike.
    """

    def __init__(self, slide: Slide, zoom: float, shape: tuple[int, int]) -> None:
        self._slide, self._zoom, self.shape = slide, zoom, shape

    def read(self, box: Box) -> NDArray[Any]:
        """Return the region (h, w, C)."""
        assert Box.of_shape(self.shape).contains(box), f"{box} lies outside of {self.shape}"
        rows = self._places(box.y0, box.y1, self._slide.shape[0])
        columns = self._places(box.x0, box.x1, self._slide.shape[1])
        y0, x0 = int(rows[0]), int(columns[0])
        pixels = self._slide.read(Box(y0, x0, int(rows[-1]) + 1, int(columns[-1]) + 1))
        return np.ascontiguousarray(pixels[np.ix_(rows - y0, columns - x0)])

    def close(self) -> None:
        self._slide.close()

    def _places(self, start: int, stop: int, length: int) -> NDArray[np.int64]:
        return np.minimum(((np.arange(start, stop) + 0.5) / self._zoom).astype(np.int64), length - 1)


class _OfPixels:
    """A slide whose pixels are taken for so many µm, so that a size in micrometres is a factor."""

    def __init__(self, slide: Slide, size: tuple[float, float]) -> None:
        self._slide, self.pixel_size_um = slide, size

    def __getattr__(self, name: str) -> Any:
        return getattr(self._slide, name)
