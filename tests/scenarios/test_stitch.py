"""`segment --shard` and `stitch` through the command line: n shards = one run, gaps named, crops checked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tifffile

import unettile.tiling
from tests.scenarios.conftest import Cli, make_pixels


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine blocks in the image of 150 × 170 px."""
    monkeypatch.setattr(unettile.tiling, "BLOCK_EDGE", 64)


def test_shards_make_the_same_file(cli: Cli, tmp_path: Path, model: Path, image: Path) -> None:
    options = ("-m", model, "--tile", 68)
    assert cli("segment", image, *options, "-o", tmp_path / "whole.tif").code == 0
    for shard in ("2/3", "0/3"):
        done = cli("segment", image, *options, "-o", tmp_path / "run", "--shard", shard, "--json")
        assert done.code == 0, done.err
        assert json.loads(done.out)["shard"] == shard
    done = cli("stitch", tmp_path / "run", "-o", tmp_path / "joined.tif")
    assert done.code == 75 and done.err.count("\n") == 1 and "1/3" in done.err, done.err
    assert not (tmp_path / "joined.tif").exists()
    done = cli("stitch", tmp_path / "run", "-o", tmp_path / "joined.tif", "--json", "--quiet")
    missing = json.loads(done.out)["missing"]
    assert done.code == 75 and done.err.count("\n") == 1
    assert missing == {"blocks": [3, 4, 5], "shards": [1], "of_shards": 3, "array": "1"}
    assert cli("segment", image, *options, "-o", tmp_path / "run", "--shard", "1/3").code == 0
    done = cli("stitch", tmp_path / "run", "-o", tmp_path / "joined.tif", "--json", "--quiet")
    assert done.code == 0 and done.err == "" and json.loads(done.out)["output"] == str(tmp_path / "joined.tif")
    assert (tmp_path / "joined.tif").read_bytes() == (tmp_path / "whole.tif").read_bytes()
    before = (tmp_path / "joined.tif").stat().st_mtime_ns
    done = cli("stitch", tmp_path / "run", "-o", tmp_path / "joined.tif", "--json")
    assert done.code == 0 and done.err == f"{tmp_path / 'joined.tif'} is finished already: nothing to do\n"
    assert json.loads(done.out)["status"] == "skipped"
    assert (tmp_path / "joined.tif").stat().st_mtime_ns == before
    assert cli("segment", image, "-m", model, "--write", "probabilities", "-o", tmp_path / "o.tif").code == 0
    done = cli("stitch", tmp_path / "run", "-o", tmp_path / "o.tif")
    assert done.code == 3 and "(write differs)" in done.err and "--overwrite" in done.err and done.err.count("\n") == 1
    assert cli("stitch", tmp_path / "run", "-o", tmp_path / "o.tif", "--overwrite").code == 0
    assert (tmp_path / "o.tif").read_bytes() == (tmp_path / "whole.tif").read_bytes()


def test_a_shard_that_disagrees_is_refused(cli: Cli, tmp_path: Path, model: Path, image: Path) -> None:
    run = tmp_path / "run"
    assert cli("segment", image, "-m", model, "--tile", 68, "-o", run, "--shard", "0/2").code == 0
    for options, part in ((("--tile", 84, "--shard", "1/2"), "84"), (("--tile", 68, "--shard", "1/3"), "3")):
        done = cli("segment", image, "-m", model, "-o", run, *options)
        assert done.code == 3 and part in done.err and done.err.count("\n") == 1, done.err
    tifffile.imwrite(image, make_pixels(150, 170, seed=5))
    done = cli("segment", image, "-m", model, "-o", run, "--tile", 68, "--shard", "1/2")
    assert done.code == 3 and done.err.count("\n") == 1, done.err


def test_a_shard_takes_one_image(cli: Cli, tmp_path: Path, model: Path, image: Path) -> None:
    done = cli("segment", image, image, "-m", model, "-o", tmp_path / "run", "--shard", "0/2")
    assert done.code == 2 and "--shard" in done.err and done.err.count("\n") == 1


def test_crops(cli: Cli, tmp_path: Path) -> None:
    pixels = make_pixels(60, 80)
    crops = tmp_path / "crops"
    crops.mkdir()
    for y in (0, 30):
        for x in (0, 40):
            tifffile.imwrite(crops / f"a_y{y:05d}_x{x:05d}.tif", pixels[y : y + 30, x : x + 40])
    done = cli("stitch", crops, "-o", tmp_path / "whole.tif")
    assert done.code == 0, done.err
    assert (tifffile.imread(tmp_path / "whole.tif") == pixels).all()
    done = cli("stitch", crops, "-o", tmp_path / "whole.tif")
    assert done.code == 0 and "whole.tif is finished already: nothing to do" in done.err
    tifffile.imwrite(crops / "a_y00030_x00040.tif", pixels[:30, :40])
    done = cli("stitch", crops, "-o", tmp_path / "whole.tif")
    assert done.code == 3 and "crops_sha256" in done.err and "--overwrite" in done.err, done.err
    (crops / "a_y00000_x00040.tif").unlink()
    done = cli("stitch", crops, "-o", tmp_path / "gap.tif")
    assert done.code == 75 and done.err.count("\n") == 1, done.err
    assert not (tmp_path / "gap.tif").exists()


def test_no_run_and_no_crops(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "nothing").mkdir()
    for source in (tmp_path / "nothing", tmp_path / "missing"):
        done = cli("stitch", source, "-o", tmp_path / "out.tif")
        assert done.code == 3 and done.err.count("\n") == 1, done.err
