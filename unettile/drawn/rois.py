"""ROI sets: regions as ImageJ's ROI Manager saves them, a `.roi` or a `.zip` of many; read by roifile, an extra."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from unettile.drawn.figures import Figure, Figures, means_ignore
from unettile.drawn.shapes import Ring
from unettile.errors import InputError
from unettile.regular import read_regular

INSTALL = "pip install 'unettile[roi]'"

_MOST_BYTES = 2**30  # of a file, and of all regions in it once unpacked
_MOST_REGIONS = 2**22
_AREAS = ("POLYGON", "FREEHAND", "TRACED")
_DAMAGE = (ValueError, TypeError, IndexError, RuntimeError, NotImplementedError, OverflowError, MemoryError)
_NO_AREA_SUBTYPES = ("TEXT", "IMAGE", "ARROW")


def read_rois(path: Path) -> Figures:
    """Return the regions of a file, in its order; lines, points and texts, which hold no pixel, are passed over.

    Raises:
        InputError: roifile is not installed, or the file cannot be read, is damaged, or holds no region.
    """
    try:
        import roifile
    except ImportError:
        raise InputError(f"{path} is ImageJ's: reading it needs roifile, which is not installed: {INSTALL}") from None
    figures = []
    for name, data in _members(path):
        try:
            region: Any = roifile.ImagejRoi.frombytes(data)
            rings = tuple(_rings(region))
        except (*_DAMAGE, ArithmeticError, LookupError) as error:
            text = " ".join(str(error).split())[:100] or type(error).__name__
            raise InputError(f"{path}: {name} is no region that can be read ({text}): save it again") from error
        if rings:
            figures.append(Figure((rings,), means_ignore(str(region.name or ""))))
    return Figures.of(figures)


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the bytes of each region."""
    try:
        content = read_regular(path, _MOST_BYTES)
    except OSError as error:
        raise InputError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error
    if path.suffix.lower() == ".roi":
        yield path.name, content
        return
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            members = [one for one in archive.infolist() if one.filename.lower().endswith(".roi")]
            if not members:
                raise InputError(f"{path} holds no .roi: need the .zip that ImageJ's ROI Manager saves")
            if len(members) > _MOST_REGIONS or sum(one.file_size for one in members) > _MOST_BYTES:
                raise InputError(f"{path} unpacks to more than {_MOST_BYTES >> 30} GiB: need a set of regions")
            for member in members:
                with archive.open(member) as file:  # reads no more than the size that was summed up
                    yield member.filename, file.read(member.file_size)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError) as error:
        text = " ".join(str(error).split())[:100] or type(error).__name__
        raise InputError(f"{path} is no .zip that can be read ({text}): save it again") from error


def _rings(region: Any) -> Iterator[Ring]:
    """Yield the rings of a region; none of what has no area."""
    kind = region.roitype.name
    if region.subtype.name in _NO_AREA_SUBTYPES:
        return
    if region.composite:
        paths = region.path2coords(region.multi_coordinates)
    elif kind in _AREAS:
        paths = [region.coordinates()]
    elif kind in ("RECT", "OVAL"):
        left, top, width, height = region.left, region.top, region.right - region.left, region.bottom - region.top
        if region.subpixelrect:
            left, top, width, height = region.xd, region.yd, region.widthd, region.heightd
        edge = _oval(width, height) if kind == "OVAL" else np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
        paths = [edge * (width, height) + (left, top)]
    else:
        return
    for path in paths:
        ring = np.asarray(path, np.float64).reshape(-1, 2)
        if not np.isfinite(ring).all():
            raise ValueError("a corner is no number")
        yield ring


def _oval(width: float, height: float) -> Ring:
    """Return the ellipse that fills a square of edge 1, by corners so close that it is right to 1/256 px."""
    count = 16 + 4 * math.ceil(math.sqrt(min(abs(max(width, height)), 1e9) * 40))
    turns = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.asarray(0.5 + 0.5 * np.stack([np.cos(turns), np.sin(turns)], axis=1))
