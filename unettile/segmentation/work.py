"""The work of a run: one block after the other, from windows to the run directory.

    slide --read_mirrored--> block + margin --scale, cut--> windows --Predictor--> tiles --> block --> run directory

Memory is that of one block and of one batch of windows, whatever the image's size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.errors import Interrupted
from unettile.images.slide import Slide
from unettile.segmentation.predict import Predictor
from unettile.segmentation.rundir import RunDirectory
from unettile.segmentation.windows import WindowReader
from unettile.tiling import Block, Tile


@dataclass(frozen=True)
class Watch:
    """What is told to, and asked of, whoever started a run.

    Args:
        on_progress: takes pixels done and pixels in all.
        should_stop: asked after each block; returns the number of a signal, or None to go on.
    """

    on_progress: Callable[[int, int], None] = lambda done, total: None
    should_stop: Callable[[], int | None] = lambda: None


class Work:
    """The loop over blocks; counts what it did."""

    def __init__(self, slide: Slide, predictor: Predictor, batch: int, run: RunDirectory) -> None:
        self._reader = WindowReader(slide, run.plan, predictor.checkpoint.in_channels)
        self._predict = predictor.classes if run.plan.write == "classes" else predictor.levels
        self._batch, self._run = batch, run
        self.computed = self.resumed = self.pixels = 0

    def do(self, indices: range, watch: Watch) -> None:
        """Compute the blocks that are not finished.

        Raises:
            Interrupted: asked to stop.
        """
        blocks = [self._run.plan.blocks[index] for index in indices]
        total = sum(block.box.area for block in blocks)
        done = 0
        for block in blocks:
            if self._run.is_done(block):
                self.resumed += 1
            else:
                pixels = self._compute(block, partial(_report, watch, done, total))
                self._run.write_block(block, pixels)
                self.computed += 1
                self.pixels += block.box.area
            done += block.box.area
            watch.on_progress(done, total)
            signum = watch.should_stop()
            if signum is not None:
                raise Interrupted(signum)

    def _compute(self, block: Block, on_area: Callable[[int], None]) -> NDArray[np.uint8]:
        """Return the pixels of a block, (h, w) or (K, h, w)."""
        plan = self._run.plan
        tiles = list(plan.tiles.tiles_in(block.box))
        region = Box(tiles[0].window.y0, tiles[0].window.x0, tiles[-1].window.y1, tiles[-1].window.x1)
        pixels = self._reader.read(region)
        planes = () if plan.planes == 1 else (plan.planes,)
        result = np.empty((*planes, *block.box.shape), np.uint8)
        area = 0
        for batch in _batches(tiles, self._batch):
            windows = np.stack([self._reader.scale(pixels[t.window.relative_to(region).slices]) for t in batch])
            # the shape stays the same to the last: kernels may be chosen by it
            padding = np.repeat(windows[-1:], self._batch - len(batch), axis=0)
            outputs = self._predict(np.concatenate([windows, padding]) if len(padding) else windows)
            for tile, output in zip(batch, outputs[: len(batch)], strict=True):
                place = tile.write.relative_to(block.box).slices
                result[(..., *place)] = output[..., : tile.write.height, : tile.write.width]
                area += tile.write.area
            on_area(area)
        return result


def _report(watch: Watch, before: int, total: int, area: int) -> None:
    watch.on_progress(before + area, total)


def _batches(tiles: list[Tile], size: int) -> Iterator[list[Tile]]:
    return (tiles[start : start + size] for start in range(0, len(tiles), size))
