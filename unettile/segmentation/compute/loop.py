"""The loop of a run: strips are read ahead, computed by an engine, and their blocks written behind.

    threads:  read strip 1 | read strip 2    | read strip 3    |
    caller:                | compute strip 1 | compute strip 2 | compute strip 3
    threads:                                 | write the blocks that strip 1 ends | …

Memory is that of a few strips and of the blocks of as many, whatever the image's size.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from unettile.inference.engine import Engine, Listener, Patch, Strip
from unettile.segmentation.compute.pixels import PixelReader
from unettile.segmentation.compute.reading import Pieces, reading
from unettile.segmentation.compute.strips import Kept, OpenBlock, OpenStrip
from unettile.segmentation.compute.writing import Writing
from unettile.segmentation.run.directory import RunDirectory
from unettile.segmentation.run.watch import PART_S, Tally, Watch
from unettile.segmentation.where import Within
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
        with (
            reading(self.run, self.reader, self.engine, indices, watch, within) as pieces,
            Writing(self.run, self.engine.writers, watch) as writing,
        ):
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


class _Progress:
    """The strips that an engine is given, and what becomes of its patches.

    Args:
        total: px of all blocks.
    """

    def __init__(
        self, run: RunDirectory, watch: Watch, tally: Tally, total: int, pieces: Pieces, writing: Writing
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
