"""Objects in the form of the COCO data set, which tools for training read.

An object without holes is a polygon; one with holes, or of several parts, is a run-length code, which
counts pixels column by column.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.images.record import Record
from unettile.objects.polygons import Outline, Polygons

HEAD = '{"images":['
"""How the file begins."""


def write_coco(
    path: Path, polygons: Polygons, classes: NDArray[np.uint32], record: Record, shape: tuple[int, int], name: str
) -> None:
    """Write one annotation an object, a line each, in order of id; coordinates are px of the mask.

    Args:
        path: overwritten; a temporary one.
        polygons: of all objects, along pixel edges.
        classes: (N,) class of each object.
        record: of the mask, for the names of the classes.
        shape: of the mask.
        name: of the image that the objects are in.

    Raises:
        OSError: the file cannot be written.
    """
    image = {"id": 1, "file_name": name, "width": shape[1], "height": shape[0]}
    kinds = [{"id": int(number), "name": record.name(int(number))} for number in np.unique(classes)]
    with path.open("w", encoding="utf-8") as file:
        file.write(f'{HEAD}{json.dumps(image)}],\n"categories":{json.dumps(kinds)},\n"annotations":[')
        for outline in polygons:
            entry = _annotation(outline, int(classes[outline.number - 1]), shape)
            file.write(("," if outline.number > 1 else "") + "\n" + json.dumps(entry, separators=(",", ":")))
        file.write("\n]}\n")


def _annotation(outline: Outline, category: int, shape: tuple[int, int]) -> dict[str, Any]:
    points = np.concatenate(outline.rings)
    (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    segmentation: Any = [points.ravel().tolist()]
    if len(outline.rings) > 1:
        segmentation = {"size": list(shape), "counts": _counts(outline, shape)}
    return {
        "id": outline.number,
        "image_id": 1,
        "category_id": category,
        "segmentation": segmentation,
        "area": sum(_area(ring) for ring in outline.rings),
        "bbox": [left, top, right - left, bottom - top],
        "iscrowd": 0,
    }


def _area(ring: NDArray[np.int64]) -> int:
    """Return the area of a ring; that of a hole, which turns the other way, is negative."""
    x, y = ring[:, 0], ring[:, 1]
    return int((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) // 2


def _counts(outline: Outline, shape: tuple[int, int]) -> list[int]:
    """Return how many pixels outside and inside follow each other, down the columns, from left to right."""
    counts, place = [], 0
    for begin, end in _runs(outline, shape[0]):
        counts += [begin - place, end - begin]
        place = end
    return [*counts, shape[0] * shape[1] - place]


def _runs(outline: Outline, height: int) -> Iterator[tuple[int, int]]:
    """Yield where pixels inside begin and end, counted down the columns; what follows another at once is joined."""
    edges: dict[int, list[int]] = {}
    for ring in outline.rings:
        for (x, y), (other, _) in zip(ring.tolist(), np.roll(ring, -1, axis=0).tolist(), strict=True):
            for column in range(min(x, other), max(x, other)):
                edges.setdefault(column, []).append(y)
    last: tuple[int, int] | None = None
    for column in sorted(edges):
        rows = sorted(edges[column])
        for top, bottom in zip(rows[::2], rows[1::2], strict=True):
            begin, end = column * height + top, column * height + bottom
            if last is not None and last[1] == begin:
                last = last[0], end
                continue
            if last is not None:
                yield last
            last = begin, end
    if last is not None:
        yield last
