"""Polygons of objects as GeoJSON, in the form that QuPath writes and reads; of maps, in their coordinates."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.compiled import compiled
from unettile.images.record import Record
from unettile.objects.digits import put_integer, put_text
from unettile.objects.outline import Rings
from unettile.objects.places import Places
from unettile.objects.plane import Plane
from unettile.objects.polygons import Outlined

OBJECT_TYPES = ("detection", "annotation")

MOST_CLASSES = 256
"""With more, the mask's numbers are ids of objects rather than classes, and polygons carry none."""

HEAD = '{"type":"FeatureCollection","features":['
"""How the file begins."""


class GeoJsonFile:
    """Writes one feature an object, a line each, in order of id; nothing is held but a batch of outlines.

    Coordinates are (x, y) in px of the image's largest resolution, (0, 0) the upper left corner of its first pixel, as
    in QuPath; or those of a map. Of a stack, a geometry says its plane as QuPath does.

    Args:
        path: overwritten; a temporary one.
        object_type: `detection` or `annotation`; QuPath handles millions of the first.
        places: where on a map corners lie; None for px.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, path: Path, object_type: str, places: Places | None = None) -> None:
        self._file, self._type, self._places = path.open("wb"), object_type, places
        self._file.write(HEAD.encode())
        self._begun = False

    def add(self, found: Outlined) -> None:
        """Write the objects of a plane.

        Raises:
            InputError: a place that cannot be brought to the map's coordinates.
            OSError: the file cannot be written.
        """
        classified = np.unique(found.classes).size <= MOST_CLASSES
        said = _Said(found.record, self._type, classified, self._places, found.plane)
        for begin, end, rings in found.polygons.batches():
            text = _features(rings, found.classes[begin:end], begin, said)
            self._file.write(text[int(not self._begun) :].data)  # every feature begins with a comma but the first
            self._begun = True

    def finish(self) -> None:
        """Write the end."""
        named = None if self._places is None else self._places.crs
        self._file.write(("\n]}\n" if named is None else f'\n],"crs":{json.dumps(named)}}}\n').encode())
        self._file.close()

    def close(self) -> None:
        """Let go of a file that is not finished."""
        self._file.close()


@dataclass(frozen=True)
class _Said:
    """What features say of their objects."""

    record: Record
    object_type: str
    classified: bool
    places: Places | None
    plane: Plane


def _features(rings: Rings, classes: NDArray[np.uint32], begin: int, said: _Said) -> NDArray[np.uint8]:
    """Return the text of the features of the objects begin + 1 …, each after a comma and a new line."""
    record, places = said.record, said.places
    present, index = np.unique(classes, return_inverse=True)
    tails, plane = [], _plane_text(said.plane)
    for number in present.tolist():
        values = {"name": record.name(number), "color": list(record.colour(number))}
        described = f'"classification":{json.dumps(values)},' if said.classified else ""
        properties = f'"properties":{{"objectType":"{said.object_type}",{described}"measurements":{{"id":'
        tails.append(f"{plane}}},{properties}".encode())
    ends = np.cumsum([0, *map(len, tails)])
    x, y, decimals = _coordinates(rings, record, places)
    parts = np.zeros(rings.owners.size, np.int64) if rings.parts is None else rings.parts
    room = _PER_CORNER * (rings.x.size + rings.owners.size) + (len(_START) + max(map(len, tails)) + 64) * classes.size
    out = np.empty(room, np.uint8)
    length = _write(
        x,
        y,
        rings.starts,
        (rings.owners, parts),
        begin,
        (index.reshape(-1), ends, np.frombuffer(b"".join(tails), np.uint8)),
        (np.frombuffer(_START, np.uint8), np.frombuffer(_ONE, np.uint8), np.frombuffer(_SEVERAL, np.uint8)),
        (decimals, places is not None and places.turns),
        out,
    )
    return out[:length]


def _plane_text(plane: Plane) -> str:
    """Return what a geometry says of its plane; channel -1 is all channels."""
    return f',"plane":{{"c":-1,"z":{plane.z or 0},"t":{plane.t or 0}}}' if plane.axes else ""


def _coordinates(rings: Rings, record: Record, places: Places | None) -> tuple[NDArray[Any], NDArray[Any], int]:
    """Return what is written of corners, x and y, and how many decimals it has: none where it is whole."""
    if places is not None:
        return *places.of(rings.x, rings.y), places.decimals
    if record.downsample == (1.0, 1.0):
        return rings.x, rings.y, 0
    high, wide = record.downsample
    return rings.x * wide, rings.y * high, 3


_START = b',\n{"type":"Feature","geometry":{"type":"'
_ONE, _SEVERAL = b'Polygon","coordinates":', b'MultiPolygon","coordinates":['
_PER_CORNER = 52  # bytes: two numbers of up to 21, brackets and commas


@compiled
def _write(x, y, starts, whose, begin, tails, starting, form, out):  # type: ignore[no-untyped-def]
    """Write features into `out`; return their length."""
    owners, parts = whose
    index, ends, texts = tails
    start, one, several = starting
    decimals, turns = form
    unit = 10**decimals
    at, many = 0, False
    for ring in range(owners.size):
        first_of_object = ring == 0 or owners[ring - 1] != owners[ring]
        outer = first_of_object or parts[ring - 1] != parts[ring]
        if first_of_object:
            last_ring = ring
            while last_ring + 1 < owners.size and owners[last_ring + 1] == owners[ring]:
                last_ring += 1
            many = parts[last_ring] > 0
            at = put_text(out, put_text(out, at, start), several if many else one)
        else:
            out[at] = 44  # ,
            at += 1
        if outer:
            out[at] = 91  # [
            at += 1
        out[at] = 91
        at += 1
        first, last = starts[ring], starts[ring + 1]
        for i in range(last - first + 1):
            step = i % (last - first)
            k = first + step if outer != turns else (last - 1 - step)
            out[at] = 91
            at = _put_number(out, at + 1, x[k], decimals, unit)
            out[at] = 44
            at = _put_number(out, at + 1, y[k], decimals, unit)
            out[at] = 93  # ]
            out[at + 1] = 44
            at += 2
        out[at - 1] = 93
        last_of_object = ring + 1 == owners.size or owners[ring + 1] != owners[ring]
        if last_of_object or parts[ring + 1] != parts[ring]:
            out[at] = 93
            at += 1
        if last_of_object:
            if many:
                out[at] = 93
                at += 1
            owner = owners[ring]
            at = put_text(out, at, texts[ends[index[owner]] : ends[index[owner] + 1]])
            at = put_integer(out, at, begin + owner + 1)
            for _ in range(3):
                out[at] = 125  # }
                at += 1
    return at


@compiled
def _put_number(out, at, number, decimals, unit):  # type: ignore[no-untyped-def]
    """Write a coordinate: a whole number, or one rounded to so many decimals, of which one at least is shown."""
    parts = np.int64(np.rint(number * unit))
    if decimals == 0:
        return put_integer(out, at, parts)
    if parts < 0:
        out[at] = 45  # -
        at += 1
        parts = -parts
    at = put_integer(out, at, parts // unit)
    out[at] = 46  # .
    rest = parts % unit
    for place in range(decimals, 0, -1):
        out[at + place] = 48 + rest % 10
        rest //= 10
    at += decimals + 1
    while out[at - 1] == 48 and out[at - 2] != 46:
        at -= 1
    return at
