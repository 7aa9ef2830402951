"""Crops: pieces of one image in files whose names carry their offset, read as if they were one."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile import __version__
from unettile.box import Box
from unettile.errors import InputError
from unettile.images.fingerprint import Fingerprint
from unettile.images.georeference import Georeference
from unettile.images.listing import list_images
from unettile.images.provenance import CROPS
from unettile.images.slide import open_labels
from unettile.images.units import number
from unettile.wording import counted, size_text

_PLAIN = re.compile(r"(?P<name>.*?)_?y(?P<y>[0-9]+)_x(?P<x>[0-9]+)")
_WHOLE = re.compile(r"[0-9]{1,10}")  # px
_QUPATH = re.compile(
    r"(?P<name>.*?) ?\[(?P<fields>[a-z]+=[^\],]+(?:,[a-z]+=[^\],]+)*)\](?P<role>(?:[ _-][A-Za-z][\w -]*)?)"
)
_FARTHEST = 2**31  # px
_DTYPES = ("uint8", "uint16", "uint32", "float32")


@dataclass(frozen=True)
class CropName:
    """What a file name says: `name_y00384_x00768.tif`, or QuPath's `name [d=4,x=768,y=384,w=512,h=512]-labelled.tif`.

    Args:
        name: of the image, and what QuPath appends for what the crops show.
        y, x: offset, px of the crops.
        size: (height, width) px of the crop, where the name says so.
        downsample: px of the image, of which the name speaks, that one px of the crops is.
    """

    name: str
    y: int
    x: int
    size: tuple[int, int] | None = None
    downsample: float = 1.0

    @classmethod
    def parse(cls, path: Path) -> CropName:
        """Read the name of a crop.

        Raises:
            InputError: it carries no offset, or what is not understood.

        >>> CropName.parse(Path("slide_y00384_x00768.tif"))
        CropName(name='slide', y=384, x=768, size=None, downsample=1.0)
        >>> CropName.parse(Path("slide [d=4,x=800,y=0,w=400,h=200]-labelled.png"))
        CropName(name='slide-labelled', y=0, x=200, size=(50, 100), downsample=4.0)
        """
        plain = _PLAIN.fullmatch(path.stem)
        if plain:
            return cls(plain["name"], *_near(path, int(plain["y"]), int(plain["x"])))
        qupath = _QUPATH.fullmatch(path.stem)
        fields = dict(part.split("=", 1) for part in qupath["fields"].split(",")) if qupath else {}
        if qupath is None or not {"x", "y", "w", "h"} <= fields.keys():
            raise InputError(
                f"{path} has no offset in its name: need name_y00384_x00768{path.suffix} or"
                f" name [x=768,y=384,w=512,h=512]{path.suffix}; rename it, or move it away"
            )
        downsample = number(fields.pop("d", "1"))
        # Of a stack with one plane QuPath names that, too.
        others = {key: value for key, value in fields.items() if key not in "xywh" and value not in ("0", "1")}
        if others or not all(_WHOLE.fullmatch(fields[key]) for key in "xywh") or not 1 <= downsample < math.inf:
            raise InputError(
                f"{path} is not understood: [{qupath['fields']}] needs whole numbers x, y, w and h, and may have a"
                " downsampling d of 1 or more; export it again as tiles of one plane"
            )
        y, x, height, width = (round(int(fields[key]) / downsample) for key in "yxhw")
        return cls(qupath["name"] + qupath["role"], *_near(path, y, x), (height, width), downsample)


@dataclass(frozen=True)
class Crop:
    """A file and the pixels of the image that it holds."""

    path: Path
    box: Box


@dataclass(frozen=True)
class CropMosaic:
    """The crops of one image, all of one kind.

    Args:
        crops: by their place.
        shape: of the image, px.
        channels, dtype, pixel_size_um: of every crop.
        start: where the image begins, (y, x) px, in the one that was cut; (0, 0) unless the crops are of a part.
        georeference: where on earth the image lies; None unless every crop says so, and they agree.
    """

    crops: tuple[Crop, ...]
    shape: tuple[int, int]
    channels: int
    dtype: np.dtype[Any]
    pixel_size_um: tuple[float, float] | None
    start: tuple[int, int] = (0, 0)
    georeference: Georeference | None = None

    @classmethod
    def of_folder(cls, folder: Path, shape: tuple[int, int] | None = None, region: bool = False) -> CropMosaic:
        """Look at every crop of a folder; no pixels are read.

        Args:
            shape: of the image; None for up to where the last crop ends.
            region: crops are of a part of the image, which begins where the first of them do.

        Raises:
            InputError: a name that is not understood, several images, a crop that is not of the same kind as the
                others, or of another size than its name says, or that reaches past `shape`.
        """
        crops: list[Crop] = []
        names: dict[str, Path] = {}
        kinds: dict[tuple[int, str], Path] = {}
        pixel_size_um = None
        places: list[Georeference | None] = []
        downsamples: dict[float, Path] = {}
        for path in list_images(folder):
            name = CropName.parse(path)
            with open_labels(path, lossy=True) as slide:
                height, width = slide.shape
                kinds.setdefault((slide.channels, slide.dtype.name), path)
                pixel_size_um = pixel_size_um or slide.pixel_size_um
                places.append(None if slide.georeference is None else slide.georeference.moved(-name.y, -name.x))
            names.setdefault(name.name, path)
            downsamples.setdefault(name.downsample, path)
            spare = 0 if name.downsample == 1 else 1  # QuPath rounds as it pleases
            if name.size is not None and max(abs(name.size[0] - height), abs(name.size[1] - width)) > spare:
                raise InputError(
                    f"{path} has {size_text((height, width))}, but its name says {size_text(name.size)}:"
                    " export it again, and do not resize it"
                )
            crops.append(Crop(path, Box(name.y, name.x, name.y + height, name.x + width)))
        if len(names) > 1:
            listed = ", ".join(sorted(names))
            raise InputError(f"{folder} holds crops of {len(names)} images ({listed}): give each its own folder")
        if len(downsamples) > 1:
            (_, one), (_, other) = list(downsamples.items())[:2]
            raise InputError(f"{one} and {other} differ in their downsampling (d): give each its own folder")
        if len(kinds) > 1:
            (first, one), (second, other) = list(kinds.items())[:2]
            raise InputError(
                f"{one} and {other} differ in kind ({_kind(*first)}, {_kind(*second)}):"
                " need one number of channels and one type"
            )
        [(channels, dtype)] = kinds
        if dtype not in _DTYPES:
            raise InputError(f"{crops[0].path} has pixels of type {dtype}: need one of {', '.join(_DTYPES)}")
        start = (0, 0)
        if region:
            start = (min(crop.box.y0 for crop in crops), min(crop.box.x0 for crop in crops))
            crops = [Crop(crop.path, crop.box.relative_to(Box(*start, *start))) for crop in crops]
        extent = (max(crop.box.y1 for crop in crops), max(crop.box.x1 for crop in crops))
        if shape is not None and not Box.of_shape(shape).contains(Box.of_shape(extent)):
            raise InputError(
                f"the crops in {folder} reach to y {extent[0]}, x {extent[1]}, past the image of {size_text(shape)}"
            )
        crops.sort(key=lambda crop: (crop.box, crop.path))
        place = _common(places)
        georeference = None if place is None else place.moved(*start)
        return cls(tuple(crops), shape or extent, channels, np.dtype(dtype), pixel_size_um, start, georeference)

    def provenance(self) -> dict[str, Any]:
        """Return, as metadata, all that decides a pixel: what is in each crop, and where it lies.

        Raises:
            InputError: a crop cannot be read.
        """
        digest = hashlib.sha256()
        for crop in self.crops:
            with open_labels(crop.path) as slide:
                digest.update(
                    json.dumps([crop.box.y0, crop.box.x0, Fingerprint.of(slide).to_dict()], sort_keys=True).encode()
                )
        return {
            "unettile": __version__,
            "content": CROPS,
            "crops": len(self.crops),
            "crops_sha256": digest.hexdigest(),
            "size": list(self.shape),
        }

    def gaps(self) -> list[Box]:
        """Return the boxes of the image that no crop covers, from top to bottom."""
        height, width = self.shape
        rows = sorted({0, height, *(crop.box.y0 for crop in self.crops), *(crop.box.y1 for crop in self.crops)})
        open_gaps: dict[tuple[int, int], int] = {}  # (x0, x1) of the gaps in the row above: where they began
        found: list[Box] = []
        pending = list(self.crops)  # sorted by y0
        active: list[Crop] = []
        for y0, y1 in zip(rows, [*rows[1:], height], strict=True):
            while pending and pending[0].box.y0 <= y0:
                active.append(pending.pop(0))
            active = [crop for crop in active if crop.box.y1 > y0]
            holes = _holes(sorted((crop.box.x0, crop.box.x1) for crop in active), width) if y1 > y0 else []
            found += [Box(top, x0, y0, x1) for (x0, x1), top in open_gaps.items() if (x0, x1) not in holes]
            open_gaps = {hole: open_gaps.get(hole, y0) for hole in holes}
        return sorted(found)

    def reader(self, on_progress: Callable[[int, int], None]) -> Callable[[Box], NDArray[Any]]:
        """Return what gives a canvas its pixels, and refuses overlaps that disagree."""
        total = self.shape[0] * self.shape[1] * self.channels
        done = 0

        def read(box: Box) -> NDArray[Any]:
            nonlocal done
            pixels = self._read(box)
            done = min(total, done + box.area * (1 if self.channels == 1 else self.channels))
            on_progress(done, total)
            return pixels[0] if self.channels == 1 else pixels

        return read

    def _read(self, box: Box) -> NDArray[Any]:
        """Return the pixels of a box without gaps, (C, h, w).

        Raises:
            InputError: two crops disagree.
        """
        result = np.zeros((self.channels, *box.shape), self.dtype)
        filled = np.zeros(box.shape, np.bool_)
        for crop in self.crops:
            part = crop.box.intersect(box)
            if part.is_empty:
                continue
            with open_labels(crop.path, lossy=True) as slide:
                pixels = np.moveaxis(slide.read(part.relative_to(crop.box)), 2, 0)
            place = part.relative_to(box).slices
            before, known = result[(..., *place)], filled[place]
            unequal = known & ~_same(before, pixels).all(axis=0)
            if unequal.any():
                y, x = (int(n) for n in np.argwhere(unequal)[0])
                self._disagree(crop, part.y0 + y, part.x0 + x)
            result[(..., *place)] = pixels
            filled[place] = True
        assert filled.all(), f"a gap in {box}"
        return result

    def _disagree(self, crop: Crop, y: int, x: int) -> None:
        pixel = Box(y, x, y + 1, x + 1)
        other = next(one for one in self.crops if one.box.contains(pixel))
        raise InputError(
            f"{other.path} and {crop.path} disagree where they overlap, first at y {y}, x {x}:"
            " export them again from one image"
        )


def _common(places: Sequence[Georeference | None]) -> Georeference | None:
    """Return where on earth an image lies as its crops say; None unless all do, and agree to a tenth of a pixel."""
    first = places[0]
    agree = first is not None and all(other is not None and first.is_near(other, 0.1) for other in places)
    return first if agree else None


def _near(path: Path, y: int, x: int) -> tuple[int, int]:
    """Return an offset that an image can have; refuse others."""
    if max(y, x) >= _FARTHEST:
        raise InputError(
            f"{path} has an offset in its name that no image has: need less than {_FARTHEST} px; rename it"
        )
    return y, x


def _kind(channels: int, dtype: str) -> str:
    return f"{counted(channels, 'channel')} of {dtype}"


def _same(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.bool_]:
    """Compare element by element; NaN equals NaN."""
    equal: NDArray[np.bool_] = a == b
    return equal if a.dtype.kind != "f" else equal | (np.isnan(a) & np.isnan(b))


def _holes(intervals: list[tuple[int, int]], width: int) -> list[tuple[int, int]]:
    """Return the parts of 0 … width that no interval (sorted) covers."""
    holes, reached = [], 0
    for start, stop in intervals:
        if start > reached:
            holes.append((reached, start))
        reached = max(reached, stop)
    return [*holes, (reached, width)] if reached < width else holes
