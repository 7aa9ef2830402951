"""`unettile objects` through the command line: exit code, files, message."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas
import pytest
import shapely.geometry
import tifffile

import unettile
from tests.scenarios.conftest import Cli
from unettile.images.canvas import Canvas, Layer
from unettile.images.formats import write_image
from unettile.images.view import View


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
    assert done.code == 0 and "1 object in 60 × 90 px" in done.err


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


@pytest.mark.parametrize("ending", ["tif", "ome.tif", "png", "ome.zarr"])
def test_names_borders_and_places_come_from_a_mask_of_every_format(cli: Cli, tmp_path: Path, ending: str) -> None:
    """A mask of a lower level with a class `border`: its objects are named, the border is none, polygons are placed."""
    classes = np.zeros((40, 60), np.uint8)
    classes[5:15, 10:30] = 1
    classes[5:15, 20] = 2
    path, polygons = tmp_path / f"mask.{ending}", tmp_path / "o.geojson"
    metadata = {
        "unettile": "0.1.0",
        "view": View(level=1).to_dict(),
        "downsample": [4.0, 4.0],
        "write": ["classes"],
        "classes": ["background", "nucleus", "border"],
    }
    layer = Layer("classes", reduction="majority", colours=((0, 0, 0), (9, 8, 7), (6, 5, 4)))
    write_image(path, Canvas((40, 60), (layer,), metadata=metadata), lambda box: classes[box.slices])
    done = cli("objects", path, "--geojson", polygons, "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["by_class"] == {"nucleus": 2}
    features = json.loads(polygons.read_text("utf-8"))["features"]
    assert [feature["properties"]["classification"] for feature in features] == [
        {"name": "nucleus", "color": [9, 8, 7]}
    ] * 2
    bounds = [shapely.geometry.shape(feature["geometry"]).bounds for feature in features]
    assert bounds == [(40, 20, 80, 60), (84, 20, 120, 60)]


def test_given_again_it_ends_well_and_finishes_what_is_missing(cli: Cli, tmp_path: Path, mask: Path) -> None:
    out = {name: tmp_path / f"o.{name}" for name in ("tif", "csv", "geojson", "png", "ome.zarr")}
    command = ("objects", mask, "-o", out["tif"], "--table", out["csv"], "--geojson", out["geojson"])
    command = (*command, "--overlay", out["png"])
    assert cli(*command).code == 0
    before = {name: path.read_bytes() for name, path in out.items() if path.exists()}
    done = cli(*command, "--json")
    assert done.code == 0 and "was there already" in done.err and json.loads(done.out)["status"] == "was there"
    for name in before:  # as a kill between two names leaves it
        for other in before.keys() - {name}:
            out[other].unlink()
        done = cli(*command)
        assert done.code == 0 and "wrote" in done.err, done.err
        assert {name: path.read_bytes() for name, path in out.items() if path.exists()} == before
    for other in (("--min-size", 4), ("--split",)):
        done = cli(*command, *other)
        assert done.code == 3 and "--overwrite" in done.err and done.err.count("\n") == 1
    out["csv"].write_text(out["csv"].read_text("utf-8") + "mine\n", "utf-8")
    done = cli(*command)
    assert done.code == 3 and "o.csv exists and is another" in done.err.splitlines()[-1]
    assert cli("objects", mask, "-o", out["ome.zarr"]).code == cli("objects", mask, "-o", out["ome.zarr"]).code == 0


def test_on_a_full_disk_nothing_appears_and_the_right_file_is_named(tmp_path: Path) -> None:
    mask = tmp_path / "mask.tif"
    classes = (np.indices((600, 600)) % 3 > 0).all(axis=0)
    tifffile.imwrite(mask, classes.astype(np.uint8))
    products = {"-o": "ids.tif", "--table": "t.csv", "--geojson": "o.geojson"}
    limit = 5 * 2**20  # the table takes 4 MB, the polygons more than 8
    done = subprocess.run(
        [sys.executable, "-m", "unettile", "objects", mask, *(word for pair in products.items() for word in pair)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(unettile.__file__).parent.parent)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.returncode == 3, done.stderr
    assert "o.geojson" in done.stderr.splitlines()[-1] and "larger than allowed" in done.stderr
    assert list(tmp_path.iterdir()) == [mask]


def test_all_measures_of_a_stained_image(cli: Cli, tmp_path: Path, mask: Path) -> None:
    image, table = tmp_path / "slide.tif", tmp_path / "t.csv"
    tifffile.imwrite(image, np.random.default_rng(0).integers(40, 255, (60, 90, 3)).astype(np.uint8), photometric="rgb")
    command = ("objects", mask, "--table", table, "--image", image, "--stains", "he", "--measure", "all")
    done = cli(*command, "--percentiles", "1,50")
    assert done.code == 0, done.err
    rows = pandas.read_csv(table)
    for name in ("solidity", "nearest_px", "p1_intensity_2", "mean_od_eosin", "p50_od_haematoxylin", "sum_od_eosin"):
        assert np.isfinite(rows[name]).all(), name
    np.testing.assert_allclose(rows["p50_od_eosin"], rows["median_od_eosin"], atol=1e-5)


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
        (("--table", "t.csv", "--percentiles", "x"), 2, "--percentiles"),
        (("--table", "t.csv", "--percentiles", "101"), 2, "--percentiles"),
        (("--table", "t.csv", "--stains", "he"), 2, "--image"),
        (("--table", "t.csv", "--stains", "he", "--image", "mask.tif"), 2, "red, green and blue"),
        (("--table", "t.csv", "--min-confidence", "0.5"), 2, "--probabilities"),
        (("--table", "t.csv", "--rim", "0.35"), 2, "--rim needs to know probabilities: give --probabilities"),
        (("--table", "t.csv", "--rim", "1.5"), 2, "rim is 1.5: it is a probability; need 0 to 1"),
        (("--table", "t.csv", "--rim-width", "40"), 2, "rim-width is 40: need 1 to 16 px"),
        (("--confidence", "c.tif"), 2, "--probabilities"),
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
