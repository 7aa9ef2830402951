"""Inputs stay what they are: no command writes onto one, into one, or in place of what holds one, by any name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.scenarios.conftest import Cli, make_model, make_pixels
from unettile.errors import UsageError
from unettile.protection import protect


def hard_link(path: Path) -> Path:
    other = path.with_name(f"hard_{path.name}")
    os.link(path, other)
    return other


def soft_link(path: Path) -> Path:
    other = path.with_name(f"soft_{path.name}")
    other.symlink_to(path)
    return other


def through_a_link(path: Path) -> Path:
    """Return the file by the name of a linked folder."""
    folder = path.parent.with_name(f"linked_{path.parent.name}")
    folder.symlink_to(path.parent, target_is_directory=True)
    return folder / path.name


def by_detour(path: Path) -> Path:
    return path.parent / ".." / path.parent.name / path.name


NAMES: list[Callable[[Path], Path]] = [Path, hard_link, soft_link, through_a_link, by_detour]
each_name = pytest.mark.parametrize("name", NAMES, ids=lambda name: name.__name__)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with an image, a mask, labels, a model and a recipe, all of which must stay."""
    here = tmp_path / "work"
    for folder in ("images", "labels"):
        (here / folder).mkdir(parents=True)
    for number in range(3):
        tifffile.imwrite(here / "images" / f"{number}.tif", make_pixels(60, 50))
        labels = np.zeros((60, 50), np.uint8)
        labels[10:30, 10:30] = 1
        tifffile.imwrite(here / "labels" / f"{number}.tif", labels)
    tifffile.imwrite(here / "image.tif", make_pixels(60, 50))
    tifffile.imwrite(here / "mask.tif", np.eye(60, 50, dtype=np.uint8))
    make_model(here / "model.safetensors", 1)
    (here / "recipe.toml").write_text("[run]\nepochs = 1\n")
    return here


def contents(place: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}


def refused(cli: Cli, place: Path, *arguments: object) -> None:
    before = contents(place)
    done = cli(*arguments, "--overwrite")
    assert done.code == 2 and "one of the inputs" in done.err and done.err.count("\n") == 1, done.err
    assert contents(place) == before


@each_name
@pytest.mark.parametrize("what", ["image.tif", "mask.tif", "model.safetensors"])
def test_segment(cli: Cli, place: Path, what: str, name: Callable[[Path], Path]) -> None:
    out = name(place / what)
    if what == "model.safetensors":  # an ending that is written, by which a model may go
        out = (place / "model.safetensors").rename(place / "model.tif")
    given = ("-m", place / "model.tif" if what.startswith("model") else place / "model.safetensors")
    refused(cli, place, "segment", place / "image.tif", "-o", out, *given, "--mask", place / "mask.tif")


@each_name
def test_segment_a_folder_into_itself(cli: Cli, place: Path, name: Callable[[Path], Path]) -> None:
    if name is hard_link:
        pytest.skip("folders have no hard links")
    refused(cli, place, "segment", place / "images", "-o", name(place / "images"), "-m", place / "model.safetensors")


@each_name
@pytest.mark.parametrize("option", ["-o", "--table", "--overlay"])
@pytest.mark.parametrize("what", ["mask.tif", "image.tif"])
def test_objects(cli: Cli, place: Path, what: str, option: str, name: Callable[[Path], Path]) -> None:
    ending = {"-o": ".tif", "--table": ".csv", "--overlay": ".png"}[option]
    path = (place / what).rename(place / f"given{ending}")
    inputs = {"mask.tif": place / "mask.tif", "image.tif": place / "image.tif"} | {what: path}
    refused(cli, place, "objects", inputs["mask.tif"], "--image", inputs["image.tif"], option, name(path))


@each_name
def test_weights(cli: Cli, place: Path, name: Callable[[Path], Path]) -> None:
    refused(cli, place, "weights", place / "mask.tif", "-o", name(place / "mask.tif"))
    picture = (place / "mask.tif").rename(place / "map_preview.png")
    before = contents(place)
    done = cli("weights", picture, "-o", place / "map.tif", "--preview", "--overwrite")
    assert done.code == 2 and "one of the inputs" in done.err
    assert contents(place) == before


def test_weights_of_a_folder_into_itself(cli: Cli, place: Path) -> None:
    for name in (Path, soft_link, by_detour):
        refused(cli, place, "weights", place / "labels", "-o", name(place / "labels"))


@each_name
@pytest.mark.parametrize("what", ["recipe.toml", "model.safetensors"])
def test_train(cli: Cli, place: Path, what: str, name: Callable[[Path], Path]) -> None:
    path = (place / what).rename(place / "given.safetensors")
    given = ("--recipe", path) if what == "recipe.toml" else ("--from", path)
    refused(cli, place, "train", place / "images", place / "labels", "-o", name(path), *given)


@pytest.mark.parametrize("folder", ["images", "labels"])
def test_train_into_a_folder_that_is_read(cli: Cli, place: Path, folder: str) -> None:
    refused(cli, place, "train", place / "images", place / "labels", "-o", place / folder / "new.safetensors")


def test_train_beside_its_images(cli: Cli, place: Path) -> None:
    """The folder of a run is named after the model."""
    images = (place / "images").rename(place / "new.training")
    refused(cli, place, "train", images, place / "labels", "-o", place / "new.safetensors")


@each_name
def test_stitch_and_models(cli: Cli, place: Path, name: Callable[[Path], Path]) -> None:
    crops = place / "crops"
    crops.mkdir()
    (place / "image.tif").rename(crops / "a_y0_x0.tif")
    refused(cli, place, "stitch", crops, "-o", name(crops / "a_y0_x0.tif").parent / "joined.tif")
    refused(cli, place, "models", place / "model.safetensors", "-o", name(place / "model.safetensors"))


def test_names_in_other_case_where_that_does_not_count(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that does not tell a from A gives both the same device and number."""
    stat = Path.stat

    def careless(path: Path, **options: bool) -> os.stat_result:
        return stat(path.with_name(path.name.lower()) if path.name else path, **options)

    monkeypatch.setattr(Path, "stat", careless)
    with pytest.raises(UsageError, match=r"MASK\.TIF is the same as .*mask\.tif, one of the inputs"):
        protect([place / "mask.tif"], [place / "MASK.TIF"])


def test_what_is_beside_and_below_is_free(place: Path) -> None:
    protect(
        [place / "images", place / "image.tif", None], [place / "new.tif", place / "images" / "masks" / "0.tif", None]
    )


def test_what_holds_an_input_is_not_replaced(place: Path) -> None:
    (place / "images" / "zarr.json").write_text("{}")
    with pytest.raises(UsageError, match=r"images holds .*0\.tif, one of the inputs"):
        protect([place / "images" / "0.tif"], [place / "images"])
    with pytest.raises(UsageError, match=r"lies in .*images, one of the inputs"):
        protect([place / "images"], [place / "images" / "labels" / "deep.zarr"])
