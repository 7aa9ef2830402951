"""Stains: the optical densities of the dyes of a slide, unmixed from its colours.

Optical density is -log10 of the light that comes through, a channel's value over its largest. Colours are unmixed by
the matrices of scikit-image (Ruifrok and Johnston, Analytical and Quantitative Cytology and Histology 23, 2001).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.errors import UsageError
from unettile.images.slide import Slide

STAINS = {"he": ("haematoxylin", "eosin"), "hdab": ("haematoxylin", "dab")}
"""Stains that are known, and the dyes of each."""

_DARKEST = 1e-6  # of the light; scikit-image takes nothing for darker


class Unmixed:
    """The dyes of a slide as a picture of floating-point channels.

    Args:
        slide: red, green and blue, 8 or 16 bits.
        stains: a key of STAINS.

    Raises:
        UsageError: other channels, or another type.
    """

    dtype: np.dtype[Any] = np.dtype(np.float32)

    def __init__(self, slide: Slide, stains: str) -> None:
        from skimage.color import hdx_from_rgb, hed_from_rgb

        if slide.channels != 3 or slide.dtype not in (np.uint8, np.uint16):
            raise UsageError(
                f"--stains needs an image of red, green and blue of 8 or 16 bits: {slide.path} has {slide.channels}"
                f" channels of {slide.dtype}"
            )
        self._slide = slide
        self.dyes = STAINS[stains]
        self.channels = len(self.dyes)
        matrix = hed_from_rgb if stains == "he" else hdx_from_rgb
        self._matrix = np.asarray(matrix[:, :2], np.float32)
        largest = np.iinfo(slide.dtype).max
        through = np.maximum(np.arange(largest + 1) / largest, _DARKEST)
        self._densities = (-np.log10(through)).astype(np.float32)

    def read(self, box: Box) -> NDArray[np.float32]:
        """Return the optical densities (h, w, C) of a region, 0 or more."""
        density = self._densities[self._slide.read(box)]
        dyes = [
            density[:, :, 0] * row[0] + density[:, :, 1] * row[1] + density[:, :, 2] * row[2] for row in self._matrix.T
        ]
        unmixed: NDArray[np.float32] = np.maximum(np.stack(dyes, axis=2), np.float32(0))
        return unmixed
