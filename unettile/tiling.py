"""The tiling: which window is read for which pixels, how tiles form blocks, and blocks shards.

        window (read)                       one row of tiles, margins overlapping, write boxes side by side:
    +--------------------+
    |       margin       |                  |mm|wwwwwwww|mm|
    |   +------------+   |                           |mm|wwwwwwww|mm|
    |   |   write    |   |                                    |mm|wwwwwwww|mm|
    |   |            |   |
    |   +------------+ s |                  s: what the network puts out beyond the last multiple of its stride
    |    s s s s s s s   |                     (4 of 388 px); computed, never written
    +--------------------+

Origins are multiples of the network's stride, counted from the image's own (0, 0). That alone makes the tiles agree.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from unettile.box import Box
from unettile.errors import UsageError
from unettile.geometry import Geometry

BLOCK_EDGE = 3072  # px; 8 x 8 tiles of 384: 1,156 files for 100,000 x 100,000 px
MOST_SHARDS = 2**20
MOST_PIXELS = 2**39  # of an image: 741,000 px a side, two days of a fast processor
BLOCK_BYTES = 2**27  # of a block's pixels, in and out; images of many channels get smaller blocks


@dataclass(frozen=True)
class Tile:
    """One window and the pixels that it decides.

    Args:
        row, column: place in the grid.
        window: what the network reads, level-0 px; may lie past the image, where pixels are mirrored.
        write: what it writes, inside the image; its (y0, x0) is the window's plus the margin.
    """

    row: int
    column: int
    window: Box
    write: Box


@dataclass(frozen=True)
class TileGrid:
    """The tiles of an image of shape (H, W) px for windows of one size.

    Raises:
        ValueError: an empty image.
        UsageError: an output edge that the geometry does not allow.
    """

    shape: tuple[int, int]
    geometry: Geometry
    output_edge: int

    def __post_init__(self) -> None:
        if min(self.shape) < 1:
            raise ValueError(f"an image needs at least one pixel, got shape {self.shape}")
        self.geometry.check_output_edge(self.output_edge)

    @property
    def write_edge(self) -> int:
        return self.geometry.write_edge(self.output_edge)

    @property
    def rows(self) -> int:
        return -(-self.shape[0] // self.write_edge)

    @property
    def columns(self) -> int:
        return -(-self.shape[1] // self.write_edge)

    def __len__(self) -> int:
        return self.rows * self.columns

    def __iter__(self) -> Iterator[Tile]:
        return (self.tile(row, column) for row in range(self.rows) for column in range(self.columns))

    def tile(self, row: int, column: int) -> Tile:
        y0, x0 = row * self.write_edge, column * self.write_edge
        output = Box(y0, x0, y0 + self.output_edge, x0 + self.output_edge)
        write = Box(y0, x0, y0 + self.write_edge, x0 + self.write_edge).intersect(Box.of_shape(self.shape))
        return Tile(row, column, window=output.expand(self.geometry.margin), write=write)

    def tiles_in(self, box: Box) -> Iterator[Tile]:
        """Yield the tiles whose write boxes lie in `box`, in raster order; `box` starts on the grid."""
        edge = self.write_edge
        for row in range(-(-box.y0 // edge), -(-box.y1 // edge)):
            for column in range(-(-box.x0 // edge), -(-box.x1 // edge)):
                yield self.tile(row, column)


@dataclass(frozen=True)
class Block:
    """Pixels that are written, checked and marked done at once."""

    index: int
    box: Box

    @property
    def name(self) -> str:
        return f"{self.index:06d}"


@dataclass(frozen=True)
class BlockGrid:
    """The blocks of an image of shape (H, W) px in raster order; `edge` px is a multiple of the tiles' write edge."""

    shape: tuple[int, int]
    edge: int

    @classmethod
    def for_tiles(cls, grid: TileGrid, pixel_bytes: int = 1) -> BlockGrid:
        """Return blocks of whole tiles, as near to 3072 px as the tiles and the memory allow.

        Args:
            pixel_bytes: of a pixel, in all channels, as read and as written.
        """
        across = max(1, round(BLOCK_EDGE / grid.write_edge))
        while across > 1 and (across * grid.write_edge + 2 * grid.geometry.margin) ** 2 * pixel_bytes > BLOCK_BYTES:
            across -= 1
        return cls(grid.shape, across * grid.write_edge)

    @property
    def rows(self) -> int:
        return -(-self.shape[0] // self.edge)

    @property
    def columns(self) -> int:
        return -(-self.shape[1] // self.edge)

    def __len__(self) -> int:
        return self.rows * self.columns

    def __getitem__(self, index: int) -> Block:
        if not 0 <= index < len(self):
            raise IndexError(f"block {index} of {len(self)}")
        row, column = divmod(index, self.columns)
        y0, x0 = row * self.edge, column * self.edge
        return Block(index, Box(y0, x0, y0 + self.edge, x0 + self.edge).intersect(Box.of_shape(self.shape)))

    def __iter__(self) -> Iterator[Block]:
        return (self[index] for index in range(len(self)))


@dataclass(frozen=True)
class Shard:
    """Part `index` of `count`, counted from 0: a contiguous run of blocks.

    Raises:
        UsageError: index or count out of range.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if self.count > MOST_SHARDS:
            raise UsageError(
                f"shard {self.index}/{self.count} is one of too many: need I/N with N at most {MOST_SHARDS}"
            )
        if self.count < 1 or not 0 <= self.index < self.count:
            raise UsageError(f"shard {self.index}/{self.count} does not exist: need I/N with 0 <= I < N, I from 0")

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read `I/N`, I counted from 0."""
        found = re.fullmatch(r"([0-9]{1,18})/([0-9]{1,18})", text.strip())
        if not found:
            raise UsageError(f"shard {text[:60]!r} is not understood: need I/N, such as 0/8 for the first of eight")
        return cls(int(found[1]), int(found[2]))

    def blocks(self, grid: BlockGrid) -> range:
        """Return the indices of this shard's blocks; shards differ by at most one block, and may be empty."""
        return range(self.index * len(grid) // self.count, (self.index + 1) * len(grid) // self.count)
