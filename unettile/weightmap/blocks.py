"""A weight map, block by block: each is read with its margin, on its own, by any thread; no block shows in the map."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.errors import UsageError
from unettile.labels import renumber
from unettile.weightmap.border import Border
from unettile.weightmap.kernel import CALM, fill_block, rebase
from unettile.weightmap.scratch import Limits, Place, Scratch, Term, new_scratch

ROWS, COLUMNS = 256, 1024  # of a block, at least: its ids and what is remembered stay in a processor's own cache
STRIP = 64  # rows of a block whose downward pass is remembered
FEWEST_ROWS = 64  # of a block where there are more threads than blocks
THREAD_PIXELS = 2**19  # of a map for each thread: fewer are done before another thread has begun
FURTHEST = 65_000  # rows that a label may be away: distances in rows have 16 bits
SHORT, LONG = 180, 30_000  # reach, rows, up to which sums of two squares fit 16 bits, and 32


@dataclass(frozen=True)
class Search:
    """How a map is computed: the same for each of its blocks.

    Distances are in units of a row's height: those along columns are whole numbers, and so are all if pixels are
    square.

    Args:
        shape: of the map, (H, W).
        border: the second term.
        class_weights: the first, of background and of cells.

    Raises:
        UsageError: a reach of more than FURTHEST rows, within a map that large.
    """

    shape: tuple[int, int]
    border: Border
    class_weights: tuple[float, float]

    def __post_init__(self) -> None:
        if self.look > FURTHEST:
            raise UsageError(
                f"sigma {self.border.sigma:g} reaches over {int(self.look)} rows of this map, {FURTHEST} is the most: "
                "give a smaller sigma"
            )

    @property
    def aspect(self) -> float:
        """A pixel's width in units of its height."""
        return self.border.pixel_size[1] / self.border.pixel_size[0]

    @property
    def diagonal(self) -> float:
        return math.hypot(self.shape[0], self.shape[1] * self.aspect)

    @property
    def cutoff(self) -> float:
        """Largest d1 + d2 that counts; in a small map, nothing is as far away as the border's own."""
        return min(self.border.cutoff / self.border.pixel_size[0], 2 * self.diagonal)

    @property
    def needed(self) -> bool:
        """Whether any pixel can be near two cells: d1 and d2 are a pixel's edge at least."""
        return self.border.w0 > 0 and self.cutoff >= 2 * min(1.0, self.aspect)

    @property
    def look(self) -> float:
        """Distance up to which a chunk without borders looks: enough to let it rest for CALM rows."""
        return self.cutoff + 2 * CALM

    @property
    def margin(self) -> tuple[int, int]:
        """Rows and columns around a block whose labels are looked at."""
        return min(int(self.look), self.shape[0]), min(int(self.look / self.aspect), self.shape[1])

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """Type of squared distances."""
        if self.aspect != 1 or self.look > LONG:
            return np.dtype(np.float32)
        return np.dtype(np.uint16 if self.look <= SHORT else np.int32)

    def limits(self, dtype: np.dtype[Any]) -> Limits:
        """Return how far to look, with squared distances of a type."""
        return Limits(*self._limits(self.cutoff, dtype), *self._limits(self.look, dtype))

    def _limits(self, furthest: float, dtype: np.dtype[Any]) -> tuple[Any, Any, int, int]:
        near, beyond = (furthest / 2) ** 2, furthest**2
        if dtype == np.float32:
            near, beyond = near * (1 + 1e-6), beyond * (1 + 1e-6)  # more than rounding can take away
        else:
            near, beyond = math.floor(near) + 1, math.floor(beyond) + 1
        columns = min(int(furthest / self.aspect), self.shape[1])
        halfway = min(int(furthest / 2 / self.aspect), self.shape[1])
        return dtype.type(near), dtype.type(beyond), halfway, columns

    @cached_property
    def term(self) -> Term:
        sigma = self.border.sigma / self.border.pixel_size[0]
        background, cell = self.class_weights
        scale = -1 / (128 * sigma * sigma)
        return Term(self.cutoff, scale, float(self.border.w0), float(background), float(cell))

    def blocks(self, threads: int) -> Iterator[Box]:
        """Yield the blocks of the map: larger ones for a larger margin, whose share must stay small."""
        whole = Box.of_shape(self.shape)
        across = -(-whole.width // max(COLUMNS, 4 * self.margin[1]))
        rows = max(ROWS, 4 * self.margin[0])
        if -(-whole.height // rows) * across < threads:
            rows = max(FEWEST_ROWS, -(-whole.height // -(-threads // across)))
        columns = -(-whole.width // across)
        for y in range(0, whole.height, rows):
            for x in range(0, whole.width, columns):
                yield Box(y, x, y + rows, x + columns).intersect(whole)


def fill_map(labels: NDArray[Any], search: Search, threads: int) -> NDArray[np.float32]:
    """Return the weight map of labels (H, W), integers ≥ 0 of any type, computed by up to so many threads.

    The threads end with the call, so that a process may be forked before and after it.
    """
    out = np.empty(search.shape, np.float32)
    if not search.needed:
        background, cell = search.class_weights
        out[...] = background
        out[labels != 0] = cell
        return out
    threads = min(threads, max(1, labels.size // THREAD_PIXELS))
    blocks = list(search.blocks(threads))
    todo = deque(blocks)

    def work() -> None:
        worker = _Worker(search, _as_unsigned(labels), out, blocks[0].shape)
        while todo:
            try:
                block = todo.popleft()
            except IndexError:  # another thread took the last one
                return
            worker.fill(block)

    helpers = min(threads, len(blocks)) - 1
    if helpers < 1:
        work()
        return out
    with ThreadPoolExecutor(helpers) as pool:
        others = [pool.submit(work) for _ in range(helpers)]
        work()
        for other in others:
            other.result()
    return out


class _Room(NamedTuple):
    """What one thread keeps from block to block: for its ids, for the search, and how far that goes."""

    ids: NDArray[Any]
    scratch: Scratch
    limits: Limits


class _Worker:
    """Computes blocks on one thread.

    Args:
        labels: (H, W) unsigned.
        out: (H, W) float32, to be filled.
        shape: of the largest block.
    """

    def __init__(self, search: Search, labels: NDArray[Any], out: NDArray[np.float32], shape: tuple[int, int]) -> None:
        self._search = search
        self._labels = labels
        self._out = out
        self._shape = shape
        self._rooms: dict[np.dtype[Any], _Room] = {}

    def fill(self, block: Box) -> None:
        """Write one block of the map."""
        rows, columns = self._search.margin
        seen = Box(block.y0 - rows, block.x0 - columns, block.y1 + rows, block.x1 + columns)
        seen = seen.intersect(Box.of_shape(self._search.shape))
        left = seen.x0 - block.x0 + columns
        room = self._room(self._search.dtype)
        ids = self._load(seen, left, room.ids)
        if ids is None:  # more ids than 16 bits tell apart
            room = self._room(np.dtype(np.int32))
            ids = self._load(seen, left, room.ids)
            assert ids is not None
        place = Place(block.y0 - seen.y0, block.y0, block.x0, block.height, block.width)
        fill_block(ids, place, room.limits, self._search.term, room.scratch, self._out)

    def _load(self, seen: Box, left: int, room: NDArray[Any]) -> NDArray[Any] | None:
        """Return the labels of a box as ids of the room's type, in its columns; None if they do not fit."""
        ids, right = room[: seen.height], left + seen.width
        ids[:, :left], ids[:, right:] = 0, 0
        part, most = self._labels[seen.slices], int(np.iinfo(room.dtype).max)
        if int(part.max()) <= most:
            np.copyto(ids[:, left:right], part, casting="unsafe")
            return ids
        if room.dtype == np.uint16:
            plain = self._labels.flags.c_contiguous and self._labels.flags.writeable  # one type alone is compiled
            whole, box = (self._labels, seen) if plain else (part.copy(), seen.relative_to(seen))
            if rebase(whole, box.y0, box.y1, box.x0, box.x1, ids, left):
                return ids
        count, numbered = renumber(part)
        if count > most:
            return None
        ids[:, left:right] = numbered
        return ids

    def _room(self, dtype: np.dtype[Any]) -> _Room:
        if dtype not in self._rooms:
            rows, columns = self._search.margin
            squares = ((np.arange(columns + 1) * self._search.aspect) ** 2).astype(dtype)
            strip = min(self._shape[0], max(STRIP, rows))
            scratch = new_scratch(self._shape, columns, int(self._search.look) + 1, strip, squares)
            ids = np.empty((self._shape[0] + 2 * rows, scratch.ids.shape[1]), scratch.ids.dtype)
            self._rooms[dtype] = _Room(ids, scratch, self._search.limits(dtype))
        return self._rooms[dtype]


def _as_unsigned(labels: NDArray[Any]) -> NDArray[Any]:
    """Return labels, none of which is negative, as unsigned integers in the machine's byte order."""
    native = labels.astype(labels.dtype.newbyteorder("="), copy=False)
    return native.view(np.dtype(f"u{native.itemsize}"))
