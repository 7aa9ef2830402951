"""The work of a run: one block after the other, from the slide to the run directory.

    thread:   read block 1 | read block 2    | read block 3    |
    caller:                | compute block 1 | compute block 2 | compute block 3
    thread:                                  | write block 1   | write block 2   | write block 3

Memory is that of two blocks and of one batch of windows, whatever the image's size. For a GPU more threads read and
write, each a block. What is computed by rows is not done in blocks, but in strips (see stripwork.py).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import islice
from queue import SimpleQueue
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.inference.predict import Predictor
from unettile.segmentation.columns import column_width
from unettile.segmentation.compute import BlockPixels, TileComputer, background, clear_outside
from unettile.segmentation.crew import Calls, make_crew
from unettile.segmentation.recall import RECALL_BYTES
from unettile.segmentation.rowcompute import RowComputer
from unettile.segmentation.rundir import RunDirectory
from unettile.segmentation.stripwork import StripWork
from unettile.segmentation.watch import PART_S, Tally, Watch
from unettile.segmentation.windows import WindowReader
from unettile.segmentation.within import Within
from unettile.tiling import Block


class Work:
    """The loop over blocks.

    Args:
        batch: windows at once.
        recall_bytes: of windows that are remembered in order not to be computed twice; 0 for none.

    Raises:
        torch.OutOfMemoryError: a device has no room for a window.
    """

    def __init__(
        self,
        reader: WindowReader,
        predictor: Predictor,
        batch: int,
        run: RunDirectory,
        recall_bytes: int = RECALL_BYTES,
    ) -> None:
        calls = Calls(self._following, lambda line: self._watch.advise(line))
        self._crew = make_crew(run.plan, predictor, self._scale, batch, recall_bytes, calls)
        self._reader, self._run = reader, run
        self._idle: SimpleQueue[WindowReader] = SimpleQueue()
        self._coming: deque[Future[BlockPixels | None]] = deque()
        self._watch = Watch()
        self._one_asks = Lock()
        self._within: Within | None = None
        self._step_s = 0.0  # the longest batch so far
        self.tally = Tally()
        self._by_rows: StripWork | None = None
        if width := column_width(run.plan, predictor):
            assert isinstance(self._crew.computer, TileComputer)
            across = run.plan.blocks.edge // run.plan.tiles.write_edge  # tiles of a block that a strip has
            tiles = replace(self._crew.computer, batch=min(batch, across))
            rows = RowComputer(run.plan, self._scale, partial(predictor.by_rows, run.plan.stored), tiles.recall)
            self._by_rows = StripWork(run, reader, rows, tiles, width, self.tally)

    def do(self, indices: range, watch: Watch, within: Within | None = None) -> None:
        """Compute the blocks that are not finished.

        Args:
            within: tells where to work; None for everywhere.

        Raises:
            Interrupted, Incomplete: asked to stop, or out of time; what is computed is kept.
            InputError: the image cannot be read, or the run directory not be written.
        """
        self._watch, self._within = watch, within
        if self._by_rows is not None:
            return self._by_rows.do(indices, watch, within)
        blocks = [self._run.plan.blocks[index] for index in indices]
        total = sum(block.box.area for block in blocks)
        done = 0
        written: deque[Future[None]] = deque()
        wait = partial(watch.profile.part, "wait")
        writing = ThreadPoolExecutor(self._crew.writers, "writer")
        with self._reading(len(blocks)) as reading, writing:
            todo = iter(blocks)
            self._coming.extend(reading.submit(self._read, block) for block in islice(todo, self._crew.readers))
            for block in blocks:
                with wait():
                    work = self._coming.popleft().result()
                self._coming.extend(reading.submit(self._read, block) for block in islice(todo, 1))
                if work is None:
                    self.tally.resumed += 1
                else:
                    with watch.profile.part("compute"):
                        pixels = self._compute(work, watch, done, total)
                    if len(written) == self._crew.writers:
                        with wait():
                            written.popleft().result()  # no more blocks wait to be written
                    written.append(writing.submit(self._write, block, pixels))
                    self.tally.computed += 1
                    self.tally.pixels += block.box.area
                done += block.box.area
                watch.on_progress(done, total)
                watch.check()
            with wait():
                for last in written:
                    last.result()

    @contextmanager
    def _reading(self, blocks: int) -> Iterator[ThreadPoolExecutor]:
        """Give threads that read, each with a reader of its own; nothing more is read once the work ends."""
        with ExitStack() as opened:
            count = min(self._crew.readers, blocks) if self._reader.can_reopen else 1
            if count <= 1:
                self._idle.put(self._reader)
            else:  # the first one stays with `within`
                for _ in range(count):
                    self._idle.put(opened.enter_context(closing(self._reader.another())))
            with ThreadPoolExecutor(max(1, count), "reader") as threads:
                try:
                    yield threads
                finally:
                    for future in self._coming:
                        future.cancel()
                    self._coming.clear()
            while not self._idle.empty():
                self._idle.get()

    def _following(self) -> BlockPixels | None:
        """Return the next block, if it has been read and is not finished."""
        if not self._coming or not self._coming[0].done() or self._coming[0].exception() is not None:
            return None
        return self._coming[0].result()

    def _read(self, block: Block) -> BlockPixels | None:
        """Return what is to be computed of a block; None if it is finished."""
        with self._watch.profile.part("read"):
            return self._read_block(block)

    def _read_block(self, block: Block) -> BlockPixels | None:
        if self._run.is_done(block):
            return None
        tiles = list(self._run.plan.tiles.tiles_in(block.box))
        with self._one_asks:
            inside = None if self._within is None else self._within(block.box)
        if inside is not None:
            tiles = [tile for tile in tiles if inside[tile.write.relative_to(block.box).slices].any()]
        if not tiles:
            return BlockPixels(block, (), Box(0, 0, 0, 0), np.empty((0, 0, 1), np.uint8), inside)
        windows = [tile.window for tile in tiles]
        region = Box(
            min(window.y0 for window in windows),
            min(window.x0 for window in windows),
            max(window.y1 for window in windows),
            max(window.x1 for window in windows),
        )
        reader = self._idle.get()
        try:
            region, pixels = reader.read_shown(region) if self._crew.mirrors else (region, reader.read(region))
        finally:
            self._idle.put(reader)
        return self._crew.stage(BlockPixels(block, tiles, region, pixels, inside, self._run.read_part(block)))

    def _scale(self, pixels: NDArray[np.generic]) -> NDArray[np.float32]:
        with self._watch.profile.part("normalise"):
            return self._reader.scale(pixels)

    def _write(self, block: Block, pixels: NDArray[np.uint8]) -> None:
        with self._watch.profile.part("write"):
            self._run.write_block(block, pixels)

    def _compute(self, work: BlockPixels, watch: Watch, before: int, total: int) -> NDArray[np.uint8]:
        """Return the pixels of a block, (h, w) or (K, h, w), from what an earlier process stored of it onwards."""
        result, kept = work.part or (background(self._run.plan, work.block.box), 0)
        done = kept
        stored = start = time.monotonic()
        try:
            for done in self._crew.computer.fill(work, result, kept):
                now = time.monotonic()
                self._step_s, start = max(self._step_s, now - start), now
                watch.on_progress(before + work.block.box.area * done // len(work.tiles), total)
                if done == len(work.tiles):
                    break
                watch.check(ahead=self._step_s)
                if now - stored >= PART_S:
                    self._run.write_part(work.block, result, done)
                    kept, stored = done, now
        except BaseException:  # a signal, the time limit or a defect: what is computed is kept
            if done > kept:
                with suppress(Exception):
                    self._run.write_part(work.block, result, done)
            raise
        clear_outside(self._run.plan, work.block.box, work.inside, result)
        return result
