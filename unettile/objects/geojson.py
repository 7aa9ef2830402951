"""Polygons of objects as GeoJSON, in the form that QuPath writes and reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unettile.images.record import Record
from unettile.objects.gather import Grouped
from unettile.objects.outline import Outline, outlines

OBJECT_TYPES = ("detection", "annotation")

MOST_CLASSES = 256
"""With more, the mask's numbers are ids of objects rather than classes, and polygons carry none."""

HEAD = '{"type":"FeatureCollection","features":['
"""How the file begins."""

DECIMALS = 3
"""Of the coordinates of a mask that is not of the largest resolution."""


def write_geojson(path: Path, corners: Grouped, classes: NDArray[np.uint32], record: Record, object_type: str) -> None:
    """Write one feature an object, a line each, in order of id; nothing is held but a batch of outlines.

    Coordinates are (x, y) in px of the image's largest resolution, (0, 0) the upper left corner of its first pixel, as
    in QuPath.

    Args:
        path: overwritten; a temporary one.
        corners: of all objects.
        classes: (N,) class of each object.
        record: of the mask: names and colours of the classes, and its resolution.
        object_type: `detection` or `annotation`; QuPath handles millions of the first.

    Raises:
        OSError: the file cannot be written.
    """
    with path.open("w", encoding="utf-8") as file:
        file.write(HEAD)
        first = True
        for feature in _features(corners, classes, record, object_type):
            file.write("\n" if first else ",\n")
            file.write(feature)
            first = False
        file.write("\n]}\n")


def _features(corners: Grouped, classes: NDArray[np.uint32], record: Record, object_type: str) -> Iterator[str]:
    described: dict[int, str] = {}
    classified = np.unique(classes).size <= MOST_CLASSES
    for outline in outlines(corners):
        number = int(classes[outline.number - 1])
        if number not in described:
            values = {"name": record.name(number), "color": list(record.colour(number))}
            described[number] = f'"classification":{json.dumps(values)},' if classified else ""
        yield (
            f'{{"type":"Feature","geometry":{{"type":"Polygon","coordinates":[{_rings(outline, record.downsample)}]}},'
            f'"properties":{{"objectType":"{object_type}",{described[number]}'
            f'"measurements":{{"id":{outline.number}}}}}}}'
        )


def _rings(outline: Outline, downsample: tuple[float, float]) -> str:
    closed = [np.concatenate([ring, ring[:1]]) for ring in outline.rings]
    if downsample != (1.0, 1.0):
        closed = [np.round(ring * downsample[::-1], DECIMALS) for ring in closed]
    return ",".join(str(ring.tolist()).replace(" ", "") for ring in closed)
