"""Computing: one block, from the pixels around it, tile by tile or as one window from top to bottom.

pixels of a block + margin --cut--> windows --scale--> batch --Predictor.writing--> tiles --> block
pixels of a block + margin --------- some rows --scale---------Predictor.by_rows--> rows ---> block

Both give the same bits. Rows waste less on margins, tiles need not be computed where windows are alike or masked out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.segmentation.plan import Plan
from unettile.segmentation.predict import ByRows
from unettile.segmentation.recall import Recall, Window
from unettile.segmentation.staging import Staged
from unettile.tiling import Block, Tile

LEAST_TILES = 4
"""Of a block that is computed by rows: noting the steps of a network takes time, too."""

NEW_ENOUGH = 0.75
"""Share of a block's windows that are unlike each other, from which on it is computed by rows."""

Scale = Callable[[NDArray[np.generic]], NDArray[np.float32]]
Predict = Callable[[NDArray[np.float32]], NDArray[np.uint8]]


@dataclass(frozen=True)
class BlockPixels:
    """What is to be computed of a block, and the pixels for it.

    Args:
        tiles: to compute, in raster order; not those that lie outside the mask.
        region: of the pixels: around the windows of the tiles.
        pixels: (h, w, C) in the slide's own type.
        inside: (h, w) of the block, where the mask is; None for everywhere.
        part: what an earlier process stored of the block, and how many of its tiles; None if nothing.
        staged: the pixels on the device that computes; None if they are not there.
    """

    block: Block
    tiles: Sequence[Tile]
    region: Box
    pixels: NDArray[np.generic]
    inside: NDArray[np.bool_] | None = None
    part: tuple[NDArray[np.uint8], int] | None = None
    staged: Staged | None = None

    @property
    def start(self) -> int:
        """Number of the first tile to compute."""
        return 0 if self.part is None else self.part[1]

    def background(self, plan: Plan) -> NDArray[np.uint8]:
        """Return the block where nothing is computed: class 0, its probability 255, depth 0."""
        planes = () if plan.planes == 1 else (plan.planes,)
        result = np.zeros((*planes, *self.block.box.shape), np.uint8)
        if "probabilities" in plan.stored:
            result[plan.planes_with("probabilities").start] = 255
        return result

    def clear_outside(self, plan: Plan, result: NDArray[np.uint8]) -> None:
        """Turn what lies outside the mask into background, so that it does not depend on where tiles end."""
        if self.inside is not None:
            np.copyto(result, self.background(plan), where=~self.inside)


class Computer(Protocol):
    """Computes the tiles of blocks."""

    def suits(self, work: BlockPixels, start: int = 0) -> bool:
        """Whether a block may, and had better, be computed so from tile `start` on."""
        ...

    def fill(self, work: BlockPixels, result: NDArray[np.uint8], start: int = 0) -> Iterator[int]:
        """Fill in the tiles of a block from number `start`; yield now and then how many are done.

        Args:
            result: (h, w) or (K, h, w) of the block; changed in place.
        """
        ...


@dataclass(frozen=True)
class TileComputer:
    """Computes the tiles of blocks.

    Args:
        scale: pixels as the network sees them.
        predict: a batch (N, H, W, C) → (N, h, w) or (N, K, h, w).
        batch: windows at once.
    """

    plan: Plan
    scale: Scale
    predict: Predict
    batch: int
    recall: Recall

    def suits(self, work: BlockPixels, start: int = 0) -> bool:
        """Every block can be computed so."""
        return True

    def fill(self, work: BlockPixels, result: NDArray[np.uint8], start: int = 0) -> Iterator[int]:
        """Fill in the tiles of a block from number `start`; yield after each batch how many are done.

        Args:
            result: (h, w) or (K, h, w) of the block; changed in place.
        """
        waiting: list[Window] = []
        for number, tile in enumerate(work.tiles[start:], start + 1):
            window = self.recall.window(work.pixels[tile.window.relative_to(work.region).slices])
            window.tiles.append(tile)
            if window.output is not None:
                _place(window, work.block.box, result)
            elif len(window.tiles) == 1:
                waiting.append(window)
            last = number == len(work.tiles)
            if len(waiting) == self.batch or (last and waiting):
                self._compute(waiting)
                for one in waiting:
                    _place(one, work.block.box, result)
                waiting.clear()
                yield number
            elif last:
                yield number

    def _compute(self, windows: list[Window]) -> None:
        scaled = np.stack([self.scale(window.pixels) for window in windows])
        # the shape stays the same to the last: kernels may be chosen by it
        padding = np.repeat(scaled[-1:], self.batch - len(windows), axis=0)
        outputs = self.predict(np.concatenate([scaled, padding]) if len(padding) else scaled)
        edge = self.plan.tiles.write_edge
        for window, output in zip(windows, outputs, strict=False):
            window.output = np.ascontiguousarray(output[..., :edge, :edge])


@dataclass(frozen=True)
class RowComputer:
    """Computes blocks as one window each, from top to bottom.

    Args:
        scale: pixels as the network sees them.
        by_rows: for a window's shape (H, W) what computes it; None if the network cannot be computed so.
    """

    plan: Plan
    scale: Scale
    by_rows: Callable[[tuple[int, int]], ByRows | None]
    recall: Recall

    def suits(self, work: BlockPixels, start: int = 0) -> bool:
        """Whether a block is better computed so from tile `start` on: all of it is wanted, and most windows are new."""
        box, edge = work.block.box, self.plan.tiles.write_edge
        whole = len(work.tiles) == -(-box.height // edge) * -(-box.width // edge)
        windows = [work.pixels[tile.window.relative_to(work.region).slices] for tile in work.tiles[start:]]
        if not whole or len(windows) < LEAST_TILES or self.recall.new_kinds(windows) < NEW_ENOUGH * len(windows):
            return False
        return self.by_rows(work.pixels[self._top(work, start) :].shape[:2]) is not None

    def fill(self, work: BlockPixels, result: NDArray[np.uint8], start: int = 0) -> Iterator[int]:
        """Fill in the tiles of a block from number `start`; yield after some rows how many are done.

        Args:
            result: (h, w) or (K, h, w) of the block; changed in place.
        """
        box, edge = work.block.box, self.plan.tiles.write_edge
        columns = -(-box.width // edge)
        top = self._top(work, start)
        pixels = work.pixels[top:]
        compute = self.by_rows(pixels.shape[:2])
        assert compute is not None
        for first, rows in compute(lambda y0, y1: self.scale(pixels[y0:y1])):
            y0 = top + first
            y1 = min(box.height, y0 + rows.shape[-2])
            if y0 < y1:
                result[..., y0:y1, :] = rows[..., : y1 - y0, : box.width]
            yield len(work.tiles) if y1 >= box.height else max(start, y1 // edge * columns)

    def _top(self, work: BlockPixels, start: int) -> int:
        """Return the first row of the block to compute: a row of tiles of which some are missing is computed again."""
        edge = self.plan.tiles.write_edge
        return start // -(-work.block.box.width // edge) * edge


def _place(window: Window, box: Box, result: NDArray[np.uint8]) -> None:
    """Copy a window's output to all tiles that wait for it."""
    assert window.output is not None
    for tile in window.tiles:
        place = tile.write.relative_to(box).slices
        result[(..., *place)] = window.output[..., : tile.write.height, : tile.write.width]
    window.tiles.clear()
