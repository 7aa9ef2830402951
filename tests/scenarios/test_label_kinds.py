"""What label images are: ids, masks of two values, JPEGs, floats: told alike wherever they are read, never silently."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from tests.scenarios.conftest import Cli
from unettile.images.idparts import IdParts

EDGE = 96
CELLS = 9


def make_ids() -> NDArray[np.int32]:
    """Return nine round cells of ids 1 to 9, apart from each other."""
    y, x = np.mgrid[:EDGE, :EDGE]
    ids = np.zeros((EDGE, EDGE), np.int32)
    for number in range(CELLS):
        centre = 16 + 32 * (number // 3), 16 + 32 * (number % 3)
        ids[(y - centre[0]) ** 2 + (x - centre[1]) ** 2 < 100] = number + 1
    return ids


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Folders of images, ids, masks of 0 and 255, and JPEGs of those."""
    ids = make_ids()
    for name in ("images", "ids", "binary", "jpeg"):
        (tmp_path / name).mkdir()
    for number in range(3):
        binary = np.where(ids > 0, 255, 0).astype(np.uint8)
        noise = np.random.default_rng(number).integers(0, 40, ids.shape).astype(np.uint8)
        Image.fromarray(noise + binary // 2).save(tmp_path / "images" / f"cells{number}.png")
        Image.fromarray(ids.astype(np.uint16)).save(tmp_path / "ids" / f"cells{number}.png")
        Image.fromarray(binary).save(tmp_path / "binary" / f"cells{number}.png")
        Image.fromarray(binary).save(tmp_path / "jpeg" / f"cells{number}.jpg", quality=75)
    return tmp_path


def weights(cli: Cli, labels: Path, *options: str) -> tuple[int, dict[str, object], str]:
    done = cli("weights", labels, "-o", labels.with_name("maps"), "--overwrite", "--json", *options)
    return done.code, json.loads(done.out or "{}"), done.err


def test_weights_of_a_binary_mask(cli: Cli, folders: Path) -> None:
    code, found, said = weights(cli, folders / "binary")
    assert code == 0 and found["cells"] == 3
    assert "cells0.png: the id 255 lies in 9 separate parts" in said and "give --components" in said
    assert str(found["note"]) in said
    expected = folders / "expected"
    assert cli("weights", folders / "ids", "-o", expected).code == 0
    code, found, said = weights(cli, folders / "binary", "--components")
    assert code == 0 and found["cells"] == 3 * CELLS and found["note"] is None and "separate parts" not in said
    for path in expected.iterdir():
        np.testing.assert_array_equal(tifffile.imread(folders / "maps" / path.name), tifffile.imread(path))
    code, found, said = weights(cli, folders / "ids")
    assert code == 0 and found["cells"] == 3 * CELLS and found["note"] is None and "separate parts" not in said


def test_maps_of_ids_are_not_those_of_parts(cli: Cli, folders: Path) -> None:
    """A run that went on with the other kind of cells would mix two sets of maps."""
    assert cli("weights", folders / "binary", "-o", folders / "maps").code == 0
    next((folders / "maps").iterdir()).unlink()
    done = cli("weights", folders / "binary", "-o", folders / "maps", "--components")
    assert done.code == 3 and "class_weights" not in done.err and "components" in done.err, done.err


def test_evaluate_names_components(cli: Cli, folders: Path) -> None:
    done = cli("evaluate", folders / "binary", folders / "binary", "--objects", "--json")
    assert done.code == 0, done.err
    [note] = json.loads(done.out)["notes"]
    assert "the id 255 lies in 9 separate parts" in note and "give --truth-components" in note and note in done.err
    done = cli("evaluate", folders / "binary", folders / "binary", "--objects", "--truth-components", "--json")
    found = json.loads(done.out)
    assert found["notes"] == [] and found["pooled"]["objects"]["average_precision"] == [1.0] * 10
    done = cli("evaluate", folders / "ids", folders / "binary", "--instances", "--objects", "--json")
    assert len(json.loads(done.out)["notes"]) == 1


def test_train_names_components(cli: Cli, folders: Path) -> None:
    small = (
        "--recipe",
        "nuclei-valid",
        "--set",
        "network.widths=[2,4,4,8,8]",
        "--set",
        "run.steps_per_epoch=1",
        "--set",
        "run.batch=1",
    )
    for kind, labels, said in (("instances", "binary", 1), ("components", "binary", 0), ("instances", "ids", 0)):
        given = ("--epochs", 1, "--workers", 0, "--device", "cpu", "--validation", 0.4, "--overwrite")
        out = folders / "model.safetensors"
        chosen = ("--set", f"labels.kind={kind}")
        done = cli("train", folders / "images", folders / labels, "-o", out, *given, *small, *chosen)
        assert done.code == 0, done.err
        assert done.err.count("the id 255 lies in 9 separate parts") == said
        assert done.err.count("--set labels.kind=components") == said


@pytest.mark.parametrize("command", ["weights", "evaluate", "train", "objects"])
def test_ids_from_a_jpeg_are_refused(cli: Cli, folders: Path, command: str) -> None:
    jpeg = folders / "jpeg"
    given: dict[str, tuple[object, ...]] = {
        "weights": (jpeg, "-o", folders / "out"),
        "evaluate": (folders / "ids", jpeg, "--instances"),
        "train": (folders / "images", jpeg, "-o", folders / "out.safetensors", "--validation", 0.4),
        "objects": (jpeg / "cells0.jpg", "-o", folders / "out.tif"),
    }
    done = cli(command, *given[command])
    assert done.code == 3, done.err
    assert "is a JPEG, whose compression changes the ids of pixels" in done.err.splitlines()[-1]
    assert not list(folders.glob("out*"))


def test_a_tiff_that_is_compressed_as_jpeg_is_one(cli: Cli, tmp_path: Path) -> None:
    mask = np.where(make_ids() > 0, 255, 0).astype(np.uint8)
    tifffile.imwrite(tmp_path / "mask.tif", mask, compression="jpeg")
    done = cli("objects", tmp_path / "mask.tif", "-o", tmp_path / "ids.tif")
    assert done.code == 3 and "is a JPEG" in done.err
    done = cli("objects", tmp_path / "mask.tif", "-o", tmp_path / "ids.tif", "--threshold", 0.5)
    assert done.code == 0 and tifffile.imread(tmp_path / "ids.tif").max() == CELLS


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_whole_numbers_in_floats_are_ids(cli: Cli, tmp_path: Path, dtype: str) -> None:
    """ImageJ writes label maps of more than 65,535 ids so."""
    ids = np.kron(np.arange(70_000, dtype=np.uint32).reshape(200, 350), np.ones((2, 2), np.uint32))
    for name, pixels in (("float", ids.astype(dtype)), ("whole", ids)):
        tifffile.imwrite(tmp_path / f"{name}.tif", pixels)
        done = cli("objects", tmp_path / f"{name}.tif", "-o", tmp_path / f"{name}_ids.tif")
        assert done.code == 0, done.err
    np.testing.assert_array_equal(
        tifffile.imread(tmp_path / "float_ids.tif"), tifffile.imread(tmp_path / "whole_ids.tif")
    )
    assert tifffile.imread(tmp_path / "float_ids.tif").max() == 69_999


@pytest.mark.parametrize(
    ("value", "options", "message"),
    [
        (0.5, (), "holds fractions: need whole numbers, ids; for probabilities give --threshold"),
        (np.nan, (), "holds fractions"),
        (-1, (), "holds the id -1.0"),
        (2.0**32, (), "need ids below 2^32"),
        (7, ("--threshold", 0.5), "holds 7, which is no probability: need numbers from 0 to 1; if they are ids, leave"),
    ],
)
def test_floats_that_are_neither(
    cli: Cli, tmp_path: Path, value: float, options: tuple[object, ...], message: str
) -> None:
    pixels = np.zeros((20, 20), np.float32)
    pixels[3:9, 3:9] = value
    tifffile.imwrite(tmp_path / "mask.tif", pixels)
    done = cli("objects", tmp_path / "mask.tif", "-o", tmp_path / "ids.tif", *options)
    assert done.code == 3 and message in done.err, done.err
    assert not (tmp_path / "ids.tif").exists()


def test_rounded_probabilities_are_probabilities(cli: Cli, tmp_path: Path) -> None:
    pixels = np.zeros((20, 20), np.float32)
    pixels[3:9, 3:9] = 1.0000002
    tifffile.imwrite(tmp_path / "mask.tif", pixels)
    assert cli("objects", tmp_path / "mask.tif", "-o", tmp_path / "ids.tif", "--threshold", 0.5).code == 0


def test_a_few_cells_in_two_pieces_are_usual() -> None:
    ids = make_ids()
    ids[16, :32] = 0  # parts the first cell
    assert IdParts.of(ids, "x").note("") is None and IdParts.of(ids, "x").parts == CELLS + 1
    assert IdParts.of(np.minimum(ids, 1), "x").note("") is not None
    assert IdParts.of(np.minimum(ids, 3), "x").note("") is not None
    assert IdParts.of(np.zeros_like(ids), "x").note("") is None
