"""Many images, one command: bad ones are named and passed over, and the same command goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import tifffile

from tests.scenarios.conftest import Cli, make_pixels
from unettile.commands import summary


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    """Twelve small images, one of which is cut short."""
    slides = tmp_path / "slides"
    slides.mkdir()
    for index in range(12):
        tifffile.imwrite(slides / f"{index:02d}.tif", make_pixels(20, 30, seed=index))
    whole = (slides / "07.tif").read_bytes()
    (slides / "07.tif").write_bytes(whole[:-100])
    return slides


def test_one_bad_slide_among_many(
    cli: Cli, tmp_path: Path, model: Path, slides: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summary, "TABLE_ROWS", 10)
    command = ("segment", slides, "-m", model, "-o", tmp_path / "masks")
    done = cli(*command, "--json")
    assert done.code == 3 and "1 of 12 images was refused (11 done, 1 refused)" in done.err
    assert "07.tif" in done.err and "00.tif" not in done.err, "a long table shows what was refused"
    result = json.loads(done.out)
    assert (result["done"], result["refused"], len(result["images"])) == (11, 1, 12)
    assert [entry["status"] for entry in result["images"]][6:9] == ["done", "refused", "done"]
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == [
        f"{index:02d}.tif" for index in range(12) if index != 7
    ]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "masks").iterdir()}
    tifffile.imwrite(slides / "07.tif", make_pixels(20, 30, seed=7))
    done = cli(*command, "--tile", 84, "--json", "--quiet")
    result = json.loads(done.out)
    assert (done.code, done.err, result["done"], result["skipped"]) == (0, "", 1, 11), "the tile changes no pixel"
    assert all(path.stat().st_mtime_ns == then for path, then in before.items())


def test_masks_of_other_options_are_not_taken_for_these(cli: Cli, tmp_path: Path, model: Path, image: Path) -> None:
    (tmp_path / "in").mkdir()
    image.rename(tmp_path / "in" / "a.tif")
    command = ("segment", tmp_path / "in", "-m", model, "-o", tmp_path / "masks")
    assert cli(*command, "--precision", "fp32").code == 0
    done = cli(*command, "--precision", "bf16")
    assert done.code == 3 and "precision" in done.err and "--overwrite" in done.err
    assert cli(*command, "--precision", "bf16", "--overwrite").code == 0


def test_formats_and_what_lies_below(cli: Cli, tmp_path: Path, model: Path, image: Path) -> None:
    (tmp_path / "in" / "more").mkdir(parents=True)
    image.rename(tmp_path / "in" / "a.tif")
    command = ("segment", tmp_path / "in", "-m", model, "-o", tmp_path / "masks")
    done = cli(*command, "--format", "png")
    assert done.code == 0 and "are not searched: more" in done.err, done.err
    assert [path.name for path in (tmp_path / "masks").iterdir()] == ["a.png"]
    done = cli(*command, "--format", "png", "--json")
    assert done.code == 0 and json.loads(done.out)["skipped"] == 1, done.err
    done = cli(*command, "--format", "gif")
    assert done.code == 2 and done.err.count("\n") == 1


def test_a_defect_is_reported_after_the_others(
    cli: Cli, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    for name in "abc":
        tifffile.imwrite(tmp_path / "in" / f"{name}.tif", make_pixels(20, 30))
    from unettile.segmentation import planning

    make_plan = planning.make_plan

    def break_one(slide, *arguments):  # type: ignore[no-untyped-def]
        if slide.path.name == "b.tif":
            raise ZeroDivisionError("ours")
        return make_plan(slide, *arguments)

    monkeypatch.setattr(planning, "make_plan", break_one)
    done = cli("segment", tmp_path / "in", "-m", model, "-o", tmp_path / "masks", "--json")
    statuses = Counter(entry["status"] for entry in json.loads(done.out)["images"])
    assert done.code == 1 and statuses == {"done": 2, "failed": 1}
    assert "Traceback" in done.err and "defect of unettile" in done.err


def test_stopped_in_the_middle_and_repeated(tmp_path: Path, model: Path, slides: Path) -> None:
    masks = tmp_path / "masks"
    command = [sys.executable, "-m", "unettile", "segment", str(slides), "-m", str(model), "-o", str(masks), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 200
    while len(list(masks.glob("[0-9]*.tif"))) < 3:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGTERM)
    out, err = process.communicate(timeout=100)
    assert process.returncode == -signal.SIGTERM and "Traceback" not in err, err
    stopped = json.loads(out)
    assert stopped["done"] >= 3 and stopped["stopped"] == 1 and stopped["not_begun"] >= 1
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 3, again.stderr
    result = json.loads(again.stdout)
    assert (result["skipped"], result["refused"]) == (stopped["done"], 1)
    assert result["done"] + result["skipped"] == 11
