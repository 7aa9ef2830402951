"""The run directory: agreed on, resumed, and never trusted without its checksums."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import unettile.tiling
from tests.narrow import make_checkpoint, make_pixels
from unettile.errors import Incomplete, InputError, Interrupted, UsageError
from unettile.inference.predict import Predictor
from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.plan import Plan
from unettile.segmentation.planning import plan_image
from unettile.segmentation.run.directory import RunDirectory
from unettile.segmentation.run.watch import Watch
from unettile.segmentation.segment import run_directory_for, segment_image, segment_shard
from unettile.segmentation.stitch import shard_list, stitch_run
from unettile.tiling import Shard

OPTIONS = SegmentOptions(output_edge=68)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty blocks of 64 px in the image of 211 × 307 px."""
    monkeypatch.setattr(unettile.tiling, "BLOCK_EDGE", 64)


@pytest.fixture
def whole(tmp_path: Path, image: Path, predictor: Predictor) -> bytes:
    """The file of an uninterrupted run."""
    segment_image(image, tmp_path / "whole.tif", predictor, OPTIONS)
    return (tmp_path / "whole.tif").read_bytes()


def stop_after(blocks: int) -> Watch:
    asked = iter([None] * (blocks - 1))
    return Watch(should_stop=lambda: next(asked, 15))


def test_a_plan_survives_its_file(image: Path, predictor: Predictor) -> None:
    plan = plan_image(image, predictor, OPTIONS)
    again = Plan.from_json(plan.to_json())
    assert again == plan and again.id == plan.id and again.differences(plan) == []
    assert len(plan.blocks) == 20


def test_stopped_and_resumed_gives_the_same_bytes(
    tmp_path: Path, image: Path, predictor: Predictor, whole: bytes
) -> None:
    out = tmp_path / "mask.tif"
    for blocks in (1, 7, 9):
        with pytest.raises(Interrupted) as stopped:
            segment_image(image, out, predictor, OPTIONS, stop_after(blocks))
        assert stopped.value.exit_code == 143 and not out.exists()
    seen: list[tuple[int, int]] = []
    result = segment_image(image, out, predictor, OPTIONS, Watch(lambda done, total: seen.append((done, total))))
    assert (result.tally.resumed, result.tally.computed) == (9, 11)
    assert seen == sorted(seen) and seen[-1] == (211 * 307, 211 * 307)
    assert result.written.class_pixels is not None and sum(result.written.class_pixels.values()) == 211 * 307
    assert out.read_bytes() == whole
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.tif", "mask.tif", "whole.tif"]


def _truncate(run: Path) -> None:
    chunk = run / "mask.zarr" / "c" / "0" / "0" / "1"
    chunk.write_bytes(chunk.read_bytes()[:10])


def _flip(run: Path) -> None:
    chunk = run / "mask.zarr" / "c" / "0" / "0" / "1"
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 0xFF
    chunk.write_bytes(bytes(data))


def _swap(run: Path) -> None:
    shutil.copy(run / "mask.zarr" / "c" / "0" / "0" / "0", run / "mask.zarr" / "c" / "0" / "0" / "1")


def _swap_with_markers(run: Path) -> None:
    """Both fit each other and the plan; only the place is wrong."""
    for folder, one, other in (("mask.zarr/c/0", "0/0", "0/1"), ("done", "000000.json", "000001.json")):
        (run / folder / one).rename(run / folder / "kept")
        (run / folder / other).rename(run / folder / one)
        (run / folder / "kept").rename(run / folder / other)


def _unknown_codec(run: Path) -> None:
    place = run / "mask.zarr" / "zarr.json"
    described = json.loads(place.read_text())
    described["codecs"] = [{"name": "stranger", "configuration": {}}]
    place.write_text(json.dumps(described))
    (run / "done" / "000001.json").unlink()


def _remove_chunk(run: Path) -> None:
    (run / "mask.zarr" / "c" / "0" / "0" / "1").unlink()


def _foreign_marker(run: Path) -> None:
    marker = run / "done" / "000001.json"
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "plan": "another"}))


def _empty_marker(run: Path) -> None:
    (run / "done" / "000001.json").write_text("")


@pytest.mark.parametrize(
    "damage", [_truncate, _flip, _swap, _remove_chunk, _foreign_marker, _empty_marker, _unknown_codec]
)
def test_a_damaged_block_is_named_and_recomputed(
    tmp_path: Path, image: Path, predictor: Predictor, whole: bytes, damage: Callable[[Path], None]
) -> None:
    run = tmp_path / "run"
    for index in range(3):
        segment_shard(image, run, Shard(index, 3), predictor, OPTIONS)
    damage(run)
    with pytest.raises(Incomplete, match=r"lacks 1 of 20 blocks .* shard 0 of 3 again \(--array=0, --shard 0/3\)"):
        stitch_run(run, tmp_path / "joined.tif")
    assert not (tmp_path / "joined.tif").exists()
    result = segment_shard(image, run, Shard(0, 3), predictor, OPTIONS)
    assert (result.tally.computed, result.tally.resumed) == (1, 5)
    stitch_run(run, tmp_path / "joined.tif")
    assert (tmp_path / "joined.tif").read_bytes() == whole
    assert run.exists()


def test_swapped_blocks_are_noticed_with_their_markers(
    tmp_path: Path, image: Path, predictor: Predictor, whole: bytes
) -> None:
    run = tmp_path / "run"
    segment_shard(image, run, Shard(0, 1), predictor, OPTIONS)
    _swap_with_markers(run)
    with pytest.raises(Incomplete, match="lacks 2 of 20 blocks"):
        stitch_run(run, tmp_path / "joined.tif")
    assert segment_shard(image, run, Shard(0, 1), predictor, OPTIONS).tally.computed == 2
    stitch_run(run, tmp_path / "joined.tif")
    assert (tmp_path / "joined.tif").read_bytes() == whole


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("shape", [0, 307], r"shape\[0\] = 0, need a whole number of at least 1"),
        ("shape", [211.5, 307], r"shape\[0\] = 211\.5, need a whole number"),
        ("shape", [2**31 - 1, 2**31 - 1], r"blocks, need at most"),
        ("block_edge", 63, "do not fit its geometry"),
        ("shards", 10**9, "shards = 1000000000, need a whole number of at most"),
        ("image", {}, r"image\.bytes is missing"),
        ("write", ["masks"], "need some of probabilities"),
        ("palette", [], "palette has 0 colours"),
        ("precision", "fp8", 'precision = "fp8", need a text like'),
        ("view", {"series": -1}, "--series -1 cannot be meant"),
        ("nonsense", 1, "does not know"),
        ("model", {"network": "unet", "sha256": "x"}, r"model\.sha256 = \"x\""),
    ],
)
def test_a_plan_with_absurd_figures_is_refused(
    tmp_path: Path, image: Path, predictor: Predictor, key: str, value: Any, message: str
) -> None:
    run = tmp_path / "run"
    RunDirectory.join(run, plan_image(image, predictor, OPTIONS))
    plan = run / "plan.json"
    plan.write_text(json.dumps(json.loads(plan.read_text()) | {key: value}))
    with pytest.raises(InputError, match=message) as refused:
        stitch_run(run, tmp_path / "joined.tif")
    assert str(plan) in str(refused.value) and "\n" not in str(refused.value)


def test_missing_shards_can_be_pasted(tmp_path: Path, image: Path, predictor: Predictor) -> None:
    for index in (0, 1, 3, 4, 8):
        segment_shard(image, tmp_path / "run", Shard(index, 9), predictor, OPTIONS)
    with pytest.raises(Incomplete, match="--array=2,5-7, "):
        stitch_run(tmp_path / "run", tmp_path / "joined.tif")
    assert shard_list([0]) == "0" and shard_list([0, 1, 5]) == "0-1,5"


def test_duplicate_workers_do_no_harm(tmp_path: Path, image: Path, predictor: Predictor, whole: bytes) -> None:
    run = tmp_path / "run"
    plan = plan_image(image, predictor, OPTIONS)
    one, other = RunDirectory.join(run, plan), RunDirectory.join(run, plan)
    segment_shard(image, run, Shard(0, 1), predictor, OPTIONS)
    for block in plan.blocks:
        pixels = one.load(block)
        assert pixels is not None
        other.write_block(block, pixels)
        one.write_block(block, pixels)
    stitch_run(run, tmp_path / "joined.tif")
    assert (tmp_path / "joined.tif").read_bytes() == whole


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("tile", "--tile .68 before, 84 now"),
        ("write", "--write"),
        ("shards", "number of shards .2 before, 3 now"),
        ("model", "--model"),
        ("precision", "--precision"),
        ("image", "the image"),
    ],
)
def test_another_plan_is_refused_by_what_differs(
    tmp_path: Path, image: Path, predictor: Predictor, change: str, named: str
) -> None:
    run = tmp_path / "run"
    segment_shard(image, run, Shard(0, 2), predictor, OPTIONS)
    options, shard, other = OPTIONS, Shard(1, 2), predictor
    match change:
        case "tile":
            options = SegmentOptions(output_edge=84)
        case "write":
            options = SegmentOptions(("probabilities",), 68)
        case "shards":
            shard = Shard(1, 3)
        case "model":
            checkpoint = make_checkpoint(seed=1)
            object.__setattr__(checkpoint, "sha256", "1" * 64)
            other = Predictor(checkpoint, "cpu", "fp32")
        case "precision":
            other = Predictor(predictor.checkpoint, "cpu", "bf16")
        case "image":
            tifffile.imwrite(image, make_pixels(211, 307, seed=1))
    with pytest.raises(InputError, match=named) as refusal:
        segment_shard(image, run, shard, other, options)
    assert "\n" not in str(refusal.value)


def test_the_batch_may_change(tmp_path: Path, image: Path, predictor: Predictor, whole: bytes) -> None:
    run = tmp_path / "run"
    for index, batch in ((0, 1), (1, 3)):
        segment_shard(image, run, Shard(index, 2), predictor, SegmentOptions(output_edge=68, batch=batch))
    stitch_run(run, tmp_path / "joined.tif")
    assert (tmp_path / "joined.tif").read_bytes() == whole


def test_what_is_no_run_directory_stays_untouched(tmp_path: Path, image: Path, predictor: Predictor) -> None:
    place = tmp_path / "precious"
    place.mkdir()
    (place / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("x")
    for path in (place, tmp_path / "file"):
        with pytest.raises(InputError, match="no run directory"):
            segment_shard(image, path, Shard(0, 1), predictor, OPTIONS)
    assert [path.name for path in place.iterdir()] == ["thesis.txt"]
    with pytest.raises(InputError, match="no run directory"):
        stitch_run(place, tmp_path / "joined.tif")
    with pytest.raises(InputError, match="cannot write"):
        segment_shard(image, tmp_path / "missing" / "run", Shard(0, 1), predictor, OPTIONS)


def test_a_run_that_died_before_its_plan_is_begun(tmp_path: Path, image: Path, predictor: Predictor) -> None:
    (tmp_path / "run" / "done").mkdir(parents=True)
    (tmp_path / "run" / ".plan.json.host.1.tmp").write_text("{")
    assert segment_shard(image, tmp_path / "run", Shard(0, 1), predictor, OPTIONS).tally.computed == 20


def test_a_destination_is_refused_before_any_work(tmp_path: Path, image: Path, predictor: Predictor) -> None:
    def no_work() -> int:
        raise AssertionError("a block was computed")

    watch = Watch(should_stop=no_work)
    done = tmp_path / "done.tif"
    done.write_bytes(b"mask")
    refused: list[tuple[Path, type[Exception], str]] = [
        (done, InputError, "--overwrite"),
        (tmp_path / "missing" / "mask.tif", InputError, "directory"),
        (tmp_path, UsageError, "one of the inputs"),
        (tmp_path / "mask.bmp", UsageError, "ending"),
    ]
    for output, kind, text in refused:
        with pytest.raises(kind, match=text):
            segment_image(image, output, predictor, OPTIONS, watch)
        assert not run_directory_for(output).exists()
    with pytest.raises(UsageError, match=r"\.tif"):
        segment_image(image, tmp_path / "p.png", predictor, SegmentOptions(("probabilities",), 68), watch)
    assert done.read_bytes() == b"mask"


def test_an_output_explains_itself(tmp_path: Path, image: Path, predictor: Predictor, whole: bytes) -> None:
    with tifffile.TiffFile(tmp_path / "whole.tif") as tif:
        described = json.loads(tif.pages.first.description)
    assert described["model"]["sha256"] == "0" * 64 and described["tile"] == 68 and described["precision"] == "fp32"
    assert described["geometry"]["exact"] is True and described["classes"] == ["class 0", "class 1"]
    text = json.dumps(described)
    assert str(tmp_path) not in text and "shards" not in described and "batch" not in described
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    shutil.move(image, moved / "renamed.tif")
    segment_image(moved / "renamed.tif", moved / "mask.tif", predictor, SegmentOptions(output_edge=68, batch=2))
    assert (moved / "mask.tif").read_bytes() == whole


def test_what_is_infinite_is_refused_where_it_lies(tmp_path: Path, predictor: Predictor) -> None:
    pixels = make_pixels(90, 100).astype(np.float32)
    pixels[80, 97] = np.inf
    tifffile.imwrite(tmp_path / "image.tif", pixels)
    with pytest.raises(InputError, match="y 80, x 97"):
        segment_image(tmp_path / "image.tif", tmp_path / "mask.tif", predictor, OPTIONS)
    assert not (tmp_path / "mask.tif").exists()


def test_what_killed_processes_left_in_it_is_cleared(tmp_path: Path, image: Path, predictor: Predictor) -> None:
    run, host = tmp_path / "run", socket.gethostname()
    segment_shard(image, run, Shard(0, 2), predictor, OPTIONS)
    dead = [
        run / f".plan.json.{host}.99999999.tmp",
        run / "done" / f".000001.json.{host}.99999999.tmp",
        run / "parts" / f".000012.{host}.99999999.tmp",
    ]
    kept = [
        run / "done" / f".000001.json.{host}.{os.getpid()}.tmp",
        run / "done" / ".000001.json.elsewhere.99999999.tmp",
    ]
    for path in (*dead, *kept):
        path.write_text("x")
    segment_shard(image, run, Shard(1, 2), predictor, OPTIONS)
    assert not any(path.exists() for path in dead) and all(path.exists() for path in kept)
