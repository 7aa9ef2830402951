"""Projection: places on earth from one coordinate system to another, by PROJ, an extra."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.errors import InputError

LONLAT = 4326
"""EPSG's number of longitude and latitude on the WGS 84 ellipsoid, in which GeoJSON is that says nothing else."""

INSTALL = "pip install 'unettile[maps]'"


def project(places: NDArray[np.float64], epsg: int, into: int) -> NDArray[np.float64]:
    """Return places (N, 2), x or longitude first, in another coordinate system.

    Args:
        epsg, into: the numbers of both systems in EPSG's register.

    Raises:
        InputError: pyproj is not installed, does not know a system, or a place has none in the other.
    """
    if epsg == into:
        return places
    try:
        import pyproj
    except ImportError:
        raise InputError(
            f"coordinates of EPSG:{epsg} in EPSG:{into} need pyproj, which is not installed: {INSTALL}"
        ) from None
    try:
        transformer: Any = pyproj.Transformer.from_crs(epsg, into, always_xy=True)
        x, y = transformer.transform(places[:, 0], places[:, 1])
    except pyproj.exceptions.ProjError as error:
        text = " ".join(str(error).split())[:120]
        raise InputError(f"coordinates of EPSG:{epsg} cannot be brought to EPSG:{into}: {text}") from error
    found = np.stack([x, y], axis=1)
    if not np.isfinite(found).all():
        bad = places[int(np.argmin(np.isfinite(found).all(axis=1)))].tolist()
        raise InputError(f"EPSG:{into} has no place for x {bad[0]:g}, y {bad[1]:g} of EPSG:{epsg}")
    return found
