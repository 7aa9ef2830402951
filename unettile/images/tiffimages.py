"""TIFF images: what a file's pages are together: images with their resolutions, stacks, and companions.

pages --tifffile--> series --here--> images --View--> level --View--> the pages of one plane, a page or more a channel
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

from unettile.images.omexml import safe_xml
from unettile.images.segments import Damaged
from unettile.images.view import View
from unettile.wording import size_text

_COMPANIONS = ("label", "macro", "map", "thumbnail", "overview")
_REDUCED, _MASK = 1, 4  # bits of the tag NewSubfileType


class Unstitched(Exception):
    """A slide whose tiles overlap as its camera took them, so that its pixels are more than the image."""


@dataclass(frozen=True)
class TiffImage:
    """One image of a file.

    Args:
        levels: tifffile's series of its resolutions, the largest first.
        companion: it is a label, a macro photograph, a thumbnail or a mask that goes with another.
        number: of the image among those of the file's metadata.
    """

    levels: tuple[Any, ...]
    companion: bool
    number: int

    @property
    def name(self) -> str:
        """What to call it in a message: its size, and the name that the file gives it."""
        key, name = self.levels[0].keyframe, " ".join(str(self.levels[0].name or "").split())
        return size_text((key.imagelength, key.imagewidth)) + (f" {name[:40]!r}" if name else "")


@dataclass(frozen=True)
class Plane:
    """The pages of one plane.

    Args:
        pages: of its channels, in order.
        within: for each page, the number of the plane in it where a single page stands for a whole stack.
        t, z: which plane it is.
        sample: the one sample of each page that belongs to the plane; None for all of them.
        sampled: the file calls its samples channels or planes, whatever the tags call them.
    """

    pages: tuple[Any, ...]
    within: tuple[int, ...]
    t: int
    z: int
    sample: int | None = None
    sampled: bool = False


def find_images(tif: Any) -> list[TiffImage]:
    """Return the images of an open tifffile.TiffFile, at least one.

    Raises:
        Damaged: there is none.
        Unstitched: it is a Ventana BIF.
    """
    if len(tif.pages) == 0:
        raise Damaged("it holds no image")
    if tif.is_bif:
        raise Unstitched
    try:
        series = list(tif.series)
    except Exception:  # a description that only looks like one of the forms that tifffile knows
        if len(tif.pages) > 1:
            raise
        return [TiffImage((_Lone(tif.pages.first),), False, 0)]
    if not series:
        raise Damaged("it holds no image")
    _check_promise(tif, series)
    overviews = _scn_overviews(tif) if tif.is_scn else frozenset()
    images: list[TiffImage] = []
    for number, one in enumerate(series):
        base = next((place for place, image in enumerate(images) if not image.companion), None)
        named = any(word in str(one.name or "").lower() for word in _COMPANIONS) or number in overviews
        flags = int(one.keyframe.subfiletype)
        if base is not None and not named and not flags & _MASK and _is_smaller(one.keyframe, images[base]):
            levels = (*images[base].levels, *one.levels)
            images[base] = TiffImage(levels, False, images[base].number)
        else:
            companion = named or (number > 0 and bool(flags & (_REDUCED | _MASK | 8)))
            images.append(TiffImage(tuple(one.levels), companion, number))
    if all(image.companion for image in images):
        images[0] = TiffImage(images[0].levels, False, images[0].number)
    return images


def find_plane(tif: Any, level: Any, view: View) -> Plane:
    """Return the pages of the plane that a view chooses from a level.

    Raises:
        Damaged: a stack whose planes cannot be told apart, or that is not in this file.
        NoSuchImage: a plane that is not there.
    """
    key = level.keyframe
    if int(getattr(key, "imagedepth", 1)) > 1:
        raise Damaged(
            f"it is a stack of planes in one page ({key.imagedepth} along Z); save the plane that you mean to a file"
        )
    # Axes of length 1 say nothing; those within a page are rows, columns and samples.
    axes = [(axis, int(n)) for axis, n in zip(level.axes, level.shape, strict=True) if n > 1 and axis not in "YXS"]
    sampled = _axis_of_samples(level)
    pages = level.pages  # of a long film, those that are not asked for are not looked at
    count = math.prod(n for axis, n in axes if axis != sampled)
    inside = len(pages) == 1 and count > 1
    if len(pages) != count and not inside:
        raise Damaged("its planes are not stored as pages of their own; save it as a plain TIFF")
    depth = _depth_axis([axis for axis, _ in axes])
    t = view.pick_plane("t", dict(axes).get("T", 1))
    z = view.pick_plane("z", dict(axes).get(depth, 1))
    chosen = []
    for channel in range(dict(axes).get("C", 1) if sampled != "C" else 1):
        place = {"C": channel, "T": t, depth: z}
        index = 0
        for axis, n in axes:
            index = index if axis == sampled else index * n + place[axis]
        chosen.append(index)
    sample = {"T": t, depth: z}.get(sampled or "")
    if inside:
        return Plane((pages[0],) * len(chosen), tuple(chosen), t, z, sample, sampled is not None)
    picked = tuple(pages[index] for index in chosen)
    if any(page is None for page in picked):
        raise Damaged("a plane of it is missing from the file; get a complete copy")
    if any(page.parent is not tif for page in picked):
        raise Damaged("its pixels are in other files; save it as one file")
    return Plane(picked, (0,) * len(picked), t, z, sample, sampled is not None)


def _axis_of_samples(level: Any) -> str | None:
    """Return the axis that the samples of a pixel lie along, where the file calls it other than samples.

    Writers store three or four channels, or planes of a stack, as the samples of one page.
    """
    key = level.keyframe
    if key.samplesperpixel == 1 or "S" in level.axes:
        return None
    place = -1 if key.planarconfig == 1 else -3  # behind the columns, or before the rows
    fits = len(level.axes) >= 3 and level.shape[place] == key.samplesperpixel
    return str(level.axes[place]) if fits else None


class _Lone:
    """A page as the one level of an image, in the form of tifffile's series."""

    name = ""
    kind = "page"

    def __init__(self, page: Any) -> None:
        self.keyframe = page
        self.pages = [page]
        self.axes, self.shape = page.axes, page.shape


def _check_promise(tif: Any, series: Sequence[Any]) -> None:
    """Refuse a stack of one page that ends too early: tifffile takes what is left of it for an image by itself.

    Raises:
        Damaged: planes are missing.
    """
    text = str(tif.pages.first.description or "")
    if len(tif.pages) > 1 or len(series) != 1 or not math.prod(tif.pages.first.shape):
        return
    promised = 1
    stated = re.search(r"^images=(\d+)$", text, re.MULTILINE)
    if text.startswith("ImageJ=") and stated:
        promised = int(stated.group(1)) * math.prod(tif.pages.first.shape)
    elif text.startswith("{") and '"truncated": true' in text and tif.is_shaped:
        promised = math.prod(json.loads(text)["shape"])
    if promised > math.prod(series[0].shape):
        raise Damaged("it is truncated: planes that its description announces are missing; get a complete copy")


def _depth_axis(axes: Sequence[str]) -> str:
    """Return the axis that --z counts along: Z, or the only one whose meaning the file does not state.

    Raises:
        Damaged: there are several such.
    """
    unknown = [axis for axis in axes if axis not in "CTZ"]
    if len(unknown) + ("Z" in axes) > 1:
        raise Damaged(
            f"it is a stack along {', '.join(axes)}, of which only C, T and Z are understood;"
            " save the plane that you mean to its own file"
        )
    return unknown[0] if unknown else "Z"


def _is_smaller(key: Any, image: TiffImage) -> bool:
    """Tell whether a page is a further resolution of an image: smaller, of the same type and form."""
    big, last = image.levels[0].keyframe, image.levels[-1].keyframe
    if key.imagewidth >= last.imagewidth or key.imagelength >= last.imagelength:
        return False
    # The same form up to the rounding of one pixel.
    form = key.imagewidth * big.imagelength - key.imagelength * big.imagewidth
    return bool(
        abs(form) <= big.imagewidth + big.imagelength
        and key.samplesperpixel == big.samplesperpixel
        and key.dtype == big.dtype
    )


def _scn_overviews(tif: Any) -> frozenset[int]:
    """Return which images of a Leica SCN show the whole slide: their frame is that of the collection."""
    root = safe_xml(str(tif.pages.first.description))
    found, number = set(), 0
    for collection in () if root is None else (one for one in root if one.tag.endswith("collection")):
        for image in (one for one in collection if one.tag.endswith("image")):
            frames = [one for one in image if one.tag.endswith("view")]
            if frames and all(_same(frames[0], collection, name) for name in ("sizeX", "sizeY")):
                found.add(number)
            number += sum(1 for one in image if one.tag.endswith("pixels"))
    return frozenset(found)


def _same(first: ElementTree.Element, second: ElementTree.Element, name: str) -> bool:
    return first.get(name) is not None and first.get(name) == second.get(name)
