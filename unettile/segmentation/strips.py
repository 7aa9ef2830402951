"""Strips: what of a run is read and computed at once.

A network that is computed by rows goes down a column of blocks side by side, a row of tiles at a time:

    block 0     | block 1     | block 2          strip 0: tiles 0 … 23      of three blocks of 8 × 8 tiles
    ------------|-------------|-----------       strip 1: tiles 24 … 47     …
    block 33    | block 34    | block 35         strip 8: the first row of tiles of the next three blocks, …

so that the margin costs work at the sides of the column alone. What is computed in which strip changes no pixel:
neither do columns, nor what of them an earlier process has left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.segmentation.columns import blocks_by_column
from unettile.segmentation.compute import background, clear_outside
from unettile.segmentation.plan import Plan
from unettile.segmentation.rundir import RunDirectory
from unettile.segmentation.tissue import Read
from unettile.segmentation.within import Within
from unettile.tiling import Block, Tile

NOWHERE = Box(0, 0, 0, 0)


@dataclass(eq=False)
class OpenBlock:
    """A block in work.

    Args:
        tiles: to compute, in raster order; not those that lie outside the mask.
        pixels: (h, w) or (K, h, w): as far as they are computed; background elsewhere.
        done, stored: how many of the tiles are computed, and how many of them the run directory has.
        inside: (h, w), where the mask is; None for everywhere.
    """

    block: Block
    tiles: Sequence[Tile]
    pixels: NDArray[np.uint8]
    done: int = 0
    stored: int = 0
    inside: NDArray[np.bool_] | None = None

    def place(self, box: Box, pixels: NDArray[np.uint8]) -> None:
        """Set the pixels, (h, w) or (K, h, w), of a box; what of it lies outside the block is left out."""
        part = self.block.box.intersect(box)
        if not part.is_empty:
            source = pixels[(..., *part.relative_to(box).slices)]
            self.pixels[(..., *part.relative_to(self.block.box).slices)] = source

    def close(self, plan: Plan) -> NDArray[np.uint8]:
        """Return the pixels; outside the mask they become background, wherever its tiles end."""
        clear_outside(plan, self.block.box, self.inside, self.pixels)
        return self.pixels


@dataclass(frozen=True)
class Strip:
    """What is computed at once, and the pixels for it.

    Args:
        blocks: side by side, of which it has some rows.
        box: of these rows.
        tiles: to compute, in raster order, and their blocks.
        region: of the pixels: around the windows of the tiles.
        pixels: (h, w, C) in the slide's own type.
        whole: most of its tiles are to be computed, and the region is around all of them.
        ends: it is the last strip of its blocks.
    """

    blocks: tuple[OpenBlock, ...]
    box: Box
    tiles: Sequence[tuple[OpenBlock, Tile]] = ()
    region: Box = NOWHERE
    pixels: NDArray[np.generic] = field(default_factory=lambda: np.empty((0, 0, 1), np.uint8))
    whole: bool = False
    ends: bool = True

    def place(self, box: Box, pixels: NDArray[np.uint8]) -> None:
        """Set the pixels, (h, w) or (K, h, w), of a box, whosoever they are."""
        for block in self.blocks:
            block.place(box, pixels)


@dataclass
class StripReader:
    """Reads the strips of a run.

    Args:
        read: gives a region of the slide, mirrored past its edges, (h, w, C).
        within: tells where to work; None for everywhere.
        width: of a column at most, px.
        most: share of a strip's tiles that are to be computed, from which on it is read as a whole.
    """

    run: RunDirectory
    read: Read
    within: Within | None
    width: int
    most: float
    _region: Box = field(default=NOWHERE, init=False)
    _pixels: NDArray[np.generic] = field(default_factory=lambda: np.empty((0, 0, 1), np.uint8), init=False)

    def strips(self, indices: range) -> Iterator[Strip]:
        """Yield the strips of these blocks; of blocks that are finished one each without tiles and without end."""
        for blocks in blocks_by_column(self.run.plan.blocks, indices, self.width):
            beside: list[OpenBlock] = []
            for block in blocks:
                if self.run.is_done(block):
                    yield from self._rows_of(beside)
                    beside = []
                    yield Strip((OpenBlock(block, (), np.empty((0, 0), np.uint8)),), block.box, ends=False)
                else:
                    beside.append(self._open(block))
            yield from self._rows_of(beside)

    def _open(self, block: Block) -> OpenBlock:
        plan = self.run.plan
        tiles = list(plan.tiles.tiles_in(block.box))
        inside = None if self.within is None else self.within(block.box)
        if inside is not None:
            tiles = [tile for tile in tiles if inside[tile.write.relative_to(block.box).slices].any()]
        pixels, done = self.run.read_part(block) or (background(plan, block.box), 0)
        return OpenBlock(block, tiles, pixels, done, done, inside)

    def _rows_of(self, blocks: list[OpenBlock]) -> Iterator[Strip]:
        """Yield the strips of blocks side by side, from top to bottom; the last one always."""
        if not blocks:
            return
        tiles = self.run.plan.tiles
        first, last = blocks[0].block.box, blocks[-1].block.box
        left = [(block, tile) for block in blocks for tile in block.tiles[block.done :]]
        left.sort(key=lambda one: (one[1].row, one[1].column))
        edge = tiles.write_edge
        for y0 in range(first.y0, first.y1, edge):
            box = Box(y0, first.x0, min(y0 + edge, first.y1), last.x1)
            todo = [(block, tile) for block, tile in left if box.contains(tile.write)]
            ends = box.y1 == first.y1
            if not todo:
                if ends:
                    yield Strip(tuple(blocks), box)
                continue
            every = list(tiles.tiles_in(box))
            whole = len(todo) >= self.most * len(every)
            region = _around(every if whole else [tile for _, tile in todo])
            yield Strip(tuple(blocks), box, todo, region, self._read(region), whole, ends)

    def _read(self, region: Box) -> NDArray[np.generic]:
        """Return the pixels of a region; rows that the one before has, too, are not read again."""
        before = self._region
        if (before.x0, before.x1) == (region.x0, region.x1) and before.y0 <= region.y0 < before.y1 <= region.y1:
            fresh = self.read(Box(before.y1, region.x0, region.y1, region.x1))
            self._pixels = np.concatenate([self._pixels[region.y0 - before.y0 :], fresh])
        else:
            self._pixels = self.read(region)
        self._region = region
        return self._pixels


def _around(tiles: Sequence[Tile]) -> Box:
    windows = [tile.window for tile in tiles]
    return Box(
        min(window.y0 for window in windows),
        min(window.x0 for window in windows),
        max(window.y1 for window in windows),
        max(window.x1 for window in windows),
    )
