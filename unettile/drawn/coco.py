"""COCO: objects of many images in one JSON, each as polygons or as a run-length code."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from unettile.drawn.figures import Figure, Figures, means_ignore
from unettile.drawn.shapes import Ring
from unettile.errors import InputError
from unettile.typed import Edge, Finite, Name, Shape, Unfit, from_plain

_Number = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
_Run = Annotated[int, Meta(ge=0, le=2**62)]
_LETTER = 48  # the first of those that a compressed code is written in


@dataclass(frozen=True)
class _Image:
    id: _Number | Name
    file_name: Name
    height: Edge
    width: Edge


@dataclass(frozen=True)
class _Code:
    """Pixels outside and inside in turn, down the columns from left to right."""

    size: Shape
    counts: str | list[_Run]


@dataclass(frozen=True)
class _Annotation:
    image_id: _Number | Name
    segmentation: list[list[Finite]] | _Code = ()  # type: ignore[assignment]
    category_id: _Number | None = None
    iscrowd: bool | int = False


@dataclass(frozen=True)
class _Category:
    id: _Number
    name: Name = ""


@dataclass(frozen=True)
class _File:
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category] | None = None


def read_coco(path: Path, values: Any) -> dict[str, Figures]:
    """Return the objects of each image by the name of its file, in the order of the images.

    Crowds (`iscrowd`), and what is of a category called ignore, are regions to ignore. Boxes without an outline are
    passed over.

    Args:
        path: for messages.
        values: of the JSON.

    Raises:
        InputError: it is not as COCO has it, or names a file twice.
    """
    try:
        file = from_plain(values, _File)
        names = {one.id: one.name for one in file.categories or []}
        by_image: dict[int | str, list[Figure]] = {one.id: [] for one in file.images}
        sizes = {one.id: (one.height, one.width) for one in file.images}
        for number, annotation in enumerate(file.annotations):
            if annotation.image_id not in by_image:
                raise Unfit(f"annotations[{number}].image_id = {annotation.image_id} is none of its images")
            shapes = tuple(_shapes(annotation, sizes[annotation.image_id], number))
            name = "" if annotation.category_id is None else names.get(annotation.category_id, "")
            ignored = bool(annotation.iscrowd) or means_ignore(name)
            by_image[annotation.image_id].append(Figure(shapes, ignored, name))
    except Unfit as error:
        raise InputError(f"{path} is no COCO JSON that can be read: {error}; export it again") from error
    found: dict[str, Figures] = {}
    for one in file.images:
        if one.file_name in found:
            raise InputError(f"{path} names the image {one.file_name} twice: keep one")
        found[one.file_name] = Figures.of(by_image[one.id], sizes[one.id])
    return found


def _shapes(annotation: _Annotation, size: tuple[int, int], number: int) -> Iterator[tuple[Ring, ...]]:
    """Yield the rings of each part of an object."""
    drawn = annotation.segmentation
    if isinstance(drawn, _Code):
        if drawn.size != size:
            raise Unfit(f"annotations[{number}] is of {drawn.size} px, its image of {size} px")
        yield tuple(_rectangles(_runs(drawn, number), size, number))
        return
    for flat in drawn:
        if len(flat) % 2:
            raise Unfit(f"annotations[{number}].segmentation has {len(flat)} coordinates, need x and y of each corner")
        yield (np.array(flat, np.float64).reshape(-1, 2),)


def _rectangles(runs: list[int], size: tuple[int, int], number: int) -> Iterator[Ring]:
    """Yield rectangles that together are the pixels inside: of a run at most three."""
    height, end = size[0], 0
    if sum(runs) != height * size[1]:
        raise Unfit(f"annotations[{number}] counts {sum(runs)} px, its image has {height * size[1]}")
    for place, run in enumerate(runs):
        begin, end = end, end + run
        if place % 2 == 0:
            continue
        while begin < end:
            column, row = divmod(begin, height)
            columns = (end - begin) // height if row == 0 else 0
            rows = height if columns else min(height - row, end - begin)
            columns = columns or 1
            yield np.array(
                [[column, row], [column + columns, row], [column + columns, row + rows], [column, row + rows]],
                np.float64,
            )
            begin += rows * columns


def _runs(code: _Code, number: int) -> list[int]:
    """Return the lengths of the runs; of a compressed code, five bits a letter, each less the one but one before it."""
    if not isinstance(code.counts, str):
        return code.counts
    runs: list[int] = []
    value = bits = 0
    for letter in code.counts:
        part = ord(letter) - _LETTER
        if not 0 <= part < 64 or bits > 60:
            raise Unfit(f"annotations[{number}].segmentation.counts has the letter {letter!a}, which is none of a code")
        value |= (part & 31) << bits
        bits += 5
        if part & 32:
            continue
        if part & 16:
            value -= 1 << bits
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        if runs[-1] < 0:
            raise Unfit(f"annotations[{number}].segmentation.counts has a run of {runs[-1]} px")
        value = bits = 0
    return runs
