"""The work of a run that is computed by rows: strip after strip, from the slide to the run directory.

    thread:   read strip 1 | read strip 2    | read strip 3    |
    caller:                | compute strip 1 | compute strip 2 | compute strip 3
    thread:                                  | write the blocks that strip 1 ends | …

Memory is that of three strips and of the blocks of three, whatever the image's size.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.segmentation.compute import BlockPixels, TileComputer
from unettile.segmentation.rowcompute import NEW_ENOUGH, RowComputer
from unettile.segmentation.rundir import RunDirectory
from unettile.segmentation.strips import OpenBlock, Strip, StripReader
from unettile.segmentation.watch import PART_S, Tally, Watch
from unettile.segmentation.windows import WindowReader
from unettile.segmentation.within import Within


@dataclass
class StripWork:
    """The loop over strips.

    Args:
        rows, tiles: who computes those that suit, and the others.
        width: of a column at most, px.
    """

    run: RunDirectory
    reader: WindowReader
    rows: RowComputer
    tiles: TileComputer
    width: int
    tally: Tally
    _step_s: float = field(default=0.0, init=False)  # the longest part of a strip so far
    _stored: float = field(default=0.0, init=False)  # when parts were stored last

    def do(self, indices: range, watch: Watch, within: Within | None = None) -> None:
        """Compute the blocks that are not finished.

        Args:
            within: tells where to work; None for everywhere.

        Raises:
            Interrupted, Incomplete: asked to stop, or out of time; what is computed is kept.
            InputError: the image cannot be read, or the run directory not be written.
        """
        part = watch.profile.part

        def read(region: Box) -> NDArray[np.generic]:
            with part("read"):
                return self.reader.read(region)

        total = sum(self.run.plan.blocks[index].box.area for index in indices)
        done = 0  # pixels
        written: list[Future[None]] = []
        strips = StripReader(self.run, read, within, self.width, NEW_ENOUGH).strips(indices)
        self._stored = time.monotonic()
        strip: Strip | None = None
        with ThreadPoolExecutor(1, "reader") as reading, ThreadPoolExecutor(1, "writer") as writing:
            coming = reading.submit(next, strips, None)
            try:
                while True:
                    with part("wait"):
                        following = coming.result()
                    if following is None:
                        break
                    strip = following
                    coming = reading.submit(next, strips, None)
                    with part("compute"):
                        self._compute(strip, watch, done, total)
                    if strip.ends:
                        with part("wait"):
                            _finish(written)  # no more than the blocks of one strip wait to be written
                        written = [self._hand_over(block, writing, watch) for block in strip.blocks]
                    if strip.ends or not strip.tiles:
                        done += self._count(strip)
                        watch.on_progress(done, total)
                    watch.check()
                with part("wait"):
                    _finish(written)
            except BaseException:  # a signal, the time limit or a defect: what is computed is kept
                if strip is not None:
                    with suppress(Exception):
                        self._store(strip)
                raise

    def _count(self, strip: Strip) -> int:
        """Count the blocks that end with a strip, or were finished before; return their pixels."""
        pixels = sum(block.block.box.area for block in strip.blocks)
        if strip.ends:
            self.tally.computed += len(strip.blocks)
            self.tally.pixels += pixels
        else:
            self.tally.resumed += len(strip.blocks)
        return pixels

    def _hand_over(self, block: OpenBlock, writing: ThreadPoolExecutor, watch: Watch) -> Future[None]:
        """Let a block be written; from now on it is the writer's."""
        block.stored = block.done
        return writing.submit(self._write, block, watch)

    def _write(self, block: OpenBlock, watch: Watch) -> None:
        with watch.profile.part("write"):
            self.run.write_block(block.block, block.close(self.run.plan))

    def _compute(self, strip: Strip, watch: Watch, before: int, total: int) -> None:
        """Compute the tiles of a strip."""
        if not strip.tiles:
            return
        start = time.monotonic()
        done = 0
        for number in self.rows.fill(strip) if self.rows.suits(strip) else self._by_tiles(strip):
            for block, _ in strip.tiles[done:number]:
                block.done += 1
            done = number
            now = time.monotonic()
            self._step_s, start = max(self._step_s, now - start), now
            watch.on_progress(before + sum(_area_done(block) for block in strip.blocks), total)
            if done == len(strip.tiles):
                break
            watch.check(ahead=self._step_s)
            if now - self._stored >= PART_S:
                self._store(strip)

    def _by_tiles(self, strip: Strip) -> Iterator[int]:
        """Fill in the tiles of a strip, block by block, which is their order; yield how many are done."""
        before = 0
        for block in strip.blocks:
            tiles = [tile for owner, tile in strip.tiles if owner is block]
            work = BlockPixels(block.block, tiles, strip.region, strip.pixels)
            for number in self.tiles.fill(work, block.pixels):
                yield before + number
            before += len(tiles)

    def _store(self, strip: Strip) -> None:
        """Store what is computed of the blocks in work, not of those that the writer has."""
        for block in strip.blocks:
            if block.stored < block.done:
                self.run.write_part(block.block, block.pixels, block.done)
                block.stored = block.done
        self._stored = time.monotonic()


def _finish(written: list[Future[None]]) -> None:
    for future in written:
        future.result()


def _area_done(block: OpenBlock) -> int:
    return block.block.box.area * block.done // max(1, len(block.tiles))
