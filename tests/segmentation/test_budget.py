"""Memory: what is read and written at once has the size of a block, whatever the image's."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray

import unettile.segmentation.budget
import unettile.segmentation.compute.pixels
import unettile.tiling
from benchmarks.memory import segment, write_sparse_tiff
from tests.narrow import make_checkpoint
from unettile.box import Box
from unettile.checkpoint import load_checkpoint
from unettile.errors import InputError
from unettile.images.mirror import read_mirrored
from unettile.images.slide import Slide, open_slide
from unettile.inference.predict import Predictor
from unettile.models import find_model
from unettile.segmentation.budget import estimate_memory, fit_batch
from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.planning import make_plan, plan_image
from unettile.segmentation.segment import segment_image
from unettile.tiling import BlockGrid, TileGrid


def test_reads_are_those_of_a_block_and_its_margin(
    tmp_path: Path, image: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unettile.tiling, "BLOCK_EDGE", 64)
    boxes: list[Box] = []

    def record(slide: Slide, box: Box) -> NDArray[Any]:
        boxes.append(box)
        return read_mirrored(slide, box)

    monkeypatch.setattr(unettile.segmentation.compute.pixels, "read_mirrored", record)
    segment_image(image, tmp_path / "mask.tif", predictor, SegmentOptions(output_edge=32))
    assert len(boxes) == 20
    assert max(max(box.shape) for box in boxes) == 64 + 2 * predictor.geometry.margin


def test_the_estimate_grows_with_windows_and_not_with_the_image(image: Path, predictor: Predictor) -> None:
    plan = plan_image(image, predictor, SegmentOptions(output_edge=388))
    large = replace(plan, shape=(20_000, 20_000), block_edge=3072)
    larger = replace(large, shape=(100_000, 100_000))
    assert estimate_memory(larger, predictor, 1) == estimate_memory(large, predictor, 1) < 2**30
    assert estimate_memory(plan, predictor, 1) < estimate_memory(large, predictor, 1)
    assert estimate_memory(plan, predictor, 64) > estimate_memory(plan, predictor, 1) + 63 * 400 * 400 * 2 * 4


def test_a_run_that_does_not_fit_is_refused_before_it_begins(
    tmp_path: Path, image: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_image(image, predictor, SegmentOptions(output_edge=388))
    need = estimate_memory(plan, predictor, 1)
    assert fit_batch(plan, predictor, None, limit=need) == 1
    assert fit_batch(plan, predictor, 7, limit=2 * need) == 7
    with pytest.raises(InputError, match=r"388 px, 1 at once, need about 0\.\d GiB of memory.* a smaller --tile, or"):
        fit_batch(plan, predictor, None, limit=need - 1)
    with pytest.raises(InputError, match=r"99 at once, need .* a smaller --tile or --batch"):
        fit_batch(plan, predictor, 99, limit=need)
    monkeypatch.setattr(unettile.segmentation.budget, "memory_limit", lambda: 2**28)
    with pytest.raises(InputError, match=r"0\.2 GiB are free"):
        segment_image(image, tmp_path / "mask.tif", predictor, SegmentOptions(output_edge=388))
    assert list(tmp_path.iterdir()) == [image]
    monkeypatch.setattr(unettile.segmentation.budget, "memory_limit", lambda: None)
    assert fit_batch(plan, predictor, 99) == 99


def test_blocks_of_many_channels_are_smaller(predictor: Predictor) -> None:
    grid = TileGrid((9999, 9999), make_checkpoint().geometry, 388)
    assert [BlockGrid.for_tiles(grid, pixel_bytes).edge for pixel_bytes in (1, 12, 100, 1000)] == [3072, 3072, 768, 384]


@pytest.mark.skipif(sys.platform != "linux", reason="Linux gives the peak in KiB")
def test_memory_at_its_peak(tmp_path: Path) -> None:
    """Below the ceiling, and hardly more for an image of 25 times the pixels, of which most are computed once."""
    write_sparse_tiff(tmp_path / "small.tif", 2_000, tissue=2)
    write_sparse_tiff(tmp_path / "large.tif", 10_000, tissue=2)
    small, large = (
        segment(tmp_path / f"{name}.tif", tmp_path / f"{name}_mask.tif")["peak_mib"] for name in ("small", "large")
    )
    assert small < large < 1100
    write_sparse_tiff(tmp_path / "noise.tif", 2_000, tissue=16)  # no window like another: computed by rows
    noise = segment(tmp_path / "noise.tif", tmp_path / "noise_mask.tif")["peak_mib"]
    with open_slide(tmp_path / "noise.tif") as slide:
        predictor = Predictor(load_checkpoint(find_model("nuclei-valid")), "cpu")
        estimate = estimate_memory(make_plan(slide, predictor, SegmentOptions()), predictor, 1) / 2**20
    assert 0.7 * noise < estimate < 1.6 * noise


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(sys.platform != "linux", reason="Linux gives the peak in KiB")
@pytest.mark.parametrize("edge", [4_000, 40_000])
def test_the_ceiling(tmp_path: Path, edge: int) -> None:
    write_sparse_tiff(tmp_path / "image.tif", edge, tissue=64)
    assert segment(tmp_path / "image.tif", tmp_path / "mask.tif")["peak_mib"] * 2**20 < 1.2e9
