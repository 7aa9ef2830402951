"""Strips of a run, read ahead of their computation by threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from functools import partial
from itertools import repeat
from queue import SimpleQueue
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.inference.engine import Engine, Strip
from unettile.segmentation.compute.pixels import PixelReader
from unettile.segmentation.compute.strips import Kept, Piece, StripReader, rows_of_blocks
from unettile.segmentation.run.directory import RunDirectory
from unettile.segmentation.run.watch import Watch
from unettile.segmentation.where import Inside, Within
from unettile.tiling import Block


@contextmanager
def reading(
    run: RunDirectory, pixels: PixelReader, engine: Engine, indices: range, watch: Watch, within: Within | None
) -> Iterator[Pieces]:
    """Give what is read ahead, by as many threads as the engine wants; nothing more is read once the work ends.

    Args:
        indices: of the blocks.
        within: tells where to work; None for everywhere.
    """
    cut, plan = engine.cut(run.plan.task), run.plan
    rows = rows_of_blocks(plan.blocks, indices, cut.width)
    where = None if within is None else _one_at_a_time(within)

    def strips_of(reader: PixelReader) -> StripReader:
        return StripReader(run, reader, where, cut, engine.mirrors)

    count = min(engine.readers, len(indices)) if pixels.can_reopen else 1
    with ExitStack() as opened:
        if count <= 1:  # one goes from a strip to the one below it
            strips = strips_of(pixels)
            one_by_one = (piece for blocks in rows for piece in strips.read(blocks))
            tasks: Iterator[Callable[[], Sequence[Piece]]] = repeat(lambda: _next(one_by_one))
        else:  # each has the file open, and reads whole rows of blocks; the first reader stays with `within`
            idle: SimpleQueue[StripReader] = SimpleQueue()
            for _ in range(count):
                idle.put(strips_of(opened.enter_context(closing(pixels.another()))))
            tasks = (partial(_with_idle, idle, blocks) for blocks in rows)
        threads = opened.enter_context(ThreadPoolExecutor(max(1, count), "reader"))
        yield opened.enter_context(closing(Pieces(tasks, threads, max(1, count), engine.stage, watch)))


def _one_at_a_time(within: Within) -> Inside:
    """Return the same for several threads: a mask is read by one at a time."""
    lock = Lock()

    def locked(box: Box) -> NDArray[np.bool_]:
        with lock:
            return within(box)

    return locked


def _next(pieces: Iterator[Piece]) -> Sequence[Piece]:
    return [piece for piece in [next(pieces, None)] if piece is not None]


def _with_idle(idle: SimpleQueue[StripReader], blocks: Sequence[Block]) -> Sequence[Piece]:
    reader = idle.get()
    try:
        return list(reader.read(blocks))
    finally:
        idle.put(reader)


class Pieces:
    """Pieces of a run in order, read ahead by threads.

    Args:
        tasks: each reads some pieces; one that reads nothing is the last.
        ahead: how many of them are in work or done before they are wanted.
        stage: what the engine does to a strip as soon as it is read.
    """

    def __init__(
        self,
        tasks: Iterator[Callable[[], Sequence[Piece]]],
        threads: ThreadPoolExecutor,
        ahead: int,
        stage: Callable[[Strip], Strip],
        watch: Watch,
    ) -> None:
        self._tasks, self._threads, self._ahead, self._stage, self._watch = tasks, threads, ahead, stage, watch
        self._coming: deque[Future[Sequence[Piece]]] = deque()
        self._read: deque[Piece] = deque()
        self._submit()

    def take(self, *, wait: bool) -> Piece | None:
        """Return the next piece; None after the last one, or if it is not there and is not waited for."""
        while not self._read:
            if not self._coming or (not wait and not self._coming[0].done()):
                return None
            with self._watch.profile.part("wait"):
                found = self._coming.popleft().result()
            if not found:
                self.close()
                return None
            self._read.extend(found)
            self._submit()
        return self._read.popleft()

    def close(self) -> None:
        """Read nothing more."""
        self._tasks = iter(())
        while self._coming:
            self._coming.pop().cancel()

    def _submit(self) -> None:
        while len(self._coming) < self._ahead and (task := next(self._tasks, None)) is not None:
            self._coming.append(self._threads.submit(self._do, task))

    def _do(self, task: Callable[[], Sequence[Piece]]) -> Sequence[Piece]:
        with self._watch.profile.part("read"):
            return [self._staged(piece) for piece in task()]

    def _staged(self, piece: Piece) -> Piece:
        if isinstance(piece, Kept) or piece.strip is None:
            return piece
        return replace(piece, strip=self._stage(piece.strip))
