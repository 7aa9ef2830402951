"""Segmenting on one GPU: no accident of memory or time changes a bit; tile edge and device change by rounding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray

from tests.narrow import make_checkpoint, make_pixels
from unettile.checkpoint import save_checkpoint
from unettile.cli import run
from unettile.errors import InputError, Interrupted
from unettile.inference.cuda.lane import Lane
from unettile.inference.predict import Predictor
from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.run.watch import Watch
from unettile.segmentation.segment import segment_image, segment_shard
from unettile.segmentation.stitch import stitch_run
from unettile.tiling import Shard

pytestmark = pytest.mark.gpu

CHECKPOINT = make_checkpoint(widths=(16, 32, 64))
OPTIONS = SegmentOptions(output_edge=100)
PRECISIONS = ["fp32", "tf32", "bf16", "fp16"]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unettile.tiling.BLOCK_EDGE", 200)  # 20 blocks of 4 tiles


def segment(image: Path, out: Path, predictor: Predictor, options: SegmentOptions = OPTIONS, **more: Any) -> bytes:
    segment_image(image, out, predictor, options, **more)
    return out.read_bytes()


def pixels_of(image: Path, out: Path, predictor: Predictor, options: SegmentOptions = OPTIONS) -> NDArray[Any]:
    segment_image(image, out, predictor, options)
    return np.asarray(tifffile.imread(out))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_batches_shards_and_restarts_change_no_bit(tmp_path: Path, image: Path, precision: str) -> None:
    predictor = Predictor(CHECKPOINT, "cuda", precision)
    expected = segment(image, tmp_path / "whole.tif", predictor)
    for batch in (1, 3, 8):
        options = SegmentOptions(output_edge=100, batch=batch)
        assert segment(image, tmp_path / f"{batch}.tif", predictor, options) == expected
    directory = tmp_path / "shards.run"
    for number in (2, 0, 1):
        segment_shard(image, directory, Shard(number, 3), Predictor(CHECKPOINT, "cuda", precision), OPTIONS)
    stitch_run(directory, tmp_path / "shards.tif")
    # all but the number of shards, which is no part of the metadata
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "shards.tif"), tifffile.imread(tmp_path / "whole.tif"))
    asked = iter([None] * 17)
    with pytest.raises(Interrupted):
        segment(image, tmp_path / "again.tif", predictor, watch=Watch(should_stop=lambda: next(asked, 15)))
    assert segment(image, tmp_path / "again.tif", Predictor(CHECKPOINT, "cuda", precision)) == expected


def test_a_cpu_gives_the_same_up_to_rounding(tmp_path: Path, image: Path) -> None:
    options = SegmentOptions(("probabilities",), 100)
    found = pixels_of(image, tmp_path / "gpu.tif", Predictor(CHECKPOINT, "cuda", "fp32"), options).astype(int)
    expected = pixels_of(image, tmp_path / "cpu.tif", Predictor(CHECKPOINT, "cpu", "fp32"), options).astype(int)
    assert np.abs(found - expected).max() <= 1
    assert (found != expected).mean() < 0.01
    for precision, share in (("tf32", 0.02), ("bf16", 0.05), ("fp16", 0.02)):
        coarse = pixels_of(image, tmp_path / f"{precision}.tif", Predictor(CHECKPOINT, "cuda", precision))
        assert (coarse != expected.argmax(axis=0)).mean() < share


@pytest.mark.parametrize("precision", PRECISIONS)
def test_tile_edges_agree_up_to_rounding(tmp_path: Path, image: Path, precision: str) -> None:
    predictor = Predictor(CHECKPOINT, "cuda", precision)
    masks = [
        pixels_of(image, tmp_path / f"{edge}.tif", predictor, SegmentOptions(output_edge=edge))
        for edge in (100, 204, 708, None)
    ]
    for mask in masks[1:]:
        assert (mask != masks[0]).mean() < (1e-4 if precision == "fp32" else 0.02)
    verification = segment_image(image, tmp_path / "v.tif", predictor, OPTIONS, verify=True).verification
    assert verification is not None
    assert verification.largest_difference < (1e-4 if precision == "fp32" else 0.1)


@pytest.mark.parametrize(("channels", "dtype"), [(3, "u1"), (1, "u2"), (2, "f4")])
def test_every_type_of_pixel(tmp_path: Path, channels: int, dtype: str) -> None:
    checkpoint = make_checkpoint(channels, 3, (8, 16))
    pixels = make_pixels(300, 333, channels).astype(dtype) * (150 if dtype == "u2" else 1)
    tifffile.imwrite(tmp_path / "image.tif", pixels, planarconfig="contig" if channels > 1 else None)
    masks = [
        pixels_of(tmp_path / "image.tif", tmp_path / f"{device}.tif", Predictor(checkpoint, device, "fp32"))
        for device in ("cuda", "cpu")
    ]
    assert (masks[0] != masks[1]).mean() < 1e-4 and len(np.unique(masks[1])) > 1


def test_graphs_give_the_file_that_kernels_one_by_one_give(
    tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = segment(image, tmp_path / "graphs.tif", Predictor(CHECKPOINT, "cuda", "bf16"))
    monkeypatch.setattr(Lane, "_capture", lambda self: None)
    assert segment(image, tmp_path / "kernels.tif", Predictor(CHECKPOINT, "cuda", "bf16")) == expected


def limit_memory(more: int) -> None:
    """Let this process have so many bytes of the GPU beyond what it has."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, (torch.cuda.memory_reserved() + more) / total))


def test_little_memory_fewer_windows_at_once_and_the_same_mask(tmp_path: Path, image: Path) -> None:
    options, lines = SegmentOptions(output_edge=708, batch=12), list[str]()
    expected = segment(image, tmp_path / "plenty.tif", Predictor(CHECKPOINT, "cuda", "fp32"), options)
    predictor = Predictor(CHECKPOINT, "cuda", "fp32")
    limit_memory(900 * 2**20)  # a lane takes some 200 MiB
    found = segment(image, tmp_path / "little.tif", predictor, options, watch=Watch(on_advice=lines.append))
    assert found == expected, lines
    assert any("GPU's memory is full" in line for line in lines)


def test_too_little_memory_smaller_tiles_or_a_refusal(tmp_path: Path, image: Path) -> None:
    large = tmp_path / "large.tif"
    tifffile.imwrite(large, make_pixels(1700, 1700))
    predictor, lines = Predictor(CHECKPOINT, "cuda", "fp32"), list[str]()
    limit_memory(450 * 2**20)  # a tile of 1540 px takes some 600 MiB
    result = segment_image(large, tmp_path / "mask.tif", predictor, SegmentOptions(), Watch(on_advice=lines.append))
    assert result.plan.output_edge < 1000 and "does not hold tiles" in lines[0]
    with pytest.raises(InputError, match=r"smaller --tile"):
        segment_image(large, tmp_path / "no.tif", predictor, SegmentOptions(output_edge=1540))
    assert not (tmp_path / "no.tif").exists()


def test_the_command(tmp_path: Path, image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out = tmp_path / "model.safetensors", tmp_path / "mask.tif"
    save_checkpoint(CHECKPOINT, model)
    command = ["segment", str(image), "-o", str(out), "-m", str(model), "--device", "cuda:0", "--json"]
    assert run([*command, "--dry-run"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert planned["device_memory_bytes"] > 0 and planned["device"] == "cuda"
    assert run([*command, "--verify"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["device"] == "cuda" and done["verify"]["largest_difference"] < 0.2
