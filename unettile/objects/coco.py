"""Objects in the form of the COCO data set, which tools for training read.

An object without holes is a polygon; one with holes, or of several parts, is a run-length code, which
counts pixels column by column.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.images.listing import image_stem
from unettile.objects.plane import Plane
from unettile.objects.polygons import Outline, Outlined

HEAD = '{"images":['
"""How the file begins."""


class CocoFile:
    """Writes one annotation an object, a line each, in order of id; coordinates are px of the mask.

    Of a stack every plane is an image of its own, and ids of annotations count through all of them; `object_id` is the
    id in the plane.

    Args:
        path: overwritten; a temporary one.
        planes: in the order in which they are added.
        shape: of the mask.
        name: of the image that the objects are in.

    Raises:
        OSError: the file cannot be written.
    """

    def __init__(self, path: Path, planes: Sequence[Plane], shape: tuple[int, int], name: str) -> None:
        self._file, self._shape, self._images, self._written = path.open("w", encoding="utf-8"), shape, 0, 0
        self._names: dict[int, str] = {}
        stem = image_stem(Path(name))
        images = [
            {
                "id": number,
                "file_name": f"{stem}{plane.suffix}{name[len(stem) :]}",
                "width": shape[1],
                "height": shape[0],
            }
            | plane.numbers
            for number, plane in enumerate(planes, start=1)
        ]
        self._file.write(HEAD + ",\n".join(map(json.dumps, images)) + "],\n")
        self._several = any(plane.axes for plane in planes)  # whose classes are known only at the end
        if self._several:
            self._file.write('"annotations":[')

    def add(self, found: Outlined) -> None:
        """Write the objects of a plane.

        Raises:
            OSError: the file cannot be written.
        """
        self._images += 1
        self._names |= {int(number): found.record.name(int(number)) for number in np.unique(found.classes)}
        if not self._several:
            self._file.write(f'"categories":{self._categories()},\n"annotations":[')
        for outline in found.polygons.exact:
            self._written += 1
            entry = {"id": self._written, "image_id": self._images}
            entry |= _annotation(outline, int(found.classes[outline.number - 1]), self._shape)
            entry |= {"object_id": outline.number} if self._several else {}
            self._file.write(("," if self._written > 1 else "") + "\n" + json.dumps(entry, separators=(",", ":")))

    def finish(self) -> None:
        """Write the end."""
        self._file.write(f'\n],\n"categories":{self._categories()}}}\n' if self._several else "\n]}\n")
        self._file.close()

    def close(self) -> None:
        """Let go of a file that is not finished."""
        self._file.close()

    def _categories(self) -> str:
        return json.dumps([{"id": number, "name": self._names[number]} for number in sorted(self._names)])


def _annotation(outline: Outline, category: int, shape: tuple[int, int]) -> dict[str, Any]:
    points = np.concatenate(outline.rings)
    (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    segmentation: Any = [points.ravel().tolist()]
    if len(outline.rings) > 1:
        segmentation = {"size": list(shape), "counts": _counts(outline, shape)}
    return {
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
