"""Record: what a mask that unettile wrote says of itself, whatever its format. Nothing else reads these metadata.

TIFF, PNG   the description is JSON
OME-TIFF    an annotation of the OME-XML is
OME-Zarr    the attribute `unettile` of the root is; a label image below the root is described there, too
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tifffile
from msgspec import Meta

from unettile.errors import InputError
from unettile.images.attributes import ome_attributes, read_attributes
from unettile.images.byplane import take_plane
from unettile.images.colours import Colour, distinct_colours
from unettile.images.georeference import Georeference
from unettile.images.idclasses import COUNT_KEY, IdClasses
from unettile.images.omexml import read_omexml
from unettile.images.omezarr import is_group
from unettile.images.palette import read_palette
from unettile.images.png import PNG_SIGNATURE, read_description
from unettile.images.remote import open_binary
from unettile.images.slide import ImageSource, open_labels
from unettile.images.urls import url_of
from unettile.images.view import FIRST, View
from unettile.images.write_imagej import DESCRIBED
from unettile.images.write_omexml import METADATA_NAMESPACE
from unettile.images.write_omezarr import METADATA_KEY
from unettile.typed import Positive, Unfit, from_plain, said

MOST_NAMES = 2**16
"""Classes that a mask may name."""

UNASKED_IDS = 2**20
"""So many ids are taken from metadata without a look at how many pixels there are for them."""

LARGEST_DOWNSAMPLE = 2.0**20

_DO = "take a fresh copy of the mask"
_MARK = "unettile"  # every file of ours states the version under this key
_TIFF_SIGNATURES = (b"II", b"MM")

_Index = Annotated[int, Meta(ge=0, le=2**31 - 1)]
_Downsample = Annotated[float, Meta(ge=1 / LARGEST_DOWNSAMPLE, le=LARGEST_DOWNSAMPLE)]


@dataclass(frozen=True)
class _Seen:
    """The view of the image that a mask was made of; of its channels nothing."""

    series: _Index | None = None
    level: _Index | None = None
    mpp: Positive | None = None
    z: _Index | None = None
    t: _Index | None = None


@dataclass(frozen=True)
class _Stated:
    """Keys of the metadata of a mask, as far as they are read here; a mask that leaves one out has the default."""

    classes: Annotated[tuple[str, ...], Meta(max_length=MOST_NAMES)] = ()
    write: Annotated[tuple[str, ...], Meta(max_length=MOST_NAMES)] = ()
    downsample: tuple[_Downsample, _Downsample] = (1.0, 1.0)
    view: _Seen = _Seen()
    georeference: Georeference | None = None


@dataclass(frozen=True)
class Record:
    """What a mask says of itself; a class without a name has a number for one, and a colour anyway.

    Args:
        names, colours: of classes, by number.
        view: of the image that the mask was made of; no channels.
        downsample: how many pixels of the image's largest resolution a pixel of the mask is, (y, x).
        kind: classes, probabilities, depth or instances; "" if it does not say.
        ids: of an image of instances, the classes of its objects; None if it does not say.
        georeference: where on earth its pixels lie; None if it does not say.
    """

    names: dict[int, str] = field(default_factory=dict)
    colours: dict[int, Colour] = field(default_factory=dict)
    view: View = FIRST
    downsample: tuple[float, float] = (1.0, 1.0)
    kind: str = ""
    ids: IdClasses | None = None
    georeference: Georeference | None = None

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the numbers that pixels have, background first; numbers of instances have none."""
        return tuple(self.names.values()) if self.kind != "instances" else ()

    def name(self, number: int) -> str:
        """Return the name of a class.

        >>> Record({1: "nucleus"}).name(1), Record().name(2)
        ('nucleus', 'class 2')
        """
        return self.names.get(number, f"class {number}")

    def colour(self, number: int) -> Colour:
        """Return the colour of a class; those that have none repeat after 255."""
        return self.colours.get(number) or distinct_colours(256)[(number - 1) % 255 + 1]


def read_metadata(path: Path) -> dict[str, Any]:
    """Return the metadata of a file that unettile wrote; empty where it wrote none, or where they cannot be read.

    Raises:
        OSError: the file cannot be read.
        InputError, Incomplete: a server refuses, or the connection is lost.
    """
    values = read_attributes(path).get(METADATA_KEY) if _is_folder(path) else _of_text(_text(path))
    return values if isinstance(values, dict) and _MARK in values else {}


def read_record(path: ImageSource, series: int | None = None, plane: tuple[int, int] | None = None) -> Record:
    """Return what a mask that unettile wrote says of itself; nothing where it says nothing, as an array.

    Args:
        path: the file, or the Zarr directory, or a label image in one.
        series: the image of a file that holds several.
        plane: (t, z) in a file that holds a stack, whose ids have classes plane by plane; None for what all have.

    Raises:
        InputError: metadata of ours with a value that cannot be meant, or a server refuses.
        Incomplete: the connection is lost.
        OSError: the file cannot be read.
    """
    if not isinstance(path, Path):
        return Record()
    root, place = _root_of(path)
    described = take_plane(read_metadata(root), plane)
    if not described:
        return Record()
    stated = _stated(path, described)
    kinds = stated.write or (str(described.get("content", "")),)
    number = kinds.index(place) if place in kinds else series or 0
    kind = kinds[number] if number < len(kinds) else ""
    if kind == "instances":
        _check_ids(path, View(series=series, z=plane and plane[1], t=plane and plane[0]), described)
    try:
        ids = IdClasses.from_metadata(described) if kind == "instances" else None
    except ValueError as error:
        raise InputError(f"{path}: its metadata say {error}: {_DO}") from error
    names = dict(enumerate(stated.classes)) if kind != "instances" or ids else {}
    found = _stated_colours(described)
    if not found:
        found = _zarr_colours(root) if _is_folder(root) else _ome_colours(root) or _palette(root)
    colours = {k: colour for k, colour in found.items() if 0 < k < len(names)}
    view = View(**vars(stated.view))
    return Record(names, colours, view, stated.downsample, kind, ids, stated.georeference)


def _check_ids(path: Path, view: View, described: Mapping[str, Any]) -> None:
    """Refuse metadata that claim more objects than the image has pixels: lists of them are made.

    Raises:
        InputError: they do.
    """
    count = described.get(COUNT_KEY)
    if not isinstance(count, int) or count <= UNASKED_IDS:
        return
    with open_labels(path, view) as slide:
        pixels = math.prod(slide.shape)
    if count > pixels:
        raise InputError(f"{path}: its metadata say {COUNT_KEY} = {count}, need at most its {pixels} pixels: {_DO}")


def _root_of(path: Path) -> tuple[Path, str]:
    """Return the file that holds the metadata, and the kind of the image in it that a path leads to, or ""."""
    if not _is_folder(path) or METADATA_KEY in read_attributes(path):
        return path, ""
    for root in (path.parent.parent, path.parent) if path.parent.name == "labels" else (path.parent,):
        if METADATA_KEY in read_attributes(root):
            return root, path.name
    return path, ""


def _is_folder(path: Path) -> bool:
    return path.is_dir() if url_of(path) is None else is_group(path)


def _text(path: Path) -> str:
    """Return the description of a PNG or TIFF file; empty if it has none, or none that can be read."""
    with open_binary(path) as file:
        start = file.read(8)
        if start.startswith(PNG_SIGNATURE):
            return read_description(path)
        if not start.startswith(_TIFF_SIGNATURES):
            return ""
        file.seek(0)
        try:
            with tifffile.TiffFile(file) as tif:
                return str(getattr(tif.pages.first, "description", ""))
        except Exception:  # a damaged header makes the parser raise whatever it likes; who reads the pixels says so
            return ""


def _of_text(text: str) -> Any:
    """Return the JSON of a description, or of the annotation in an OME-XML one; None if there is none."""
    said = read_omexml(text)
    if said is not None:
        text = said.note(METADATA_NAMESPACE)
    elif text.startswith("ImageJ="):
        text = next((line[len(DESCRIBED) :] for line in text.splitlines() if line.startswith(DESCRIBED)), "")
    return _json(text)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _palette(path: Path) -> dict[int, Colour]:
    return dict(enumerate(read_palette(path) or ()))


def _stated_colours(described: Mapping[str, Any]) -> dict[int, Colour]:
    """Return the colours that the metadata of an image of ids give its classes; it can have no palette."""
    stated = described.get("colours")
    try:
        return {k: _colour(*colour) for k, colour in enumerate(stated)} if isinstance(stated, list) else {}
    except (TypeError, ValueError):  # a colour is no reason to refuse a mask
        return {}


def _zarr_colours(path: Path) -> dict[int, Colour]:
    """Return the colours of the numbers of an OME-Zarr label image; of an image, of its label image of classes."""
    for place in (path, path / "labels" / "classes"):
        label = ome_attributes(place).get("image-label")
        listed = label.get("colors") if isinstance(label, Mapping) else None
        if not isinstance(listed, list):
            continue
        try:
            return {int(one["label-value"]): _colour(*one["rgba"][:3]) for one in listed}
        except (KeyError, TypeError, ValueError):  # a colour is no reason to refuse a mask
            continue
    return {}


def _ome_colours(path: Path) -> dict[int, Colour]:
    """Return the colours that the OME-XML of a file gives the classes; empty if it gives none."""
    said = read_omexml(_text(path))
    found: dict[int, Colour] = {}
    for key, value in () if said is None else said.entries(f"{_MARK}/class-colours"):
        try:
            found[int(key)] = _colour(*bytes.fromhex(value.removeprefix("#")))
        except (TypeError, ValueError):  # a colour is no reason to refuse a mask
            continue
    return found


def _colour(red: int, green: int, blue: int) -> Colour:
    values = int(red), int(green), int(blue)
    if not all(0 <= value <= 255 for value in values):
        raise ValueError(f"{values} is no colour")
    return values


def _stated(path: Path, described: Mapping[str, Any]) -> _Stated:
    """Return what the metadata state, in bounds; what they leave out has its default."""
    for key in ("classes", "write"):
        values = described.get(key, [])
        if isinstance(values, list) and any(isinstance(value, str) and not _is_text(value) for value in values):
            raise InputError(f"{path}: its metadata say {key} = {said(values)}, need texts: {_DO}")
    try:
        return from_plain(described, _Stated)
    except Unfit as error:
        raise InputError(f"{path}: its metadata say {error}: {_DO}") from error


def _is_text(value: str) -> bool:
    return not any(0xD800 <= ord(letter) < 0xE000 for letter in value)
