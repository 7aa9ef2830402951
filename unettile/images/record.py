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
from typing import Any

import tifffile

from unettile.errors import InputError, UsageError
from unettile.images.arrays import ArrayImage
from unettile.images.colours import Colour, distinct_colours
from unettile.images.georeference import Georeference
from unettile.images.idclasses import IdClasses
from unettile.images.palette import read_palette
from unettile.images.png import PNG_SIGNATURE, read_description
from unettile.images.tifffacts import safe_xml
from unettile.images.view import FIRST, View
from unettile.images.write_imagej import DESCRIBED
from unettile.images.write_omexml import METADATA_NAMESPACE
from unettile.images.write_omezarr import METADATA_KEY

MOST_NAMES = 2**16
"""Classes that a mask may name."""

LARGEST_DOWNSAMPLE = 2.0**20

_MARK = "unettile"  # every file of ours states the version under this key
_TIFF_SIGNATURES = (b"II", b"MM")
_VIEW_NUMBERS = ("series", "level", "z", "t")


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
    """
    values = _of_text(_text(path)) if not path.is_dir() else _of_zarr(path).get(METADATA_KEY)
    return values if isinstance(values, dict) and _MARK in values else {}


def read_record(path: Path | ArrayImage, series: int | None = None) -> Record:
    """Return what a mask that unettile wrote says of itself; nothing where it says nothing, as an array.

    Args:
        path: the file, or the Zarr directory, or a label image in one.
        series: the image of a file that holds several.

    Raises:
        InputError: metadata of ours with a value that cannot be meant.
        OSError: the file cannot be read.
    """
    if isinstance(path, ArrayImage):
        return Record()
    root, place = _root_of(path)
    described = read_metadata(root)
    if not described:
        return Record()
    kinds = _texts(path, described, "write") or (str(described.get("content", "")),)
    number = kinds.index(place) if place in kinds else series or 0
    kind = kinds[number] if number < len(kinds) else ""
    try:
        ids = IdClasses.from_metadata(described) if kind == "instances" else None
    except ValueError as error:
        raise InputError(f"{path}: its metadata say {error}: take a fresh copy of the mask") from error
    names = dict(enumerate(_texts(path, described, "classes"))) if kind != "instances" or ids else {}
    found = _stated_colours(described)
    if not found:
        found = _zarr_colours(root) if root.is_dir() else _ome_colours(root) or _palette(root)
    colours = {k: colour for k, colour in found.items() if 0 < k < len(names)}
    view, downsample = _view(path, described), _downsample(path, described)
    return Record(names, colours, view, downsample, kind, ids, _georeference(path, described))


def _root_of(path: Path) -> tuple[Path, str]:
    """Return the file that holds the metadata, and the kind of the image in it that a path leads to, or ""."""
    if not path.is_dir() or METADATA_KEY in _of_zarr(path):
        return path, ""
    for root in (path.parent.parent, path.parent) if path.parent.name == "labels" else (path.parent,):
        if METADATA_KEY in _of_zarr(root):
            return root, path.name
    return path, ""


def _text(path: Path) -> str:
    """Return the description of a PNG or TIFF file; empty if it has none, or none that can be read."""
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(PNG_SIGNATURE):
        return read_description(path)
    if not start.startswith(_TIFF_SIGNATURES):
        return ""
    try:
        with tifffile.TiffFile(path) as tif:
            return str(getattr(tif.pages.first, "description", ""))
    except Exception:  # a damaged header makes the parser raise whatever it likes; who reads the pixels says so
        return ""


def _of_text(text: str) -> Any:
    """Return the JSON of a description, or of the annotation in an OME-XML one; None if there is none."""
    if "<OME" in text[:4096]:
        root = safe_xml(text)
        notes = [] if root is None else [note for note in root.iter() if note.get("Namespace") == METADATA_NAMESPACE]
        text = "".join(notes[0].itertext()) if notes else ""
    elif text.startswith("ImageJ="):
        text = next((line[len(DESCRIBED) :] for line in text.splitlines() if line.startswith(DESCRIBED)), "")
    return _json(text)


def _of_zarr(path: Path) -> dict[str, Any]:
    """Return the attributes of a Zarr group; empty if it has none."""
    for name in ("zarr.json", ".zattrs"):
        try:
            values = _json((path / name).read_text("utf-8", "replace"))
        except OSError:
            continue
        attributes = values.get("attributes") if name == "zarr.json" and isinstance(values, dict) else values
        if isinstance(attributes, dict):
            return attributes
    return {}


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
        ome = _of_zarr(place).get("ome")
        label = ome.get("image-label") if isinstance(ome, Mapping) else None
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
    text = _text(path)
    root = safe_xml(text) if "<OME" in text[:4096] else None
    found: dict[int, Colour] = {}
    for note in () if root is None else root.iter():
        if note.get("Namespace") == f"{_MARK}/class-colours":
            for entry in note.iter():
                key, value = entry.get("K"), (entry.text or "").removeprefix("#")
                try:
                    found[int(key or "")] = _colour(*bytes.fromhex(value))
                except (TypeError, ValueError):
                    continue
    return found


def _colour(red: int, green: int, blue: int) -> Colour:
    values = int(red), int(green), int(blue)
    if not all(0 <= value <= 255 for value in values):
        raise ValueError(f"{values} is no colour")
    return values


def _texts(path: Path, described: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """Return a list of texts of the metadata; empty where the key is missing."""
    values = described.get(key, [])
    if not isinstance(values, list) or len(values) > MOST_NAMES or not all(_is_text(value) for value in values):
        raise _refusal(path, key, values, f"a list of up to {MOST_NAMES} texts")
    return tuple(values)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not any(0xD800 <= ord(letter) < 0xE000 for letter in value)


def _downsample(path: Path, described: Mapping[str, Any]) -> tuple[float, float]:
    """Return how far a mask is reduced; one that says nothing of it is of the largest resolution."""
    given = described.get("downsample", [1.0, 1.0])
    if (
        not isinstance(given, list)
        or len(given) != 2
        or not all(isinstance(one, int | float) and not isinstance(one, bool) for one in given)
        or not all(math.isfinite(one) and 1 / LARGEST_DOWNSAMPLE <= one <= LARGEST_DOWNSAMPLE for one in given)
    ):
        raise _refusal(path, "downsample", given, "two numbers above 0")
    return float(given[0]), float(given[1])


def _georeference(path: Path, described: Mapping[str, Any]) -> Georeference | None:
    given = described.get("georeference")
    try:
        return None if given is None else Georeference.from_dict(given)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise _refusal(path, "georeference", given, "a place on earth") from error


def _view(path: Path, described: Mapping[str, Any]) -> View:
    """Return the view that a mask was made of, without its channels."""
    given = described.get("view", {})
    try:
        numbers = {name: given.get(name) for name in _VIEW_NUMBERS}
        mpp = given.get("mpp")
        if any(type(value) is not int for value in numbers.values() if value is not None):
            raise TypeError
        if mpp is not None and type(mpp) not in (int, float):
            raise TypeError
        return View(**numbers, mpp=None if mpp is None else float(mpp))
    except (AttributeError, TypeError, OverflowError, UsageError) as error:
        raise _refusal(path, "view", given, "numbers of series, level, mpp, z and t") from error


def _refusal(path: Path, key: str, got: Any, need: str) -> InputError:
    shown = json.dumps(got)[:80]
    return InputError(f"{path}: its metadata say {key} = {shown}, need {need}: take a fresh copy of the mask")
