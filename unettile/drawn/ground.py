"""Ground: the pixels that shapes are drawn on, and how coordinates in a file become theirs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unettile.drawn.geojson import Drawing
from unettile.drawn.shapes import Shapes
from unettile.errors import InputError
from unettile.images.georeference import Georeference
from unettile.images.projection import LONLAT, project


@dataclass(frozen=True)
class Ground:
    """An image's pixels.

    Args:
        shape: height and width, px.
        downsample: how many pixels of the image's largest resolution one is, (y, x).
        georeference: where on earth they lie; None where the image does not say.
        scale: pixels that are drawn on for each of those that `downsample` and `georeference` are of.
    """

    shape: tuple[int, int]
    downsample: tuple[float, float] = (1.0, 1.0)
    georeference: Georeference | None = None
    scale: float = 1.0

    def place(self, drawing: Drawing, path: Path) -> Shapes:
        """Return shapes in these pixels.

        Coordinates are px of the image's largest resolution, or, of an image that has a place on earth, of the
        coordinate system that the file names, else longitude and latitude.

        Raises:
            InputError: coordinates that cannot be brought to those of the image, or none that lies on it.
        """
        corners, what = drawing.shapes.corners, "px of the image's largest resolution"
        if self.georeference is None:
            placed = corners / np.array(self.downsample[::-1])
        else:
            epsg = LONLAT if drawing.epsg is None else drawing.epsg
            what = "longitude and latitude" if epsg == LONLAT else f"coordinates of EPSG:{epsg}"
            if self.georeference.affine is None:
                raise InputError(f"{path} cannot be placed: the image has ground control points alone; warp it first")
            own = self.georeference.epsg
            if own is None:
                raise InputError(f"{path} cannot be placed: EPSG has no number for the image's coordinate system")
            placed = self.georeference.to_pixels(*project(corners, epsg, own).T)
        shapes = drawing.shapes.placed(placed * self.scale)
        y0, x0, y1, x1 = shapes.bounds.T
        if not ((y1 > 0) & (x1 > 0) & (y0 < self.shape[0]) & (x0 < self.shape[1])).any():
            raise InputError(f"{path}: no polygon lies on the image; its coordinates are taken for {what}")
        return shapes
