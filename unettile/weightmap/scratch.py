"""What the kernel of weight maps is told and what it remembers: named tuples, which compiled code takes apart."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unettile.weightmap.kernel import CHUNK


class Limits(NamedTuple):
    """How far to look. Squared distances are in the kernel's own number type, columns are counted.

    Args:
        near: first squared distance that is too far for d1; `beyond`, for d2.
        half: columns in which d1 is looked for; `whole`, d2.
        far_near, far_beyond, far_half, far_whole: the same for a chunk that may rest.
    """

    near: Any
    beyond: Any
    half: int
    whole: int
    far_near: Any
    far_beyond: Any
    far_half: int
    far_whole: int


class Term(NamedTuple):
    """What makes weights of distances, all in rows' heights: cut-off of d1 + d2, -1/(2 · 64 · sigma²), and weights."""

    cutoff: float
    scale: float
    w0: float
    background: float
    cell: float


class Place(NamedTuple):
    """Which pixels of the map a block gives: its first row in the block's ids, its corner in the map, its size."""

    first: int
    y: int
    x: int
    rows: int
    columns: int


class Scratch(NamedTuple):
    """What is remembered while a block is computed, for use with the next: `strip` rows of each column, and a chunk."""

    margin: int
    none: Any  # a distance in rows that is too far
    squares: NDArray[Any]  # of dx
    down_ids: NDArray[Any]
    down: NDArray[np.uint16]  # (2, strip, columns)
    ids: NDArray[Any]  # (3, columns): downwards, upwards, both
    distances: NDArray[np.uint16]  # (4, columns): two downwards, two upwards
    row: NDArray[Any]  # (2, columns): squared distances down the columns of one row
    chunk_ids: NDArray[Any]
    chunk: NDArray[Any]  # (2, CHUNK): d1², d2²
    calm: NDArray[np.int64]  # by chunk: rows it rests; 0 it had borders; -1 it had none, look further


def new_scratch(shape: tuple[int, int], margin: int, none: int, strip: int, squares: NDArray[Any]) -> Scratch:
    """Return room for blocks of up to `shape` pixels with `margin` columns on both sides; `squares` has the type."""
    chunks = -(-shape[1] // CHUNK)
    columns = chunks * CHUNK + 2 * margin
    ids = id_type(squares.dtype)
    return Scratch(
        margin,
        np.uint16(none),
        squares,
        np.empty((strip, columns), ids),
        np.empty((2, strip, columns), np.uint16),
        np.empty((3, columns), ids),
        np.empty((4, columns), np.uint16),
        np.empty((2, columns), squares.dtype),
        np.empty(CHUNK, ids),
        np.empty((2, CHUNK), squares.dtype),
        np.empty(chunks, np.int64),
    )


def id_type(distances: np.dtype[Any]) -> type[np.generic]:
    """Return the type of the ids that go with squared distances of a type: as wide, for loops without conversions."""
    return np.uint16 if distances == np.uint16 else np.int32
