"""Verifying finds nothing where nothing is wrong, and something where a network lies about its geometry."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import unettile.segmentation.output
import unettile.tiling
from tests.narrow import make_checkpoint
from unettile.box import Box
from unettile.geometry import Geometry
from unettile.images.canvas import Canvas, Reader
from unettile.inference.predict import Predictor
from unettile.objectsize import ObjectSize
from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.run.directory import RunDirectory
from unettile.segmentation.segment import segment_image, segment_shard
from unettile.segmentation.verify import Verification, sample_tiles
from unettile.tiling import Block, Shard, TileGrid


@pytest.mark.parametrize("write", [("classes",), ("probabilities",), ("classes", "probabilities"), ("instances",)])
def test_no_difference(tmp_path: Path, image: Path, predictor: Predictor, write: tuple[str, ...]) -> None:
    found = verified(image, tmp_path / "mask.ome.tif", predictor, SegmentOptions(write, output_edge=196))
    assert (found.largest_difference, found.differing_pixels) == (0, 0)
    assert (found.tiles, found.other_edge, found.pixels) == (4, 196 + 2 * 98, 211 * 307)


def test_no_difference_at_another_size(tmp_path: Path, image: Path, predictor: Predictor) -> None:
    options = SegmentOptions(("classes", "probabilities", "instances"), output_edge=100, diameter="40")
    found = verified(image, tmp_path / "mask.ome.tif", sized(predictor), options)
    assert (found.largest_difference, found.differing_pixels) == (0, 0)
    assert found.pixels > 211 * 307  # of the mask, and of what the network saw


def sized(predictor: Predictor) -> Predictor:
    """Return one that knows objects of 20 px."""
    return Predictor(replace(predictor.checkpoint, objects_px=ObjectSize(16, 8, 32)), "cpu", "fp32")


@pytest.mark.parametrize("diameter", ["off", "40"])
@pytest.mark.parametrize("ending", [".tif", ".ome.tif", ".ome.zarr", ".png"])
def test_a_wrong_pixel_in_the_file_shows(
    tmp_path: Path, image: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch, ending: str, diameter: str
) -> None:
    """In the network's own pixels, or where it saw the image at half the size."""
    write_image = unettile.segmentation.output.write_image

    def spoiling(path: Path, canvas: Canvas, read: Reader) -> None:
        def spoilt(box: Box) -> NDArray[Any]:
            pixels = np.array(read(box))
            pixels[..., 7, 9] ^= 1
            return pixels

        write_image(path, canvas, spoilt)

    monkeypatch.setattr(unettile.segmentation.output, "write_image", spoiling)
    options = SegmentOptions(output_edge=196, diameter=diameter)
    found = verified(image, tmp_path / f"mask{ending}", sized(predictor), options)
    assert found.largest_difference == 0 and found.differing_pixels >= 1


def test_a_wrong_pixel_in_a_shard_shows(
    tmp_path: Path, image: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unettile.tiling, "BLOCK_EDGE", 64)
    options = SegmentOptions(output_edge=34)
    result = segment_shard(image, tmp_path / "run", Shard(1, 3), predictor, options, verify=True)
    assert result.verification is not None and result.verification.differing_pixels == 0
    load = RunDirectory.load

    def spoilt(self: RunDirectory, block: Block) -> NDArray[np.uint8] | None:
        pixels = load(self, block)
        return None if pixels is None else pixels ^ 1

    monkeypatch.setattr(RunDirectory, "load", spoilt)
    result = segment_shard(image, tmp_path / "run", Shard(1, 3), predictor, options, verify=True)
    assert result.verification is not None
    assert result.verification.differing_pixels == result.verification.pixels > 0


def test_a_shard_without_blocks_has_nothing_to_verify(tmp_path: Path, image: Path, predictor: Predictor) -> None:
    result = segment_shard(image, tmp_path / "run", Shard(0, 3), predictor, SegmentOptions(), verify=True)
    assert result.verification is None and result.tally.computed == 0


def test_a_false_stride_shows(tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Predictor, "by_rows", lambda *arguments: None)  # which would refuse the windows
    checkpoint = make_checkpoint()
    false = replace(checkpoint, geometry=Geometry(margin=92, stride=8, base=4))
    predictor = Predictor(false, "cpu", "fp32")
    found = verified(image, tmp_path / "mask.tif", predictor, SegmentOptions(output_edge=196))
    assert found.largest_difference > 0.01 and found.differing_pixels > 0


def verified(image: Path, output: Path, predictor: Predictor, options: SegmentOptions) -> Verification:
    """Segment an image and return what verifying it showed."""
    found = segment_image(image, output, predictor, options, verify=True).verification
    assert found is not None
    return found


@pytest.mark.parametrize("count", [1, 4, 100])
def test_the_sample_is_spread(count: int) -> None:
    grid = TileGrid((1000, 2000), Geometry(92, 16, 4), 388)
    tiles = sample_tiles(grid, count)
    assert len(tiles) == min(count, len(grid)) and len(set(tiles)) == len(tiles)
    assert tiles[0] == grid.tile(0, 0) and (count == 1 or tiles[-1] == grid.tile(2, 5))
