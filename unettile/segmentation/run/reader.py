"""Block reader: the finished blocks of a run, each checked, a few at a time in threads."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.errors import Incomplete
from unettile.limits import count_threads
from unettile.segmentation.run.directory import RunDirectory
from unettile.tiling import Block

CACHE_BYTES = 2**27  # decoded blocks kept while the output is written in bands that are lower than a block
MOST_THREADS = 4  # decoding and hashing so many blocks at once keeps up with what writes them


class BlockReader:
    """Reads boxes of a run's mask; use it in a `with`.

    The blocks under a box are read at once, in threads; those beside it are not read ahead, because whoever writes a
    pyramid does not go along rows. At most CACHE_BYTES of blocks are kept, or two.

    Args:
        run: a run directory.
        on_block: takes the index of a block when it is found to be as it was written, for the first time.
    """

    def __init__(self, run: RunDirectory, on_block: Callable[[int], None] = lambda index: None) -> None:
        self.plan = run.plan
        self._run, self._on_block = run, on_block
        self._threads = min(MOST_THREADS, count_threads())
        self._pool = ThreadPoolExecutor(self._threads)
        self._loading: OrderedDict[int, Future[NDArray[np.uint8] | None]] = OrderedDict()
        self._checked: set[int] = set()
        block_bytes = self.plan.planes * self.plan.blocks[0].box.area
        self._room = max(2, CACHE_BYTES // block_bytes)  # blocks

    @property
    def path(self) -> Path:
        """Return the run directory."""
        return self._run.path

    def __enter__(self) -> BlockReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._loading.clear()

    def read_box(self, box: Box) -> NDArray[np.uint8]:
        """Return any box of the image, (P, h, w).

        Raises:
            Incomplete: a block under it is not finished, or damaged.
        """
        result = np.empty((self.plan.planes, *box.shape), np.uint8)
        blocks = self.plan.blocks
        under = [
            blocks[row * blocks.columns + column]
            for row in range(box.y0 // blocks.edge, -(-box.y1 // blocks.edge))
            for column in range(box.x0 // blocks.edge, -(-box.x1 // blocks.edge))
        ]
        for block in under[: self._room]:
            self._start(block)
        for block in under:
            part = block.box.intersect(box)
            source = self.read(block)[(..., *part.relative_to(block.box).slices)]
            result[(..., *part.relative_to(box).slices)] = source
        return result

    def read(self, block: Block) -> NDArray[np.uint8]:
        """Return the pixels of a block, (P, h, w).

        Raises:
            Incomplete: it is not finished, or damaged.
        """
        self._start(block)
        pixels = self._loading[block.index].result()
        if pixels is None:
            raise Incomplete(
                f"block {block.index} of {self._run.path} is missing or damaged: give the same command again"
            )
        self._note(block)
        return pixels

    def missing(self, indices: Iterable[int]) -> list[int]:
        """Return those of the blocks that are not finished, or damaged; every one is read."""
        blocks = [self.plan.blocks[index] for index in indices]
        found = []
        step = min(self._threads, self._room)
        for start in range(0, len(blocks), step):  # so that no more are in memory than are looked at
            some = blocks[start : start + step]
            for block in some:
                self._start(block)
            for block in some:
                if self._loading[block.index].result() is None:
                    found.append(block.index)
                else:
                    self._note(block)
        return found

    def _start(self, block: Block) -> None:
        """Begin to read a block unless it is there, and drop those that were not asked for the longest."""
        if block.index not in self._loading:
            self._loading[block.index] = self._pool.submit(self._run.load, block)
        self._loading.move_to_end(block.index)
        while len(self._loading) > self._room:
            self._loading.popitem(last=False)[1].cancel()

    def _note(self, block: Block) -> None:
        if block.index not in self._checked:
            self._checked.add(block.index)
            self._on_block(block.index)
