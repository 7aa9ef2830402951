"""`segment` through the command line: one image, several, a folder; nothing but image and model decides the pixels."""

from __future__ import annotations

import json
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from tests.scenarios.conftest import Cli, make_pixels


def test_one_image(cli: Cli, tmp_path: Path, model: Path, image: Path) -> None:
    out = tmp_path / "mask.tif"
    done = cli("segment", image, "-m", model, "-o", out)
    assert done.code == 0, done.err
    assert done.out == "" and str(out) in done.err and "\r" not in done.err
    mask = tifffile.imread(out)
    assert mask.shape == (150, 170) and mask.dtype == np.uint8 and set(np.unique(mask)) == {0, 1}
    assert sorted(tmp_path.iterdir()) == [image, out], "something was left behind"


def test_tile_and_batch_change_no_byte(cli: Cli, tmp_path: Path, model: Path, image: Path) -> None:
    outs = []
    for number, (tile, batch) in enumerate([(388, 1), (20, 3), (68, 2), (196, 1)]):
        outs.append(tmp_path / f"{number}.tif")
        assert cli("segment", image, "-m", model, "-o", outs[-1], "--tile", tile, "--batch", batch).code == 0
    masks = [tifffile.imread(out) for out in outs]
    assert all(np.array_equal(mask, masks[0]) for mask in masks[1:])


def test_json_is_one_object(cli: Cli, tmp_path: Path, model: Path, image: Path) -> None:
    done = cli("segment", image, "-m", model, "-o", tmp_path / "mask.tif", "--json", "--quiet", "--verify")
    assert done.code == 0 and done.err == ""
    result = json.loads(done.out)
    assert result["status"] == "done" and result["output"] == str(tmp_path / "mask.tif")
    assert result["shape"] == [150, 170] and len(result["model_sha256"]) == 64
    assert result["verify"]["largest_difference"] == 0


def test_probabilities(cli: Cli, tmp_path: Path, model: Path, image: Path) -> None:
    done = cli("segment", image, "-m", model, "-o", tmp_path / "p.tif", "--write", "probabilities")
    assert done.code == 0, done.err
    planes = tifffile.imread(tmp_path / "p.tif")
    assert planes.shape == (2, 150, 170) and planes.dtype == np.uint8
    assert np.abs(planes.astype(int).sum(0) - 255).max() <= 1
    done = cli("segment", image, "-m", model, "-o", tmp_path / "p.png", "--write", "probabilities")
    assert done.code == 2 and ".tif" in done.err and done.err.count("\n") == 1, done.err


def test_png_holds_the_same_mask(cli: Cli, tmp_path: Path, model: Path, image: Path) -> None:
    for name in ("mask.tif", "mask.png"):
        assert cli("segment", image, "-m", model, "-o", tmp_path / name).code == 0
    rgb = imagecodecs.png_decode((tmp_path / "mask.png").read_bytes())
    mask = tifffile.imread(tmp_path / "mask.tif")
    assert np.array_equal((rgb[..., 0] == 255) & (rgb[..., 1] == 200), mask == 1)


def test_channels(cli: Cli, tmp_path: Path, model: Path, rgb_model: Path, image: Path) -> None:
    colour = tmp_path / "colour.tif"
    tifffile.imwrite(colour, make_pixels(60, 50, 3), photometric="rgb")
    for options in (("-m", model), ("-m", rgb_model, "--channel", "0,1")):
        done = cli("segment", colour, *options, "-o", tmp_path / "refused.tif")
        assert done.code == 3 and "--channel" in done.err and done.err.count("\n") == 1, done.err
    done = cli("segment", image, "-m", rgb_model, "-o", tmp_path / "refused.tif")
    assert done.code == 3 and "1 channel," in done.err and "--channel 0,0,0" in done.err, done.err
    assert done.err.count("\n") == 1
    accepted = [(colour, model, "2"), (colour, rgb_model, "2,1,0"), (image, rgb_model, "0,0,0")]
    for number, (source, chosen, channel) in enumerate(accepted):
        done = cli("segment", source, "-m", chosen, "--channel", channel, "-o", tmp_path / f"{number}.tif")
        assert done.code == 0, done.err


def test_dry_run_writes_nothing(cli: Cli, tmp_path: Path, model: Path, image: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    done = cli("segment", image, "-m", model, "-o", tmp_path / "mask.tif", "--dry-run", "--json")
    assert done.code == 0 and json.loads(done.out)["status"] == "planned" and "150 × 170 px" in done.err
    done = cli("segment", image, image.with_name("b.tif"), "-m", model, "-o", tmp_path / "masks", "--dry-run")
    assert done.code == 3 and "no such file" in done.err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two good images and a bad one between them."""
    place = tmp_path / "in"
    place.mkdir()
    tifffile.imwrite(place / "a.tif", make_pixels(60, 50))
    (place / "b.tif").write_text("not an image")
    tifffile.imwrite(place / "c.tif", make_pixels(50, 60))
    return place


def test_a_bad_image_does_not_stop_the_rest(cli: Cli, tmp_path: Path, model: Path, folder: Path) -> None:
    out = tmp_path / "out"
    done = cli("segment", folder, "-m", model, "-o", out, "--json")
    assert done.code == 3
    result = json.loads(done.out)
    assert [entry["status"] for entry in result["images"]] == ["done", "refused", "done"]
    assert done.err.splitlines()[-1].startswith("unettile: 1 of 3 images was refused")
    assert "b.tif" in done.err and sorted(path.name for path in out.iterdir()) == ["a.tif", "c.tif"]


def test_the_same_command_goes_on(cli: Cli, tmp_path: Path, model: Path, folder: Path) -> None:
    out = tmp_path / "out"
    assert cli("segment", folder, "-m", model, "-o", out).code == 3
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    tifffile.imwrite(folder / "b.tif", make_pixels(40, 40))
    done = cli("segment", folder, "-m", model, "-o", out, "--json")
    assert done.code == 0, done.err
    assert [entry["status"] for entry in json.loads(done.out)["images"]] == ["skipped", "done", "skipped"]
    assert all((out / name).read_bytes() == data for name, data in first.items())


def test_a_mask_of_something_else_is_not_skipped(
    cli: Cli, tmp_path: Path, model: Path, rgb_model: Path, folder: Path
) -> None:
    out = tmp_path / "out"
    assert cli("segment", folder, "-m", model, "-o", out).code == 3
    tifffile.imwrite(folder / "b.tif", make_pixels(40, 40))
    tifffile.imwrite(folder / "c.tif", make_pixels(50, 60, seed=1))
    done = cli("segment", folder, "-m", model, "-o", out, "--json")
    entries = json.loads(done.out)["images"]
    assert done.code == 3 and [entry["status"] for entry in entries] == ["skipped", "done", "refused"]
    assert "--overwrite" in entries[2]["message"]
    done = cli("segment", folder, "-m", model, "-o", out, "--write", "probabilities", "--json")
    assert [entry["status"] for entry in json.loads(done.out)["images"]] == ["refused"] * 3
    assert cli("segment", folder, "-m", model, "-o", out, "--overwrite").code == 0


def test_quiet_batch_says_only_what_failed(cli: Cli, tmp_path: Path, model: Path, folder: Path) -> None:
    done = cli("segment", folder, "-m", model, "-o", tmp_path / "out", "--quiet")
    assert done.code == 3 and done.out == ""
    lines = done.err.splitlines()
    assert len(lines) == 2 and "b.tif" in lines[0] and "1 of 3" in lines[1]
