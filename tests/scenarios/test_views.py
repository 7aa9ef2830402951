"""Choosing a level, a pixel size, a plane, channels: the mask is that of the image that was chosen, and says which."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

from tests.scenarios.conftest import Cli, make_pixels
from unettile.checkpoint import load_checkpoint, save_checkpoint

PLANES = np.stack([make_pixels(150, 170, seed=seed) for seed in range(4)]).reshape(2, 2, 150, 170)  # z, c, y, x


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    """An OME-TIFF of two planes, two channels and two levels, at 0.25 µm."""
    path = tmp_path / "stack.ome.tif"
    metadata = {"axes": "ZCYX", "PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25, "Channel": {"Name": ["DAPI", "CD3"]}}
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(PLANES, subifds=1, metadata=metadata, tile=(32, 32), photometric="minisblack")
        file.write(PLANES[..., ::2, ::2], subfiletype=1, tile=(32, 32), photometric="minisblack")
    return path


def metadata_of(mask: Path) -> dict[str, Any]:
    with tifffile.TiffFile(mask) as file:
        return dict(json.loads(file.pages.first.description))


def test_the_mask_of_a_view_is_that_of_its_pixels(cli: Cli, tmp_path: Path, model: Path, stack: Path) -> None:
    alone, expected, mask = tmp_path / "alone.tif", tmp_path / "expected.tif", tmp_path / "mask.tif"
    for options, pixels, view in (
        (("--z", 1, "--channel", "CD3"), PLANES[1, 1], [0, None, [1], 1]),
        (("--z", 0, "--channel", 0, "--level", 1), PLANES[0, 0, ::2, ::2], [1, None, [0], 0]),
        (("--z", 1, "--channel", "dapi", "--mpp", 0.5, "--series", 0), PLANES[1, 0, ::2, ::2], [1, None, [0], 1]),
    ):
        tifffile.imwrite(alone, pixels)
        assert cli("segment", alone, "-o", expected, "-m", model, "--overwrite", "--device", "cpu").code == 0
        done = cli("segment", stack, "-o", mask, "-m", model, "--overwrite", "--device", "cpu", "--json", *options)
        assert done.code == 0, done.err
        assert np.array_equal(tifffile.imread(mask), tifffile.imread(expected))
        shown = metadata_of(mask)["view"]
        assert [shown[name] for name in ("level", "mpp", "channels", "z")] == view
        assert json.loads(done.out)["view"] == shown


def test_resampling_is_stated_and_the_same_for_every_tile(cli: Cli, tmp_path: Path, model: Path, stack: Path) -> None:
    options = ("-m", model, "--device", "cpu", "--precision", "fp32", "--z", 0, "--channel", 1, "--mpp", 0.4)
    for name, tile in (("a", 388), ("b", 20)):
        done = cli("segment", stack, "-o", tmp_path / f"{name}.tif", "--tile", tile, *options)
        assert done.code == 0, done.err
    first, second = (tifffile.imread(tmp_path / f"{name}.tif") for name in "ab")
    assert first.shape == (round(150 * 0.25 / 0.4), round(170 * 0.25 / 0.4))
    assert np.array_equal(first, second)
    assert metadata_of(tmp_path / "a.tif")["view"]["mpp"] == 0.4


def test_a_run_goes_on_with_its_own_view_alone(cli: Cli, tmp_path: Path, model: Path, stack: Path) -> None:
    run = ("-o", tmp_path / "run", "-m", model, "--device", "cpu", "--channel", 0)
    assert cli("segment", stack, *run, "--shard", "0/2", "--z", 0).code == 0
    done = cli("segment", stack, *run, "--shard", "1/2", "--z", 1, "--level", 1)
    assert done.code == 3 and "differs in --level (0 before, 1 now), --z (0 before, 1 now)" in done.err, done.err
    assert cli("segment", stack, *run, "--shard", "1/2", "--z", 0).code == 0


def test_pixels_of_another_size_than_the_models_are_advised_of(
    cli: Cli, tmp_path: Path, model: Path, stack: Path
) -> None:
    sized = tmp_path / "sized.safetensors"
    save_checkpoint(replace(load_checkpoint(model), pixel_size_um=0.5), sized)
    options = ("-m", sized, "--device", "cpu", "--z", 0, "--channel", 0, "--overwrite", "-o", tmp_path / "mask.tif")
    scaled = "by its pixel size the image is segmented at 0.5 of its size"
    assert scaled in cli("segment", stack, *options).err
    advice = "pixels of 0.25 µm, the model was trained at 0.5 µm: it may see its objects too large; --mpp 0.5 brings"
    options = (*options, "--diameter", "off")
    assert advice in cli("segment", stack, *options).err
    assert advice in cli("segment", stack, *options, "--dry-run").err
    for silent in (("--mpp", 0.5), ("--level", 1), ("--mpp", 0.4)):
        assert "trained at" not in cli("segment", stack, *options, *silent).err


def test_zarr_directories_are_images_in_a_folder(cli: Cli, tmp_path: Path, model: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    pixels = make_pixels(150, 170)
    zarr.create_array(folder / "a.zarr", data=pixels, chunks=(64, 64))
    tifffile.imwrite(folder / "b.tif", pixels)
    done = cli("segment", folder, "-o", tmp_path / "out", "-m", model, "--device", "cpu")
    assert done.code == 0, done.err
    assert np.array_equal(*(tifffile.imread(tmp_path / "out" / f"{name}.tif") for name in "ab"))
    assert cli("segment", folder / "a.zarr", "-o", tmp_path / "one.tif", "-m", model, "--device", "cpu").code == 0
    assert np.array_equal(tifffile.imread(tmp_path / "one.tif"), tifffile.imread(tmp_path / "out" / "b.tif"))


def test_a_view_that_one_image_lacks_refuses_that_image_alone(
    cli: Cli, tmp_path: Path, model: Path, stack: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    tifffile.imwrite(folder / "flat.tif", make_pixels(150, 170))
    stack.rename(folder / "stack.ome.tif")
    done = cli("segment", folder, "-o", tmp_path / "out", "-m", model, "--device", "cpu", "--z", 1, "--channel", 0)
    assert done.code == 3 and "flat.tif: --z 1 does not exist" in done.err and "1 of 2 images was refused" in done.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["stack.tif"]


def places_of(group: Path) -> list[list[float]]:
    """Return of every level of an OME-Zarr its scale and its translation, each along y and x."""
    attributes: Any = zarr.open_group(group, mode="r").attrs.asdict()
    steps = [one["coordinateTransformations"] for one in attributes["ome"]["multiscales"][0]["datasets"]]
    return [[*scale["scale"][-2:], *translation["translation"][-2:]] for scale, translation in steps]


def test_the_mask_of_a_lower_level_lies_where_that_level_lies(cli: Cli, tmp_path: Path, model: Path) -> None:
    """Levels share a corner, so that their pixels' centres, which OME-Zarr places, do not coincide."""
    image, mask = tmp_path / "image.ome.zarr", tmp_path / "mask.ome.zarr"
    group = zarr.open_group(image, mode="w", zarr_format=3)
    pixels = make_pixels(320, 256)
    datasets = []
    for level, step in enumerate((1, 2, 4)):
        array = group.create_array(
            str(level), shape=pixels[::step, ::step].shape, chunks=pixels[::step, ::step].shape, dtype="uint8"
        )
        array[...] = pixels[::step, ::step]
        centre = [100 + 0.25 * (step - 1) / 2, -40 + 0.5 * (step - 1) / 2]
        steps = [{"type": "scale", "scale": [0.25 * step, 0.5 * step]}, {"type": "translation", "translation": centre}]
        datasets.append({"path": str(level), "coordinateTransformations": steps})
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    for level in range(3):
        done = cli("segment", image, "-o", mask, "-m", model, "--level", level, "--device", "cpu", "--overwrite")
        assert done.code == 0, done.err
        assert places_of(mask)[0] == pytest.approx(places_of(image)[level])
