"""`unettile objects` through the command line: exit code, files, message."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.scenarios.conftest import Cli


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    """Two touching discs, a speck, and a bar of another class; 60 × 90 px."""
    y, x = np.indices((60, 90))
    classes = np.zeros(y.shape, np.uint8)
    for middle in (20, 38):
        classes[(y - 20) ** 2 + (x - middle) ** 2 <= 100] = 1
    classes[50, 5] = 1
    classes[40:44, 60:85] = 2
    path = tmp_path / "mask.tif"
    tifffile.imwrite(path, classes)
    return path


def test_objects_are_numbered_split_and_counted(cli: Cli, tmp_path: Path, mask: Path) -> None:
    out = tmp_path / "labels.tif"
    done = cli("objects", mask, "-o", out, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["objects"] == 3 and json.loads(done.out)["by_class"] == {"class 1": 2, "class 2": 1}
    done = cli("objects", mask, "-o", out, "--split", "--min-size", 5, "--overwrite", "--json", "--quiet")
    assert done.code == 0 and done.err == ""
    assert (json.loads(done.out)["objects"], json.loads(done.out)["too_small"]) == (3, 1)
    labels = tifffile.imread(out)
    assert labels[20, 20] == 1 and labels[20, 38] == 2 and labels[41, 70] == 3 and labels[50, 5] == 0
    done = cli("objects", mask, "-o", tmp_path / "one.tif", "--class", 2)
    assert done.code == 0 and "1 objects in 90 × 60 px" in done.err


def test_the_names_of_the_classes_come_from_the_mask(cli: Cli, tmp_path: Path, model: Path, image: Path) -> None:
    assert cli("segment", image, "-m", model, "--tile", 68, "-o", tmp_path / "mask.tif").code == 0
    done = cli(
        "objects", tmp_path / "mask.tif", "--geojson", tmp_path / "o.geojson", "--object-type", "annotation", "-q"
    )
    assert done.code == 0, done.err
    features = json.loads((tmp_path / "o.geojson").read_text("utf-8"))["features"]
    with tifffile.TiffFile(tmp_path / "mask.tif") as tif:
        described = json.loads(tif.pages.first.description)
    assert {feature["properties"]["classification"]["name"] for feature in features} == {described["classes"][1]}
    assert {feature["properties"]["objectType"] for feature in features} == {"annotation"}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "--table"),
        (("-o", "labels.xyz"), 2, "ending"),
        (("--table", "t.xls"), 2, ".csv"),
        (("--geojson", "g.shp"), 2, ".geojson"),
        (("--overlay", "o.jpg"), 2, ".png"),
        (("-o", "same.png", "--overlay", "same.png"), 2, "two outputs"),
        (("-o", "mask.tif", "--overwrite"), 2, "inputs"),
        (("-o", "l.tif", "--threshold", "1.5"), 2, "probability"),
        (("-o", "l.tif", "--class", "x"), 2, "--class"),
        (("-o", "l.tif", "--class", "0"), 2, "background"),
        (("-o", "l.tif", "--grow", "100"), 2, "64"),
        (("-o", "l.tif", "--min-size", "-1"), 2, "min-size"),
        (("-o", "l.tif", "--fill-holes", "5000"), 2, "1000"),
        (("-o", "l.tif", "--split", "--neck", "2"), 2, "neck"),
        (("-o", "l.tif", "--split", "--max-object", "0"), 2, "--max-object"),
        (("-o", "l.tif", "--depth", "mask.tif"), 2, "--split"),
        (("-o", "l.tif", "--pixel-size", "0"), 2, "--pixel-size"),
        (("-o", "mine.zarr", "--overwrite"), 3, "is a directory"),
        (("-o", "l.tif", "--image", "other.tif"), 3, "need the image"),
        (("-o", "l.tif", "--split", "--depth", "other.tif"), 3, "equal sizes"),
        (
            (
                "-o",
                "nowhere/l.tif",
            ),
            3,
            "nowhere",
        ),
        (
            (
                "-o",
                "other.tif",
            ),
            3,
            "--overwrite",
        ),
        (("-o", "l.tif", "--image", "missing.tif"), 3, "no such file"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    cli: Cli, mask: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], code: int, words: str
) -> None:
    monkeypatch.chdir(mask.parent)
    tifffile.imwrite("other.tif", np.zeros((9, 9), np.uint8))
    Path("mine.zarr").mkdir()  # a folder of the user's that is no Zarr, whatever its name
    before = sorted(path.name for path in mask.parent.iterdir())
    done = cli("objects", "mask.tif", *arguments)
    assert done.code == code and done.err.count("\n") == 1 and words in done.err, done.err
    assert sorted(path.name for path in mask.parent.iterdir()) == before


def test_masks_that_are_none_are_refused(cli: Cli, tmp_path: Path) -> None:
    for name, pixels, words in (
        ("colour.tif", np.zeros((9, 9, 3), np.uint8), "--threshold"),
        ("float.tif", np.full((9, 9), 0.5, np.float32), "--threshold"),
        ("negative.tif", np.full((9, 9), -1, np.int16), "-1"),
    ):
        tifffile.imwrite(tmp_path / name, pixels)
        done = cli("objects", tmp_path / name, "-o", tmp_path / "out.tif")
        assert done.code == 3 and done.err.count("\n") == 1 and words in done.err, done.err
    assert not (tmp_path / "out.tif").exists()


def test_a_signal_leaves_nothing_behind(tmp_path: Path) -> None:
    mask = tmp_path / "mask.tif"
    tifffile.imwrite(mask, (np.indices((6000, 6000)).sum(axis=0) % 97 < 60).astype(np.uint8), compression="zlib")
    process = subprocess.Popen(
        [sys.executable, "-m", "unettile", "objects", mask, "-o", tmp_path / "out.tif", "--split"],
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONFAULTHANDLER": ""},
    )
    try:
        process.wait(timeout=3.0)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode in (-signal.SIGTERM, 0)
    expected = {"mask.tif"} | ({"out.tif"} if process.returncode == 0 else set())
    assert {path.name for path in tmp_path.iterdir()} == expected
