"""Outlines as a zip file of ImageJ's regions of interest, which its ROI Manager opens.

A region without holes is a polygon; one with holes, or of several parts, is a path. Far from the image's corner, and of
a mask that is not of the largest resolution, coordinates are of floating point.
"""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unettile.objects.polygons import Outline, Polygons

DIGITS = 7
"""Of the names, so that they sort; more if need be."""

_VERSION = 228
_POLYGON, _COMPOSITE = 0, 1
_SUB_PIXEL = 128
_MOVE, _LINE, _CLOSE = 0.0, 1.0, 4.0
_SHORT = 2**15 - 1


def write_rois(path: Path, polygons: Polygons, downsample: tuple[float, float]) -> None:
    """Write one region an object, named by its id; coordinates are px of the image's largest resolution.

    Raises:
        OSError: the file cannot be written.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for outline in polygons:
            # A date of its own would make other bytes of the same objects.
            member = zipfile.ZipInfo(f"{outline.number:0{DIGITS}d}.roi", (1980, 1, 1, 0, 0, 0))
            archive.writestr(member, roi_bytes(outline, downsample), zipfile.ZIP_DEFLATED, 1)


def roi_bytes(outline: Outline, downsample: tuple[float, float] = (1.0, 1.0)) -> bytes:
    """Return an outline as ImageJ stores it, big-endian."""
    rings = [ring * np.array(downsample[::-1]) for ring in outline.rings]
    points = np.concatenate(rings)
    left, top = np.floor(points.min(axis=0)).astype(int)
    right, bottom = np.ceil(points.max(axis=0)).astype(int)
    bounds = [min(int(edge), _SHORT) for edge in (top, left, bottom, right)]
    if len(rings) > 1 or len(rings[0]) > _SHORT:
        path = np.concatenate([_drawn(ring) for ring in rings]).astype(">f4")
        return _header(_COMPOSITE, bounds, 0, path.size, 0) + bytes(path.tobytes())
    whole = downsample == (1.0, 1.0) and max(bottom, right) < _SHORT
    corner = np.array((left, top))
    near = np.minimum((rings[0] - corner).astype(np.int64), _SHORT).astype(">i2")
    data = near[:, 0].tobytes() + near[:, 1].tobytes()
    if not whole:
        exact = rings[0].astype(">f4")
        data += exact[:, 0].tobytes() + exact[:, 1].tobytes()
    return _header(_POLYGON, bounds, len(near), 0, 0 if whole else _SUB_PIXEL) + bytes(data)


def _header(kind: int, bounds: list[int], count: int, path: int, options: int) -> bytes:
    """Return the 64 bytes that a region begins with."""
    top, left, bottom, right = bounds
    return b"".join(
        (
            struct.pack(">4sHBx4hH", b"Iout", _VERSION, kind, top, left, bottom, right, count),
            bytes(16),  # coordinates of a line
            struct.pack(">hiii", 0, path, 0, 0),  # width of its line, floats of a composite, colours
            struct.pack(">hh", 0, options),
            bytes(4),  # arrows
            struct.pack(">ii", 0, 0),  # position in a stack, second header
        )
    )


def _drawn(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the path of a ring: move, lines, close."""
    steps = np.empty((len(ring), 3))
    steps[:, 0], steps[0, 0], steps[:, 1:] = _LINE, _MOVE, ring
    return np.append(steps.ravel(), _CLOSE)
