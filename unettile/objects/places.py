"""Places: the corners of objects in the coordinates of a map, in which GIS programs read polygons."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.errors import InputError
from unettile.images.georeference import Georeference
from unettile.images.projection import LONLAT, project

_MOST_DECIMALS = 12


@dataclass(frozen=True)
class Places:
    """How corners, in px of a mask, become places on earth.

    Args:
        georeference: of the mask's pixels.
        lonlat: in longitude and latitude (RFC 7946) rather than in the map's own coordinates.

    Raises:
        InputError: the map's coordinate system has no number, or no affine map leads to it.
    """

    georeference: Georeference
    lonlat: bool = False
    decimals: int = field(init=False)
    """Behind the point, so that a thousandth of a pixel shows."""

    def __post_init__(self) -> None:
        if self.georeference.affine is None:
            raise InputError("the mask has ground control points alone: warp its map first, or give --pixels")
        if self.georeference.epsg is None:
            raise InputError(
                "EPSG has no number for the coordinate system of the mask, by which GeoJSON could name it: warp its map"
                " to one that has, or give --pixels"
            )
        x, y = self.of(np.array([0, 1, 0]), np.array([0, 0, 1]))
        step = min(math.hypot(x[1] - x[0], y[1] - y[0]), math.hypot(x[2] - x[0], y[2] - y[0]))
        object.__setattr__(self, "decimals", max(0, min(_MOST_DECIMALS, math.ceil(3 - math.log10(step)))))

    def of(self, x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return where corners (n,) lie, x or longitude first.

        Raises:
            InputError: there is no such place, or pyproj, which longitude and latitude need, is not installed.
        """
        places = self.georeference.to_map(x, y)
        if self.lonlat and self.georeference.epsg is not None:
            places = project(places, self.georeference.epsg, LONLAT)
        return np.ascontiguousarray(places[:, 0]), np.ascontiguousarray(places[:, 1])

    @property
    def turns(self) -> bool:
        """Whether what runs clockwise in px runs counterclockwise on the map."""
        a, b, _, d, e, _ = self.georeference.affine or (1, 0, 0, 0, 1, 0)
        return a * e < b * d

    @property
    def crs(self) -> dict[str, Any] | None:
        """The coordinate system as GeoJSON names it; None for longitude and latitude, which need no name."""
        if self.lonlat:
            return None
        return {"type": "name", "properties": {"name": f"urn:ogc:def:crs:EPSG::{self.georeference.epsg}"}}
