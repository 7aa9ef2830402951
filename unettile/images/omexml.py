"""OME-XML, read: what the description of a TIFF says of images, channels and classes, as typed values within bounds.

An element that does not fit its type, and XML that is not safe to parse, count as not said: a word about an image is no
reason to refuse its pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, TypeVar
from xml.etree import ElementTree

import msgspec
from msgspec import Meta

from unettile.images.spacing import Spacing
from unettile.images.units import in_micrometres, in_seconds
from unettile.typed import Name

START = 4096  # characters within which an OME-XML's root begins
MOST_IMAGES = 2**16
MOST_CHANNELS = 2**16

T = TypeVar("T", bound="_Part")

_Text = Annotated[str, Meta(max_length=100)]


class _Part(msgspec.Struct, rename="pascal"):
    """Attributes of an element."""


class _Pixels(_Part):
    physical_size_x: _Text = ""
    physical_size_y: _Text = ""
    physical_size_x_unit: _Text = "µm"
    physical_size_y_unit: _Text = "µm"
    physical_size_z: _Text = ""
    physical_size_z_unit: _Text = "µm"
    time_increment: _Text = ""
    time_increment_unit: _Text = "s"


class _Channel(_Part):
    name: Name = ""
    samples_per_pixel: Annotated[int, Meta(ge=1, le=MOST_CHANNELS)] = 1


class _Plane(_Part):
    position_x: _Text = ""
    position_y: _Text = ""
    position_x_unit: _Text = ""
    position_y_unit: _Text = ""


class _Entry(_Part):
    k: _Text = ""


@dataclass(frozen=True)
class OmeImage:
    """What an OME-XML says of one of its images.

    Args:
        states_size: whether it says a pixel size at all.
        height_um, width_um: of a pixel; NaN where it is not known.
        origin_um: (y, x) of the first plane in the frame of the stage; None if it is not known.
        channels: a name each, "" where there is none.
        spacing: of its planes, and its points in time.
    """

    states_size: bool
    height_um: float
    width_um: float
    origin_um: tuple[float, float] | None
    channels: tuple[str, ...]
    spacing: Spacing


class OmeXml:
    """An OME-XML, whose parts are read when they are asked for."""

    def __init__(self, root: ElementTree.Element) -> None:
        self._root = root

    def image(self, index: int) -> OmeImage | None:
        """Return what it says of the image of that number, counted from 0; None if it has none."""
        found = 0
        for image in _parts(self._root, "Image"):
            for pixels in _parts(image, "Pixels"):
                if found == index:
                    return _image(pixels)
                found += 1
                if found == MOST_IMAGES:
                    return None
        return None

    def note(self, namespace: str) -> str:
        """Return the text of the first annotation of a namespace; empty if there is none."""
        return next(("".join(note.itertext()) for note in self._notes(namespace)), "")

    def entries(self, namespace: str) -> Iterator[tuple[str, str]]:
        """Yield keys and values of the map annotations of a namespace."""
        for note in self._notes(namespace):
            for entry in note.iter():
                key = _attributes(entry, _Entry).k
                if key:
                    yield key, entry.text or ""

    def _notes(self, namespace: str) -> Iterator[ElementTree.Element]:
        return (note for note in self._root.iter() if note.get("Namespace") == namespace)


def read_omexml(description: str) -> OmeXml | None:
    """Return the OME-XML that a description is; None if it is none.

    >>> said = read_omexml('<OME><Image><Pixels PhysicalSizeX="0,5" PhysicalSizeY="0.5"/></Image></OME>')
    >>> said.image(0).width_um, said.image(1), read_omexml("ImageJ=1.11a")
    (0.5, None, None)
    """
    root = safe_xml(description) if "<OME" in description[:START] else None
    return None if root is None else OmeXml(root)


def safe_xml(text: str) -> ElementTree.Element | None:
    """Parse XML of a stranger; None if it is none, or defines entities, which can blow up a parser."""
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        return None
    try:
        return ElementTree.fromstring(text.encode())
    except (ElementTree.ParseError, ValueError):
        return None


def _image(pixels: ElementTree.Element) -> OmeImage:
    said = _attributes(pixels, _Pixels)
    names: list[str] = []
    for part in _parts(pixels, "Channel"):
        channel = _attributes(part, _Channel)
        one = channel.samples_per_pixel == 1
        names += [channel.name] if one else [""] * channel.samples_per_pixel
        if len(names) > MOST_CHANNELS:
            names.clear()
            break
    return OmeImage(
        states_size=bool(said.physical_size_x or said.physical_size_y),
        height_um=in_micrometres(said.physical_size_y, said.physical_size_y_unit),
        width_um=in_micrometres(said.physical_size_x, said.physical_size_x_unit),
        origin_um=_origin(pixels),
        channels=tuple(names) if any(names) else (),
        spacing=Spacing.of(
            in_micrometres(said.physical_size_z, said.physical_size_z_unit),
            in_seconds(said.time_increment, said.time_increment_unit),
        ),
    )


def _origin(pixels: ElementTree.Element) -> tuple[float, float] | None:
    for part in _parts(pixels, "Plane"):
        plane = _attributes(part, _Plane)
        # A position without a unit is in the stage's own frame, of unknown scale.
        y = in_micrometres(plane.position_y, plane.position_y_unit)
        x = in_micrometres(plane.position_x, plane.position_x_unit)
        if math.isfinite(y) and math.isfinite(x):
            return y, x
    return None


def _parts(element: ElementTree.Element, tag: str) -> Iterator[ElementTree.Element]:
    """Yield the children of that name, whatever the namespace of the schema."""
    return (part for part in element if str(part.tag).rsplit("}", 1)[-1] == tag)


def _attributes(element: ElementTree.Element, kind: type[T]) -> T:
    """Return an element's attributes as a type; as if it had none where one does not fit."""
    try:
        return msgspec.convert(dict(element.attrib), kind, strict=False)
    except msgspec.ValidationError:
        return kind()
