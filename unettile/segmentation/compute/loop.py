"""The loop of a run: strips are read ahead, computed by an engine, and their blocks written behind.

    threads:  read strip 1 | read strip 2    | read strip 3    |
    caller:                | compute strip 1 | compute strip 2 | compute strip 3
    threads:                                 | write the blocks that strip 1 ends | …

Memory is that of a few strips and of the blocks of as many, whatever the image's size.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import repeat
from queue import SimpleQueue
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.inference.engine import Engine, Listener, Patch, Strip
from unettile.segmentation.compute.pixels import PixelReader
from unettile.segmentation.compute.strips import Kept, OpenBlock, OpenStrip, Piece, StripReader, rows_of_blocks
from unettile.segmentation.run.directory import RunDirectory
from unettile.segmentation.run.watch import PART_S, Tally, Watch
from unettile.segmentation.where import Inside, Within
from unettile.tiling import Block


@dataclass
class Loop:
    """The blocks of a run, one after the other, from the image to the run directory.

    Args:
        engine: prepared for the run's task.
        batch: windows at once.
    """

    run: RunDirectory
    reader: PixelReader
    engine: Engine
    batch: int
    tally: Tally = field(default_factory=Tally)

    def do(self, indices: range, watch: Watch, within: Within | None = None) -> None:
        """Compute the blocks that are not finished.

        Args:
            within: tells where to work; None for everywhere.

        Raises:
            Interrupted, Incomplete: asked to stop, or out of time; what is computed is kept.
            InputError: the image cannot be read, or the run directory not be written.
        """
        total = sum(self.run.plan.blocks[index].box.area for index in indices)
        with self._reading(indices, watch, within) as pieces, _Writing(self.run, self.engine.writers, watch) as writing:
            progress = _Progress(self.run, watch, self.tally, total, pieces, writing)
            listener = Listener(watch.advise, watch.profile.part)
            try:
                patches = self.engine.run(self.run.plan.task, progress, self.batch, listener)
                while True:
                    with watch.profile.part("compute"):
                        patch = next(patches, None)
                    if patch is None:
                        break
                    progress.place(patch)
            except BaseException:  # a signal, the time limit or a defect: what is computed is kept
                with suppress(Exception):
                    progress.store()
                raise
            writing.finish()

    @contextmanager
    def _reading(self, indices: range, watch: Watch, within: Within | None) -> Iterator[_Pieces]:
        """Give what is read ahead, by as many threads as the engine wants; nothing more is read once the work ends."""
        cut, plan = self.engine.cut(self.run.plan.task), self.run.plan
        rows = rows_of_blocks(plan.blocks, indices, cut.width)
        where = None if within is None else _one_at_a_time(within)

        def strips_of(reader: PixelReader) -> StripReader:
            return StripReader(self.run, reader, where, cut, self.engine.mirrors)

        count = min(self.engine.readers, len(indices)) if self.reader.can_reopen else 1
        with ExitStack() as opened:
            if count <= 1:  # one goes from a strip to the one below it
                strips = strips_of(self.reader)
                one_by_one = (piece for blocks in rows for piece in strips.read(blocks))
                tasks: Iterator[Callable[[], Sequence[Piece]]] = repeat(lambda: _next(one_by_one))
            else:  # each has the file open, and reads whole rows of blocks; the first reader stays with `within`
                idle: SimpleQueue[StripReader] = SimpleQueue()
                for _ in range(count):
                    idle.put(strips_of(opened.enter_context(closing(self.reader.another()))))
                tasks = (partial(_with_idle, idle, blocks) for blocks in rows)
            threads = opened.enter_context(ThreadPoolExecutor(max(1, count), "reader"))
            yield opened.enter_context(closing(_Pieces(tasks, threads, max(1, count), self.engine.stage, watch)))


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


class _Pieces:
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


class _Writing:
    """Finished blocks on their way to the run directory; no more of them wait than there are threads.

    Use it in a `with`.
    """

    def __init__(self, run: RunDirectory, threads: int, watch: Watch) -> None:
        self._run, self._watch, self._most = run, watch, threads
        self._threads = ThreadPoolExecutor(threads, "writer")
        self._written: deque[list[Future[None]]] = deque()  # of strips

    def __enter__(self) -> _Writing:
        return self

    def __exit__(self, *error: object) -> None:
        self._threads.shutdown(wait=True)

    def hand_over(self, blocks: Sequence[OpenBlock]) -> None:
        """Let blocks be written; from now on they are the writers'."""
        with self._watch.profile.part("wait"):
            while len(self._written) >= self._most:
                _wait_for(self._written.popleft())
        for block in blocks:
            block.stored = block.done
        self._written.append([self._threads.submit(self._write, block) for block in blocks])

    def finish(self) -> None:
        """Return when all is written."""
        with self._watch.profile.part("wait"):
            while self._written:
                _wait_for(self._written.popleft())

    def _write(self, block: OpenBlock) -> None:
        with self._watch.profile.part("write"):
            self._run.write_block(block.block, block.close(self._run.plan))


def _wait_for(written: Sequence[Future[None]]) -> None:
    for future in written:
        future.result()


class _Progress:
    """The strips that an engine is given, and what becomes of its patches.

    Args:
        total: px of all blocks.
    """

    def __init__(
        self, run: RunDirectory, watch: Watch, tally: Tally, total: int, pieces: _Pieces, writing: _Writing
    ) -> None:
        self._run, self._watch, self._tally, self._total = run, watch, tally, total
        self._pieces, self._writing = pieces, writing
        self._open: deque[OpenStrip] = deque()  # given to the engine and not computed yet
        self._above: OpenStrip | None = None  # computed, while its blocks go on below
        self._tiles = 0  # of the first of them
        self._done = 0  # px of finished blocks
        self._step_s = 0.0  # the longest step so far
        self._stored = self._since = time.monotonic()

    def take(self, *, wait: bool = True) -> Strip | None:
        """Return the next strip that has something to compute; see `Supply`."""
        while (piece := self._pieces.take(wait=wait)) is not None:
            if isinstance(piece, Kept):
                self._tally.resumed += 1
                self._count(piece.block)
            elif piece.strip is None:
                self._end(piece)
            else:
                self._open.append(piece)
                self._since = time.monotonic()
                return piece.strip
        return None

    def place(self, patch: Patch) -> None:
        """Place what was computed.

        Raises:
            Interrupted, Incomplete: asked to stop, or out of time.
        """
        current = self._open[0]
        assert patch.strip is current.strip
        for block in current.blocks:
            block.place(patch.box, patch.planes)
        for block in current.owners[self._tiles : patch.done]:
            block.done += 1
        self._tiles = max(self._tiles, patch.done)
        now = time.monotonic()
        self._step_s, self._since = max(self._step_s, now - self._since), now
        if self._tiles == len(current.owners):
            self._tiles = 0
            self._above = self._open.popleft()
            if current.ends:
                self._end(current)
                return
        self._progress(current.blocks)
        self._watch.check(ahead=self._step_s)
        if now - self._stored >= PART_S:
            self.store()

    def store(self) -> None:
        """Store what is computed of the blocks in work, not of those that the writers have."""
        for strip in (*self._open, self._above):
            for block in strip.blocks if strip is not None else ():
                if block.stored < block.done:
                    self._run.write_part(block.block, block.planes, block.done)
                    block.stored = block.done
        self._stored = time.monotonic()

    def _end(self, strip: OpenStrip) -> None:
        """Hand over the blocks of a strip."""
        self._writing.hand_over(strip.blocks)
        self._tally.computed += len(strip.blocks)
        self._tally.pixels += sum(block.block.box.area for block in strip.blocks)
        for block in strip.blocks:
            self._count(block.block)

    def _count(self, block: Block) -> None:
        self._done += block.box.area
        self._progress(())
        self._watch.check()

    def _progress(self, blocks: Sequence[OpenBlock]) -> None:
        self._watch.on_progress(self._done + sum(block.area_done for block in blocks), self._total)
