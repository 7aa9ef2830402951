"""Strips: how the blocks of a run are cut into what is read and computed at once, and read.

Strips change no pixel; neither do columns, nor blocks that an earlier process has finished.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.inference.cpu import columns_of
from unettile.inference.engine import Cut, Strip
from unettile.inference.kinds import background_of
from unettile.segmentation.compute.pixels import PixelReader
from unettile.segmentation.plan import Plan
from unettile.segmentation.run.directory import RunDirectory
from unettile.segmentation.where import Inside
from unettile.tiling import Block, BlockGrid, Tile

_NOWHERE = Box(0, 0, 0, 0)


@dataclass(eq=False)
class OpenBlock:
    """A block in work.

    Args:
        tiles: to compute, in raster order; not those that lie outside the mask.
        planes: (P, h, w), as far as they are computed; background elsewhere.
        done, stored: how many of the tiles are computed, and how many of them the run directory has.
        inside: (h, w), where the mask is; None for everywhere.
    """

    block: Block
    tiles: Sequence[Tile]
    planes: NDArray[np.uint8]
    done: int = 0
    stored: int = 0
    inside: NDArray[np.bool_] | None = None

    @property
    def area_done(self) -> int:
        """Px."""
        return self.block.box.area * self.done // max(1, len(self.tiles))

    def place(self, box: Box, planes: NDArray[np.uint8]) -> None:
        """Set the planes (P, h, w) of a box; pixels outside of the block are ignored."""
        part = self.block.box.intersect(box)
        if not part.is_empty:
            source = planes[(..., *part.relative_to(box).slices)]
            self.planes[(..., *part.relative_to(self.block.box).slices)] = source

    def close(self, plan: Plan) -> NDArray[np.uint8]:
        """Return the planes; outside the mask they become background, wherever its tiles end."""
        if self.inside is not None:
            np.copyto(self.planes, background(plan, self.block.box), where=~self.inside)
        return self.planes


@dataclass(frozen=True, eq=False)
class OpenStrip:
    """A strip and the blocks that it belongs to.

    Args:
        strip: what is computed; None where nothing is.
        blocks: side by side, of which it has some rows.
        owners: of each tile of the strip, its block.
        ends: it is the last strip of its blocks.
    """

    strip: Strip | None
    blocks: tuple[OpenBlock, ...]
    owners: Sequence[OpenBlock] = ()
    ends: bool = True


@dataclass(frozen=True)
class Kept:
    """A block that was finished before."""

    block: Block


Piece = OpenStrip | Kept


def rows_of_blocks(grid: BlockGrid, indices: range, width: int) -> Iterator[list[Block]]:
    """Yield blocks side by side: single ones in raster order, several column by column and each from top to bottom.

    Args:
        indices: of the blocks that are wanted.
        width: most that blocks side by side have, px; one block is always taken.
    """
    if width <= grid.edge:
        yield from ([grid[index]] for index in indices)
        return
    count = columns_of(grid.columns, grid.edge, width)
    for column in range(count):
        places = range(column * grid.columns // count, (column + 1) * grid.columns // count)
        for row in range(grid.rows):
            beside = [row * grid.columns + place for place in places if row * grid.columns + place in indices]
            if beside:
                yield [grid[index] for index in beside]


@dataclass
class StripReader:
    """Reads the strips of a run; used by one thread at a time.

    Args:
        within: tells where to work; None for everywhere.
        mirrors: whoever computes mirrors pixels at the image's edges by itself.
    """

    run: RunDirectory
    reader: PixelReader
    within: Inside | None
    cut: Cut
    mirrors: bool = False
    _region: Box = field(default=_NOWHERE, init=False)
    _pixels: NDArray[np.generic] = field(default_factory=lambda: np.empty((0, 0, 1), np.uint8), init=False)

    def read(self, blocks: Sequence[Block]) -> Iterator[Piece]:
        """Yield what is to be done of blocks side by side, from top to bottom."""
        beside: list[OpenBlock] = []
        for block in blocks:
            if self.run.is_done(block):
                yield from self._strips(beside)
                beside = []
                yield Kept(block)
            else:
                beside.append(self._open(block))
        yield from self._strips(beside)

    def _open(self, block: Block) -> OpenBlock:
        plan = self.run.plan
        tiles = list(plan.tiles.tiles_in(block.box))
        inside = None if self.within is None else self.within(block.box)
        if inside is not None:
            tiles = [tile for tile in tiles if inside[tile.write.relative_to(block.box).slices].any()]
        planes, done = self.run.read_part(block) or (background(plan, block.box), 0)
        return OpenBlock(block, tiles, planes, done, done, inside)

    def _strips(self, blocks: list[OpenBlock]) -> Iterator[OpenStrip]:
        """Yield the strips of blocks side by side, from top to bottom; the last one always."""
        if not blocks:
            return
        grid = self.run.plan.tiles
        first, last = blocks[0].block.box, blocks[-1].block.box
        left = [(block, tile) for block in blocks for tile in block.tiles[block.done :]]
        left.sort(key=lambda one: (one[1].row, one[1].column))
        for y0 in range(first.y0, first.y1, self.cut.height):
            box = Box(y0, first.x0, min(y0 + self.cut.height, first.y1), last.x1)
            todo = [(block, tile) for block, tile in left if box.contains(tile.write)]
            ends = box.y1 == first.y1
            if todo:
                every = list(grid.tiles_in(box))
                whole = len(todo) >= self.cut.most * len(every)
                region, pixels = self._read(_around(every if whole else [tile for _, tile in todo]))
                strip = Strip(box, [tile for _, tile in todo], region, pixels, whole)
                yield OpenStrip(strip, tuple(blocks), [block for block, _ in todo], ends)
            elif ends:
                yield OpenStrip(None, tuple(blocks))

    def _read(self, region: Box) -> tuple[Box, NDArray[np.generic]]:
        """Return a region and its pixels; rows that the one before has, too, are not read again."""
        if self.mirrors:
            return self.reader.read_shown(region)
        before = self._region
        if (before.x0, before.x1) == (region.x0, region.x1) and before.y0 <= region.y0 < before.y1 <= region.y1:
            fresh = self.reader.read(Box(before.y1, region.x0, region.y1, region.x1))
            self._pixels = np.concatenate([self._pixels[region.y0 - before.y0 :], fresh])
        else:
            self._pixels = self.reader.read(region)
        self._region = region
        return region, self._pixels


def background(plan: Plan, box: Box) -> NDArray[np.uint8]:
    """Return planes (P, h, w) where nothing is computed: class 0, its probability 255, depth 0."""
    values = np.array(background_of(plan.stored, len(plan.class_names)), np.uint8)
    return np.tile(values[:, None, None], (1, *box.shape))


def _around(tiles: Sequence[Tile]) -> Box:
    windows = [tile.window for tile in tiles]
    return Box(
        min(window.y0 for window in windows),
        min(window.x0 for window in windows),
        max(window.y1 for window in windows),
        max(window.x1 for window in windows),
    )
