"""Zoomed: an image and its labels at another size, as `segment` would resample the image, read by region."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.images.resample import ResampledSlide
from unettile.images.slide import Slide

LARGEST_ZOOM = 8.0
SMALLEST_ZOOM = 1 / 32


def zoomed_image(slide: Slide, zoom: float) -> Slide:
    """Return a slide enlarged by `zoom`; made smaller, nothing finer than its new pixels is left to alias."""
    return cast(Slide, ResampledSlide(cast(Slide, _OfUnitPixels(slide)), 1 / zoom))


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


class _OfUnitPixels:
    """A slide whose pixels are taken for 1 µm, so that a size in micrometres is a factor."""

    pixel_size_um = (1.0, 1.0)

    def __init__(self, slide: Slide) -> None:
        self._slide = slide

    def __getattr__(self, name: str) -> Any:
        return getattr(self._slide, name)
