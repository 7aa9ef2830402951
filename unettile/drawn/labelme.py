"""LabelMe: the objects of one image in a JSON of its own."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unettile.drawn.figures import Figure, Figures, means_ignore
from unettile.drawn.shapes import Ring
from unettile.errors import InputError
from unettile.typed import Edge, Finite, Name, Unfit, from_plain

_FLAT = ("point", "points", "line", "linestrip")  # of no area


@dataclass(frozen=True)
class _Shape:
    points: list[tuple[Finite, Finite]]
    label: Name = ""
    shape_type: Name | None = "polygon"
    group_id: int | None = None


@dataclass(frozen=True)
class _File:
    shapes: list[_Shape]
    imageHeight: Edge | None = None  # noqa: N815 (the file's own names)
    imageWidth: Edge | None = None  # noqa: N815


def read_labelme(path: Path, values: Any) -> Figures:
    """Return the objects of a file; shapes of one label and group are one, what is labelled ignore is to be ignored.

    Points and lines are passed over.

    Args:
        path: for messages.
        values: of the JSON.

    Raises:
        InputError: it is not as LabelMe has it, or holds a shape of a kind that is not read.
    """
    try:
        file = from_plain(values, _File)
        parts: dict[Any, list[tuple[Ring, ...]]] = {}
        for number, shape in enumerate(file.shapes):
            rings = tuple(_rings(shape, number))
            alone = shape.group_id is None
            parts.setdefault((shape.label, alone, number if alone else shape.group_id), []).append(rings)
    except Unfit as error:
        raise InputError(f"{path} is no LabelMe JSON that can be read: {error}; save it again") from error
    size = None if file.imageHeight is None or file.imageWidth is None else (file.imageHeight, file.imageWidth)
    return Figures.of([Figure(tuple(shapes), means_ignore(key[0]), key[0]) for key, shapes in parts.items()], size)


def _rings(shape: _Shape, number: int) -> Iterator[Ring]:
    kind, points = shape.shape_type or "polygon", np.array(shape.points, np.float64).reshape(-1, 2)
    if kind in _FLAT:
        return
    if kind == "polygon":
        yield points
    elif kind == "rectangle" and len(points) in (2, 4):
        (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
        yield np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    elif kind == "circle" and len(points) == 2:
        radius = float(np.hypot(*(points[1] - points[0])))
        turns = np.linspace(0, 2 * np.pi, 16 + 4 * math.ceil(math.sqrt(min(radius, 1e9) * 80)), endpoint=False)
        yield points[0] + radius * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    else:
        raise Unfit(
            f"shapes[{number}] is a {kind} of {len(points)} points, need polygons, rectangles of 2 or circles of 2"
        )
