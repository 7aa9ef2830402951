"""`segment --write instances` through the command line: files, messages, shards, folders, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas
import pytest
import tifffile
import torch
import zarr

import unettile.segmentation.output
import unettile.tiling
from tests.laws.test_instances import make_model
from tests.narrow import make_checkpoint
from tests.scenarios.conftest import Cli, make_pixels
from unettile.checkpoint import load_checkpoint, save_checkpoint
from unettile.images.slide import open_labels, open_slide
from unettile.images.view import View


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine blocks in the image of 150 × 170 px."""
    monkeypatch.setattr(unettile.tiling, "BLOCK_EDGE", 64)


@pytest.fixture(scope="module")
def deep_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a depth of its own, which splits by it."""
    path = tmp_path_factory.mktemp("model") / "deep.safetensors"
    save_checkpoint(replace(make_model("depth"), sha256=""), path)
    return path


@pytest.mark.parametrize("ending", ["tif", "ome.tif", "ome.zarr", "png"])
def test_ids_in_every_format_are_those_of_the_objects_command(
    cli: Cli, tmp_path: Path, image: Path, deep_model: Path, ending: str
) -> None:
    out, ids = tmp_path / f"ids.{ending}", tmp_path / "other.tif"
    done = cli("segment", image, "-m", deep_model, "-o", out, "--write", "instances", "--json")
    assert done.code == 0, done.err
    result = json.loads(done.out)
    count = result["objects"]["objects"]
    assert f"{count} objects" in done.err and result["class_pixels"] is None and result["write"] == ["instances"]
    for kind in ("classes", "depth"):
        assert cli("segment", image, "-m", deep_model, "-o", tmp_path / f"{kind}.tif", "--write", kind).code == 0
    rules = ("--split", "--neck", 0.95, "--rise", 1, "--min-size", 5, "--close-gaps", 2)
    done = cli("objects", tmp_path / "classes.tif", "--depth", tmp_path / "depth.tif", *rules, "-o", ids)
    assert done.code == 0, done.err
    with open_labels(out) as slide:
        found = slide.read(unettile.tiling.Box.of_shape(slide.shape))[:, :, 0]
    np.testing.assert_array_equal(found, tifffile.imread(ids))
    assert found.max() == count and found.dtype == np.uint16


def test_several_kinds_in_one_file_are_those_of_files_of_their_own(
    cli: Cli, tmp_path: Path, image: Path, deep_model: Path
) -> None:
    kinds = ("probabilities", "depth", "instances", "classes")
    alone = {}
    for kind in kinds:
        assert cli("segment", image, "-m", deep_model, "-o", tmp_path / f"{kind}.tif", "--write", kind).code == 0
        alone[kind] = tifffile.imread(tmp_path / f"{kind}.tif")
    several = [word for kind in reversed(kinds) for word in ("--write", kind)]
    assert cli("segment", image, "-m", deep_model, "-o", tmp_path / "all.ome.tif", *several).code == 0
    with tifffile.TiffFile(tmp_path / "all.ome.tif") as tif:
        assert [series.name for series in tif.series] == list(kinds)
        for series, kind in zip(tif.series, kinds, strict=True):
            np.testing.assert_array_equal(series.asarray(), alone[kind])
            assert series.dtype == alone[kind].dtype
    assert cli("segment", image, "-m", deep_model, "-o", tmp_path / "all.ome.zarr", *several).code == 0
    places = {
        "probabilities": "0",
        "depth": "depth/0",
        "instances": "labels/instances/0",
        "classes": "labels/classes/0",
    }
    for kind, place in places.items():
        array = zarr.open_array(tmp_path / "all.ome.zarr" / place, mode="r")
        np.testing.assert_array_equal(array[...], alone[kind])
        assert array.dtype == alone[kind].dtype
    for place in ("depth", "labels/instances"):
        with open_slide(tmp_path / "all.ome.zarr" / place) as slide:
            assert slide.shape == (150, 170) and slide.channels == 1
    table = tmp_path / "cells.csv"
    assert cli("objects", tmp_path / "all.ome.tif", "--series", 2, "--table", table).code == 0
    rows = pandas.read_csv(table)
    assert set(rows["class"]) == {1} and rows["mask_id"].tolist() == rows["id"].tolist(), "an id is no class"
    done = cli("segment", image, "-m", deep_model, "-o", tmp_path / "all.tif", *several)
    assert done.code == 2 and ".ome.tif" in done.err


def test_shards_and_folders(cli: Cli, tmp_path: Path, image: Path, deep_model: Path) -> None:
    whole, joined = tmp_path / "whole.tif", tmp_path / "joined.tif"
    command = ("segment", image, "-m", deep_model, "--write", "instances")
    assert cli(*command, "-o", whole).code == 0
    for shard in ("1/2", "0/2"):
        assert cli(*command, "-o", tmp_path / "run", "--shard", shard).code == 0
    other = cli(*command, "-o", tmp_path / "run", "--shard", "0/2", "--set", "min_size=9")
    assert other.code == 3 and "how objects are made" in other.err
    done = cli("stitch", tmp_path / "run", "-o", joined, "--json")
    assert done.code == 0 and json.loads(done.out)["objects"]["objects"] == tifffile.imread(whole).max()
    assert "objects" in done.err and joined.read_bytes() == whole.read_bytes()

    folder = tmp_path / "images"
    folder.mkdir()
    image.rename(folder / "a.tif")
    tifffile.imwrite(folder / "b.tif", make_pixels(90, 80, seed=3))
    command = ("segment", folder, "-m", deep_model, "--write", "instances", "-o", tmp_path / "out")
    done = cli(*command, "--json")
    assert done.code == 0 and json.loads(done.out)["done"] == 2
    assert (tmp_path / "out" / "a.tif").read_bytes() == whole.read_bytes()
    assert json.loads(cli(*command, "--json").out)["skipped"] == 2
    changed = cli(*command, "--set", "min_size=40")
    assert changed.code == 3 and "instances differ" in changed.err
    assert cli(*command, "--set", "min_size=40", "--overwrite").code == 0


def test_dry_run_and_verify(cli: Cli, tmp_path: Path, image: Path, deep_model: Path) -> None:
    command = ("segment", image, "-m", deep_model, "--write", "instances", "-o", tmp_path / "ids.tif")
    done = cli(*command, "--dry-run", "--json")
    assert done.code == 0 and json.loads(done.out)["status"] == "planned" and not (tmp_path / "ids.tif").exists()
    done = cli(*command, "--verify", "--json")
    assert done.code == 0 and json.loads(done.out)["verify"]["largest_difference"] == 0
    assert cli(*command).code == 0  # it is finished
    assert cli(*command, "--set", "min_size=30").code == 3


def test_more_ids_than_a_png_holds(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: Path, deep_model: Path
) -> None:
    canvas_of = unettile.segmentation.output.canvas_of
    monkeypatch.setattr(
        unettile.segmentation.output, "canvas_of", lambda plan, objects=0: canvas_of(plan, objects and 70_000)
    )
    out = tmp_path / "ids.png"
    done = cli("segment", image, "-m", deep_model, "--write", "instances", "-o", out)
    assert done.code == 2 and f"unettile stitch {out}.run -o {tmp_path / 'ids.tif'}" in done.err
    assert cli("stitch", f"{out}.run", "-o", tmp_path / "ids.tif").code == 0
    assert tifffile.imread(tmp_path / "ids.tif").dtype == np.uint32


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--set", "min_size=30"), 2, "--write instances"),
        (("--write", "instances", "--set", "size=30"), 2, "min_size"),
        (("--write", "instances", "--set", "min_size=a"), 2, "whole number"),
        (("--write", "instances", "--set", "neck=2"), 2, "neck"),
        (("--write", "instances", "--set", "min_size"), 2, "KEY=VALUE"),
        (("--write", "depth"), 2, "no depth"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    cli: Cli, tmp_path: Path, image: Path, model: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    done = cli("segment", image, "-m", model, "-o", tmp_path / "out.tif", *arguments)
    assert done.code == code and done.err.count("\n") == 1 and words in done.err, done.err
    assert list(tmp_path.iterdir()) == [image]


def test_a_model_carries_its_rules(cli: Cli, tmp_path: Path, image: Path, deep_model: Path) -> None:
    changed = tmp_path / "changed.safetensors"
    done = cli("models", deep_model, "--set", "objects.min_size=40", "-o", changed, "--json")
    assert done.code == 0 and json.loads(done.out)["objects"]["min_size"] == 40
    assert load_checkpoint(changed).objects == replace(load_checkpoint(deep_model).objects, min_size=40)
    assert "min_size 40" in cli("models", changed).out
    first, second = tmp_path / "first.tif", tmp_path / "second.tif"
    assert cli("segment", image, "-m", changed, "--write", "instances", "-o", first).code == 0
    rules = ("--set", "objects.min_size=40")
    assert cli("segment", image, "-m", deep_model, "--write", "instances", *rules, "-o", second).code == 0
    np.testing.assert_array_equal(tifffile.imread(first), tifffile.imread(second))
    assert cli("models", deep_model, "--set", "objects.neck=3").code == 2


def test_ids_of_a_model_of_several_classes_know_their_class(cli: Cli, tmp_path: Path, image: Path) -> None:
    model, table = tmp_path / "three.safetensors", tmp_path / "cells.csv"
    checkpoint = make_checkpoint(classes=3, widths=(2, 3), seed=1)
    pixels = torch.from_numpy(tifffile.imread(image)[None, None, :148, :168] / np.float32(255))
    logits = checkpoint.build()(pixels).detach()
    bias = checkpoint.parameters["head.bias"] - logits.mean(dim=(0, 2, 3))  # each class somewhere the likeliest
    save_checkpoint(replace(checkpoint, parameters=checkpoint.parameters | {"head.bias": bias}, sha256=""), model)
    outputs = tmp_path / "ids.png", tmp_path / "classes.tif"
    for out, kind in zip(outputs, ("instances", "classes"), strict=True):
        assert cli("segment", image, "-m", model, "--tile", 68, "-o", out, "--write", kind).code == 0
    done = cli("objects", outputs[0], "--table", table, "--json")
    by_class = json.loads(done.out)["by_class"]
    assert set(by_class) == {"class 1", "class 2"}
    with open_labels(outputs[0]) as slide:
        ids = slide.read(unettile.tiling.Box.of_shape(slide.shape))[:, :, 0]
    classes, rows = tifffile.imread(outputs[1]), pandas.read_csv(table)
    assert (rows["class_share"] < 1).any()
    for row in rows.itertuples():
        counts = np.bincount(classes[ids == row.mask_id], minlength=3)
        assert row[rows.columns.get_loc("class") + 1] == counts.argmax()
        assert abs(row.class_share - counts.max() / counts.sum()) < 0.003
    apart = cli("segment", image, "-m", model, "--tile", 68, "-o", tmp_path / "apart.tif", "--write", "instances",
                "--set", "merge_classes=false", "--json")  # fmt: skip
    assert json.loads(apart.out)["objects"]["objects"] > len(rows)


def test_series_of_ids_is_read_back(cli: Cli, tmp_path: Path, image: Path, deep_model: Path) -> None:
    out = tmp_path / "both.ome.tif"
    several = ("--write", "instances", "--write", "classes")
    assert cli("segment", image, "-m", deep_model, *several, "-o", out).code == 0
    with open_labels(out, View(series=0)) as ids, open_labels(out, View(series=1)) as classes:
        assert (ids.dtype, classes.dtype) == (np.uint16, np.uint8)
