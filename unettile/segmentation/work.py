"""The work of a run: one block after the other, from the slide to the run directory.

    thread:   read block 1 | read block 2    | read block 3    |
    caller:                | compute block 1 | compute block 2 | compute block 3
    thread:                                  | write block 1   | write block 2   | write block 3

Memory is that of two blocks and of one batch of windows, whatever the image's size.
"""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.segmentation.compute import BlockPixels, RowComputer, TileComputer
from unettile.segmentation.predict import Predictor
from unettile.segmentation.recall import RECALL_BYTES, Recall
from unettile.segmentation.rundir import RunDirectory
from unettile.segmentation.watch import Watch
from unettile.segmentation.windows import WindowReader
from unettile.segmentation.within import Within
from unettile.tiling import Block

PART_S = 30.0
"""Seconds after which the finished tiles of a block in work are stored: the most that a kill costs a slow network."""


@dataclass
class Tally:
    """What was done: blocks computed, blocks that were there, and the pixels of the former."""

    computed: int = 0
    resumed: int = 0
    pixels: int = 0


class Work:
    """The loop over blocks.

    Args:
        batch: windows at once.
        recall_bytes: of windows that are remembered in order not to be computed twice; 0 for none.
    """

    def __init__(
        self,
        reader: WindowReader,
        predictor: Predictor,
        batch: int,
        run: RunDirectory,
        recall_bytes: int = RECALL_BYTES,
    ) -> None:
        plan = run.plan
        predict = predictor.writing(plan.write)
        recall = Recall(plan.planes * plan.tiles.write_edge**2, recall_bytes)
        self._tiles = TileComputer(plan, reader.scale, predict, batch, recall)
        self._rows = RowComputer(plan, reader.scale, partial(predictor.by_rows, plan.write), recall)
        self._reader, self._run = reader, run
        self._within: Within | None = None
        self._step_s = 0.0  # the longest batch so far
        self.tally = Tally()

    def do(self, indices: range, watch: Watch, within: Within | None = None) -> None:
        """Compute the blocks that are not finished.

        Args:
            within: tells where to work; None for everywhere.

        Raises:
            Interrupted, Incomplete: asked to stop, or out of time; what is computed is kept.
            InputError: the image cannot be read, or the run directory not be written.
        """
        self._within = within
        blocks = [self._run.plan.blocks[index] for index in indices]
        total = sum(block.box.area for block in blocks)
        done = 0
        written: Future[None] | None = None
        with ThreadPoolExecutor(1) as reading, ThreadPoolExecutor(1) as writing:
            coming = [reading.submit(self._read, block) for block in blocks[:1]]
            for block, following in zip_longest(blocks, blocks[1:]):
                work = coming.pop().result()
                if following is not None:
                    coming.append(reading.submit(self._read, following))
                if work is None:
                    self.tally.resumed += 1
                else:
                    pixels = self._compute(work, watch, done, total)
                    if written is not None:
                        written.result()  # at most one block waits to be written
                    written = writing.submit(self._run.write_block, block, pixels)
                    self.tally.computed += 1
                    self.tally.pixels += block.box.area
                done += block.box.area
                watch.on_progress(done, total)
                watch.check()
            if written is not None:
                written.result()

    def _read(self, block: Block) -> BlockPixels | None:
        """Return what is to be computed of a block; None if it is finished."""
        if self._run.is_done(block):
            return None
        tiles = list(self._run.plan.tiles.tiles_in(block.box))
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
        return BlockPixels(block, tiles, region, self._reader.read(region), inside)

    def _compute(self, work: BlockPixels, watch: Watch, before: int, total: int) -> NDArray[np.uint8]:
        """Return the pixels of a block, (h, w) or (K, h, w), from what an earlier process stored of it onwards."""
        result, kept = self._run.read_part(work.block) or (work.background(self._run.plan), 0)
        done = kept
        stored = start = time.monotonic()
        try:
            computer = self._rows if self._rows.suits(work, kept) else self._tiles
            for done in computer.fill(work, result, kept):
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
        work.clear_outside(self._run.plan, result)
        return result
