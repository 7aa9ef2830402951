"""Outlines as a zip file of ImageJ's regions of interest, which its ROI Manager opens.

A region without holes is a polygon; one with holes, or of several parts, is a path. Far from the image's corner, and of
a mask that is not of the largest resolution, coordinates are of floating point.
"""

from __future__ import annotations

import struct
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unettile.objects.plane import SINGLE, Plane
from unettile.objects.polygons import Outline, Outlined

DIGITS = 7
"""Of the names, so that they sort; more if need be."""

_VERSION = 228
_POLYGON, _COMPOSITE = 0, 1
_SUB_PIXEL = 128
_MOVE, _LINE, _CLOSE = 0.0, 1.0, 4.0
_SHORT = 2**15 - 1
_FIRST, _SECOND = 64, 64  # bytes of both headers


class RoiFile:
    """Writes one region an object, named by its id; coordinates are px of the image's largest resolution.

    Of a stack a region has the position of its plane, and before its id the numbers of the plane as ImageJ counts them.

    Args:
        path: overwritten; a temporary one.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._archive = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1)

    def add(self, found: Outlined) -> None:
        """Write the objects of a plane.

        Raises:
            OSError: the file cannot be written.
        """
        for outline in found.polygons:
            # A date of its own would make other bytes of the same objects.
            name = f"{_place_name(found.plane)}{outline.number:0{DIGITS}d}.roi"
            member = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            data = roi_bytes(outline, found.record.downsample, found.plane)
            self._archive.writestr(member, data, zipfile.ZIP_DEFLATED, 1)

    def finish(self) -> None:
        """Write the end."""
        self._archive.close()

    def close(self) -> None:
        """Let go of a file that is not finished."""
        with suppress(OSError, ValueError):
            self._archive.close()


def _place_name(plane: Plane) -> str:
    """Return slice and frame, or of a film frame and slice, each counted from 1.

    Where ImageJ shows a stack of one axis it takes the first number, of four digits at least, for the place in it.
    """
    numbers = plane.z, plane.t
    if not plane.axes:
        return ""
    return "".join(f"{(number or 0) + 1:04d}-" for number in (numbers if "z" in plane.axes else reversed(numbers)))


def roi_bytes(outline: Outline, downsample: tuple[float, float] = (1.0, 1.0), plane: Plane = SINGLE) -> bytes:
    """Return an outline as ImageJ stores it, big-endian."""
    body = _body(outline, downsample)
    if not plane.axes:
        return body
    t, z = (0 if number is None else number + 1 for number in (plane.t, plane.z))
    # The second header follows the rest; the first one says at its end where.
    second = struct.pack(">4i", 0, 0, z, t) + bytes(_SECOND - 16)
    return body[: _FIRST - 4] + struct.pack(">i", len(body)) + body[_FIRST:] + second


def _body(outline: Outline, downsample: tuple[float, float]) -> bytes:
    """Return an outline of no stack."""
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
