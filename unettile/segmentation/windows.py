"""Windows: what the network reads of a slide, mirrored at its edges, scaled, with the channels that the model takes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.images.mirror import read_mirrored, reflect_indices
from unettile.images.normalize import check_finite
from unettile.images.slide import Slide
from unettile.segmentation.plan import Plan


class WindowReader:
    """Reads windows of a slide as the network wants them: mirrored, scaled, with its channels."""

    def __init__(self, slide: Slide, plan: Plan, channels: int) -> None:
        self._slide, self._plan, self._channels = slide, plan, channels

    def read(self, box: Box) -> NDArray[np.generic]:
        """Return a region that may lie past the image, (h, w, C) in the slide's own type.

        Raises:
            InputError: a pixel that is not a finite number, named in the image's coordinates.
        """
        pixels = read_mirrored(self._slide, box)
        if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
            y, x, _ = np.argwhere(~np.isfinite(pixels))[0].tolist()
            height, width = self._slide.shape
            row = int(reflect_indices(box.y0 + y, box.y0 + y + 1, height)[0])
            column = int(reflect_indices(box.x0 + x, box.x0 + x + 1, width)[0])
            check_finite(pixels[y : y + 1, x : x + 1], Box(row, column, row + 1, column + 1), self._slide.path)
        return pixels

    def scale(self, pixels: NDArray[np.generic]) -> NDArray[np.float32]:
        """Return pixels (…, C) as the network sees them, float32."""
        scaled = self._plan.scaling.apply(pixels)
        if scaled.shape[-1] == self._channels:
            return scaled
        return np.repeat(scaled, self._channels, axis=-1)  # grey for a network of colours, see Checkpoint.grey_to_rgb
