"""Verifying finds nothing where nothing is wrong, and something where a network lies about its geometry."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.narrow import make_checkpoint
from unettile.geometry import Geometry
from unettile.inference.predict import Predictor
from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.verify import sample_tiles, verify_sample
from unettile.tiling import TileGrid


def test_no_difference(image: Path, predictor: Predictor) -> None:
    found = verify_sample(image, predictor, SegmentOptions(output_edge=196))
    assert (found.largest_difference, found.differing_pixels) == (0, 0)
    assert (found.tiles, found.other_edge, found.pixels) == (4, 196 + 2 * 98, 211 * 307)


def test_a_false_stride_shows(image: Path) -> None:
    checkpoint = make_checkpoint()
    false = replace(checkpoint, geometry=Geometry(margin=92, stride=8, base=4))
    predictor = Predictor(false, "cpu", "fp32")
    found = verify_sample(image, predictor, SegmentOptions(output_edge=196))
    assert found.largest_difference > 0.01


@pytest.mark.parametrize("count", [1, 4, 100])
def test_the_sample_is_spread(count: int) -> None:
    grid = TileGrid((1000, 2000), Geometry(92, 16, 4), 388)
    tiles = sample_tiles(grid, count)
    assert len(tiles) == min(count, len(grid)) and len(set(tiles)) == len(tiles)
    assert tiles[0] == grid.tile(0, 0) and (count == 1 or tiles[-1] == grid.tile(2, 5))
