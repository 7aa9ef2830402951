"""The laws of the tiling, for shapes chosen to be awkward and for shapes that hypothesis finds.

Demanded are exact equalities: every pixel is written by one tile, in one block, of one shard. Nothing here needs a
network: the laws are about integers.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unettile.box import Box
from unettile.errors import UsageError
from unettile.geometry import Geometry
from unettile.tiling import Block, BlockGrid, Shard, Tile, TileGrid

VALID_UNET = Geometry(margin=92, stride=16, base=4)
SHALLOW = Geometry(margin=4, stride=2, base=0)
SAME_PADDING = Geometry(margin=48, stride=16, base=0)
PIXELWISE = Geometry(margin=0, stride=1, base=0)
GEOMETRIES = (VALID_UNET, SHALLOW, SAME_PADDING, PIXELWISE)

# Smaller than the margin, one pixel wide, the window's own sizes and their neighbours, multiples of nothing, primes.
SHAPES = (
    (1, 1), (1, 700), (700, 1), (3, 5), (91, 93), (383, 385), (384, 384), (384, 768), (388, 388), (389, 572),
    (769, 383), (997, 1009), (1024, 1344), (1543, 1),
)  # fmt: skip

lengths = st.integers(1, 1200)
shapes = st.tuples(lengths, lengths)
boxes = st.builds(lambda y, x, h, w: Box(y, x, y + h, x + w), *[st.integers(-50, 50)] * 2, *[st.integers(0, 40)] * 2)


@st.composite
def tile_grids(draw: st.DrawFn) -> TileGrid:
    geometry = draw(st.sampled_from(GEOMETRIES))
    # at least 32 px, so that a large image does not fall into a million tiles
    edge = geometry.smallest_output_edge(draw(st.integers(32, 800)))
    return TileGrid(draw(shapes), geometry, edge)


def count_writes(shape: tuple[int, int], written: list[Box]) -> np.ndarray:
    counts = np.zeros(shape, np.int64)
    for box in written:
        counts[box.slices] += 1
    return counts


def assert_partition(shape: tuple[int, int], written: list[Box]) -> None:
    """Every pixel exactly once, and nothing outside the image."""
    assert all(Box.of_shape(shape).contains(box) and not box.is_empty for box in written)
    assert (count_writes(shape, written) == 1).all()


class TestBox:
    @given(boxes, boxes)
    def test_an_intersection_holds_the_common_pixels(self, a: Box, b: Box) -> None:
        common = a.intersect(b)
        pixels = {(y, x) for y in range(a.y0, a.y1) for x in range(a.x0, a.x1)} & {
            (y, x) for y in range(b.y0, b.y1) for x in range(b.x0, b.x1)
        }
        assert {(y, x) for y in range(common.y0, common.y1) for x in range(common.x0, common.x1)} == pixels
        assert common.area == len(pixels)
        assert common.is_empty == (not pixels)
        assert b.intersect(a).area == common.area
        if pixels:
            assert a.contains(common) and b.contains(common)

    @given(boxes, st.integers(0, 30))
    def test_expanding_adds_the_margin_on_every_side(self, box: Box, margin: int) -> None:
        grown = box.expand(margin)
        assert grown.contains(box)
        assert grown.shape == (box.height + 2 * margin, box.width + 2 * margin)
        assert grown.expand(-margin) == box

    @given(boxes, boxes)
    def test_shifting_back_restores(self, box: Box, origin: Box) -> None:
        local = box.relative_to(origin)
        assert local.shape == box.shape
        assert local.shift(origin.y0, origin.x0) == box

    @given(shapes)
    def test_the_box_of_an_image_selects_all_of_it(self, shape: tuple[int, int]) -> None:
        assert Box.of_shape(shape).shape == shape
        assert Box.of_shape(shape).slices == (slice(0, shape[0]), slice(0, shape[1]))

    @pytest.mark.parametrize("ends", [(0, 0, -1, 5), (0, 4, 5, 3)])
    def test_a_box_does_not_end_before_it_starts(self, ends: tuple[int, int, int, int]) -> None:
        with pytest.raises(ValueError, match="end before"):
            Box(*ends)


class TestGeometry:
    @pytest.mark.parametrize("geometry", GEOMETRIES)
    def test_the_write_edge_is_the_largest_multiple_of_the_stride(self, geometry: Geometry) -> None:
        for edge in range(1, 900):
            if geometry.is_legal(edge):
                written = geometry.write_edge(edge)
                assert written % geometry.stride == 0
                assert edge - geometry.stride < written <= edge
                assert written > 0
                assert geometry.input_edge(edge) == edge + 2 * geometry.margin
                geometry.check_output_edge(edge)

    @given(st.sampled_from(GEOMETRIES), st.integers(1, 5000))
    def test_the_smallest_edge_suffices_and_the_next_smaller_does_not(self, geometry: Geometry, length: int) -> None:
        edge = geometry.smallest_output_edge(length)
        assert geometry.is_legal(edge)
        assert geometry.write_edge(edge) >= length
        smaller = edge - geometry.stride
        assert not geometry.is_legal(smaller) or geometry.write_edge(smaller) < length

    @given(st.sampled_from(GEOMETRIES), st.integers(-10, 2000))
    def test_an_illegal_edge_is_refused_with_the_nearest_legal_ones(self, geometry: Geometry, edge: int) -> None:
        if geometry.is_legal(edge):
            geometry.check_output_edge(edge)
            return
        with pytest.raises(UsageError) as refusal:
            geometry.check_output_edge(edge)
        offered = [int(word) for word in str(refusal.value).split("use ")[1].split(" or ")]
        assert all(geometry.is_legal(other) for other in offered)
        for legal in (other for other in range(1, edge + 2 * geometry.stride + 1) if geometry.is_legal(other)):
            assert legal in offered or abs(legal - edge) >= min(abs(other - edge) for other in offered)

    def test_the_paper_s_window(self) -> None:
        assert VALID_UNET.input_edge(388) == 572
        assert VALID_UNET.write_edge(388) == 384
        with pytest.raises(UsageError, match=r"tile edge 400 .* need 4 \+ 16k; use 388 or 404"):
            VALID_UNET.check_output_edge(400)

    @pytest.mark.parametrize("geometry", [*GEOMETRIES, replace(SAME_PADDING, exact=False)])
    def test_a_geometry_survives_a_file(self, geometry: Geometry) -> None:
        assert Geometry.from_dict(geometry.to_dict()) == geometry


def assert_tiling(grid: TileGrid) -> None:
    tiles = list(grid)
    assert len(tiles) == len(grid) == grid.rows * grid.columns
    assert [(tile.row, tile.column) for tile in tiles] == sorted((tile.row, tile.column) for tile in tiles)
    assert_partition(grid.shape, [tile.write for tile in tiles])
    for tile in tiles:
        assert_on_stride(grid, tile)


def assert_on_stride(grid: TileGrid, tile: Tile) -> None:
    """The window has the one legal size, lies on the stride, and decides all that the tile writes."""
    geometry = grid.geometry
    edge = geometry.input_edge(grid.output_edge)
    assert tile.window.shape == (edge, edge)
    output = tile.window.expand(-geometry.margin)
    assert output.y0 % geometry.stride == 0 and output.x0 % geometry.stride == 0
    assert (output.y0, output.x0) == (tile.write.y0, tile.write.x0)
    assert output.contains(tile.write)
    # No pixel of the output beyond the write edge is written: there the next tile is responsible.
    assert max(tile.write.shape) <= grid.write_edge


class TestTiles:
    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    @pytest.mark.parametrize("edge", [20, 196, 388, 580, 772, 1556])
    def test_the_valid_unet_covers_awkward_shapes(self, shape: tuple[int, int], edge: int) -> None:
        assert_tiling(TileGrid(shape, VALID_UNET, edge))

    @given(tile_grids())
    @settings(max_examples=150)
    def test_every_pixel_is_written_once_by_windows_on_the_stride(self, grid: TileGrid) -> None:
        assert_tiling(grid)

    @given(shapes, st.sampled_from((VALID_UNET, SAME_PADDING)), st.integers(1, 60), st.integers(1, 60))
    def test_two_tile_sizes_see_every_pixel_in_the_same_phase(
        self, shape: tuple[int, int], geometry: Geometry, first: int, second: int
    ) -> None:
        grids = [TileGrid(shape, geometry, geometry.base + geometry.stride * k) for k in (first, second)]
        phases = {
            (tile.window.y0 % geometry.stride, tile.window.x0 % geometry.stride)
            for grid in grids
            for tile in (grid.tile(0, 0), grid.tile(grid.rows - 1, grid.columns - 1))
        }
        assert len(phases) == 1

    def test_an_empty_image_and_an_illegal_edge_are_refused(self) -> None:
        with pytest.raises(ValueError, match="at least one pixel"):
            TileGrid((0, 5), VALID_UNET, 388)
        with pytest.raises(UsageError, match="tile edge 384"):
            TileGrid((5, 5), VALID_UNET, 384)


def check_blocks(tiles: TileGrid, blocks: BlockGrid) -> None:
    listed = list(blocks)
    assert [block.index for block in listed] == list(range(len(blocks)))
    assert [blocks[block.index] for block in listed] == listed
    assert_partition(blocks.shape, [block.box for block in listed])
    inside = [tile for block in listed for tile in tiles.tiles_in(block.box)]
    assert sorted(inside, key=lambda tile: (tile.row, tile.column)) == list(tiles)
    for block in listed:
        assert all(block.box.contains(tile.write) for tile in tiles.tiles_in(block.box))


class TestBlocks:
    @pytest.mark.parametrize("shape", [*SHAPES, (3072, 3073), (7001, 3)], ids=str)
    @pytest.mark.parametrize("edge", [196, 388, 580, 3076, 5012])
    def test_blocks_of_the_usual_size(self, shape: tuple[int, int], edge: int) -> None:
        tiles = TileGrid(shape, VALID_UNET, edge)
        blocks = BlockGrid.for_tiles(tiles)
        assert blocks.edge % tiles.write_edge == 0
        check_blocks(tiles, blocks)

    def test_the_default_block_is_eight_tiles_wide(self) -> None:
        assert BlockGrid.for_tiles(TileGrid((9, 9), VALID_UNET, 388)).edge == 3072

    @given(tile_grids(), st.integers(1, 5))
    @settings(max_examples=150)
    def test_blocks_partition_the_image_and_its_tiles(self, tiles: TileGrid, tiles_per_block: int) -> None:
        check_blocks(tiles, BlockGrid(tiles.shape, tiles.write_edge * tiles_per_block))

    @pytest.mark.parametrize("index", [-1, 6])
    def test_there_is_no_block_outside_the_grid(self, index: int) -> None:
        with pytest.raises(IndexError):
            BlockGrid((300, 200), 100)[index]

    @given(st.lists(st.integers(0, 10**6), min_size=2, max_size=30, unique=True))
    def test_names_are_distinct_and_sort_like_the_blocks(self, indices: list[int]) -> None:
        names = [Block(index, Box(0, 0, 1, 1)).name for index in sorted(indices) if index < 10**6]
        assert names == sorted(set(names))


class TestShards:
    @given(st.tuples(st.integers(1, 900), st.integers(1, 900)), st.integers(20, 400), st.integers(1, 40))
    def test_shards_partition_the_blocks(self, shape: tuple[int, int], edge: int, count: int) -> None:
        grid = BlockGrid(shape, edge)
        runs = [Shard(index, count).blocks(grid) for index in range(count)]
        assert [index for run in runs for index in run] == list(range(len(grid)))
        assert max(map(len, runs)) - min(map(len, runs)) <= 1

    @given(st.integers(1, 10**6), st.data())
    def test_a_shard_is_read_as_it_is_written(self, count: int, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, count - 1))
        assert Shard.parse(f"{index}/{count}") == Shard(index, count)

    @pytest.mark.parametrize(
        "text", ["", "3", "1/", "/4", "-1/4", "4/4", "5/4", "0/0", "1/2/3", "a/b", "1.0/2", "0/1000000000", "²/4"]
    )
    def test_what_is_no_shard_is_refused(self, text: str) -> None:
        with pytest.raises(UsageError, match="I/N"):
            Shard.parse(text)
