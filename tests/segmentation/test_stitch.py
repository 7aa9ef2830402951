"""Stitching: every block is read once, whatever is wrong is told at once, and several writers do no harm."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tifffile

import unettile.tiling
from tests.narrow import make_pixels
from unettile.box import Box
from unettile.checkpoint import save_checkpoint
from unettile.errors import Incomplete, InputError
from unettile.inference.predict import Predictor
from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.run.directory import RunDirectory
from unettile.segmentation.run.reader import BlockReader
from unettile.segmentation.run.watch import Watch
from unettile.segmentation.segment import segment_image, segment_shard
from unettile.segmentation.stitch import MissingBlocks, stitch_run
from unettile.tiling import Block, Shard

OPTIONS = SegmentOptions(output_edge=68)
BLOCKS = 20


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty blocks of 64 px in the image of 211 × 307 px."""
    monkeypatch.setattr(unettile.tiling, "BLOCK_EDGE", 64)


@pytest.fixture
def run(tmp_path: Path, image: Path, predictor: Predictor) -> Path:
    """A run directory of five shards with all its blocks."""
    for index in range(5):
        segment_shard(image, tmp_path / "run", Shard(index, 5), predictor, OPTIONS)
    return tmp_path / "run"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """Counts how often each block is read."""
    counts: Counter[int] = Counter()
    load = RunDirectory.load

    def counted(self: RunDirectory, block: Block) -> object:
        counts[block.index] += 1
        return load(self, block)

    monkeypatch.setattr(RunDirectory, "load", counted)
    return counts


def flip(run: Path, chunk: str) -> None:
    path = run / "mask.zarr" / "c" / "0" / chunk
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))


def test_every_block_is_read_once(tmp_path: Path, run: Path, reads: Counter[int]) -> None:
    seen: list[tuple[int, int]] = []
    stitch_run(run, tmp_path / "mask.tif", watch=Watch(lambda done, total: seen.append((done, total))))
    assert reads == dict.fromkeys(range(BLOCKS), 1)
    assert len(seen) == BLOCKS and seen[-1] == (211 * 307, 211 * 307)


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path, run: Path, reads: Counter[int]) -> None:
    flip(run, "0/1")
    (run / "done" / "000010.json").unlink()
    (run / "done" / "000019.json").write_text("[]")
    with pytest.raises(MissingBlocks) as refusal:
        stitch_run(run, tmp_path / "mask.tif")
    assert refusal.value.to_dict() == {"blocks": [1, 10, 19], "shards": [0, 2, 4], "of_shards": 5, "array": "0,2,4"}
    assert max(reads.values()) == 1, "a block with a marker is read, but no more than once"


def test_damage_that_shows_while_the_file_is_written(tmp_path: Path, run: Path, reads: Counter[int]) -> None:
    flip(run, "1/0")
    flip(run, "3/4")
    (tmp_path / "mask.tif").write_bytes(b"an earlier mask")
    with pytest.raises(MissingBlocks) as refusal:
        stitch_run(run, tmp_path / "mask.tif", overwrite=True)
    assert refusal.value.blocks == [5, 19]
    assert reads == dict.fromkeys(range(BLOCKS), 1)
    assert (tmp_path / "mask.tif").read_bytes() == b"an earlier mask"
    assert not list(tmp_path.glob(".*")), "nothing half-written stays"


def test_a_lost_plan_comes_back_with_any_shard(tmp_path: Path, image: Path, predictor: Predictor, run: Path) -> None:
    (run / "plan.json").write_text("{")
    with pytest.raises(InputError, match="remove it and give the command again"):
        stitch_run(run, tmp_path / "mask.tif")
    (run / "plan.json").unlink()
    with pytest.raises(Incomplete, match="command of any of its shards"):
        stitch_run(run, tmp_path / "mask.tif")
    assert segment_shard(image, run, Shard(3, 5), predictor, OPTIONS).tally.computed == 0
    assert stitch_run(run, tmp_path / "mask.tif").parts == BLOCKS


def test_two_processes_on_one_shard(tmp_path: Path, predictor: Predictor) -> None:
    tifffile.imwrite(tmp_path / "image.tif", make_pixels(200, 250))
    save_checkpoint(predictor.checkpoint, tmp_path / "model.safetensors")
    program = (
        "import unettile.tiling; unettile.tiling.BLOCK_EDGE = 64\nfrom unettile.cli import main\nmain()",
        *("segment", str(tmp_path / "image.tif"), "-m", str(tmp_path / "model.safetensors"), "--tile", "68"),
        *("--precision", "fp32", "-o", str(tmp_path / "run"), "--shard", "0/1"),
    )
    both = [subprocess.Popen([sys.executable, "-c", *program], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    stitch_run(tmp_path / "run", tmp_path / "joined.tif")
    from unettile.checkpoint import load_checkpoint

    again = Predictor(load_checkpoint(tmp_path / "model.safetensors"), "cpu", "fp32")
    segment_image(tmp_path / "image.tif", tmp_path / "whole.tif", again, OPTIONS)
    assert (tmp_path / "joined.tif").read_bytes() == (tmp_path / "whole.tif").read_bytes()


def test_any_box_is_read_with_little_room(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unettile.segmentation.run.reader.CACHE_BYTES", 1)
    with BlockReader(RunDirectory.open(run)) as blocks:
        whole = blocks.read_box(Box(0, 0, 211, 307))
        for box in (Box(10, 20, 200, 300), Box(63, 63, 65, 65), Box(210, 306, 211, 307)):
            assert np.array_equal(blocks.read_box(box), whole[(..., *box.slices)])
