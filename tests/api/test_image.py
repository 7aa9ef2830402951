"""unettile.open: a file, or an array, read by region as NumPy would index the whole."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

import unettile
from tests.narrow import make_pixels

KEYS: tuple[Any, ...] = (
    np.s_[:],
    np.s_[...],
    np.s_[3],
    np.s_[-1, 5:9],
    np.s_[10:50, 20:60],
    np.s_[10:50:7, ::3],
    np.s_[..., 2:4],
    np.s_[5:5, 2],
    np.s_[-20:, -8:-2],
    np.s_[90:500, 4],
)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("key", KEYS, ids=str)
def test_indexing_is_numpy_s(tmp_path: Path, channels: int, key: Any) -> None:
    pixels = make_pixels(100, 120, channels)
    tifffile.imwrite(tmp_path / "image.tif", pixels, tile=(32, 32))
    image = unettile.open(tmp_path / "image.tif")
    assert image.shape == pixels.shape and image.dtype == pixels.dtype
    assert np.array_equal(image[key], pixels[key]) and np.array_equal(unettile.open(pixels)[key], pixels[key])
    assert np.array_equal(np.asarray(image), pixels)


@pytest.mark.parametrize("key", [np.s_[100], np.s_[::-1], np.s_[0, 0, 0, 0], np.s_[[1, 2]], "a"], ids=str)
def test_what_numpy_s_basic_indexing_has_not_is_refused(key: Any) -> None:
    with pytest.raises(IndexError):
        unettile.open(make_pixels(100, 120, 3))[key]


def test_a_box_is_read_and_one_past_the_image_refused() -> None:
    pixels = make_pixels(50, 60)
    image = unettile.open(pixels)
    assert np.array_equal(image.read((10, 20, 30, 60)), pixels[10:30, 20:60])
    assert np.array_equal(image.read(), pixels)
    for box in ((0, 0, 51, 60), (-1, 0, 5, 5), (5, 5, 4, 6)):
        with pytest.raises(unettile.InputError, match="no part of the array"):
            image.read(box)


def test_a_mask_of_ours_gives_its_numbers_and_another_palette_its_colours(
    model: unettile.Model, pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    output = tmp_path / "mask.ome.tif"
    model.segment(pixels, output, write=["classes", "instances"])
    expected = model.segment(pixels, write=["classes", "instances"])
    for series, kind in enumerate(["instances", "classes"]):
        with unettile.open(output, series=series) as image:
            assert np.array_equal(image[50:90, 100:300], expected[kind][50:90, 100:300])
    assert unettile.open(output, series=1, level=1).shape == (106, 304)
    assert unettile.open(output, series=1, labels=False).shape == (*pixels.shape, 3)
    palette = np.zeros((3, 256), np.uint16)
    palette[0] = np.arange(256) * 257
    tifffile.imwrite(tmp_path / "other.tif", pixels, photometric="palette", colormap=palette)
    assert np.array_equal(unettile.open(tmp_path / "other.tif")[..., 0], pixels)
    assert np.array_equal(unettile.open(tmp_path / "other.tif", labels=True), pixels)


def test_what_is_said_of_an_array_is_kept() -> None:
    planes = np.moveaxis(make_pixels(50, 60, 3), -1, 0)
    image = unettile.open(planes, axes="cyx", pixel_size=(0.25, 0.5), channel=[2, 0])
    assert image.shape == (50, 60, 2) and image.pixel_size_um == (0.25, 0.5)
    assert np.array_equal(image.read(), np.moveaxis(planes[[2, 0]], 0, -1))
    halved = unettile.open(planes, axes="cyx", pixel_size=0.25, mpp=0.5)
    assert halved.shape == (25, 30, 3) and halved.pixel_size_um == (0.5, 0.5)


def test_steps_of_a_stack_are_told(tmp_path: Path) -> None:
    planes = make_pixels(50, 60, 3)
    tifffile.imwrite(tmp_path / "a.tif", planes, imagej=True, metadata={"axes": "ZYX", "unit": "um", "spacing": 0.3})
    with unettile.open(tmp_path / "a.tif", z=1) as image:
        assert (image.z_step_um, image.time_step_s) == (0.3, None)
    said = unettile.open(planes, axes="tyx", time=0, pixel_size=0.5, z_step=2, time_step=1.5)
    assert (said.z_step_um, said.time_step_s, unettile.open(planes).z_step_um) == (2.0, 1.5, None)
    for wrong in (0, -1.0, float("nan"), float("inf")):
        with pytest.raises(unettile.UsageError, match=r"z_step is .*: need a number above 0"):
            unettile.open(planes, axes="zyx", z=0, z_step=wrong)
    with pytest.raises(unettile.UsageError, match="describe an array"):
        unettile.open(tmp_path / "a.tif", z=0, time_step=1.0)


def test_what_a_file_says_itself_is_not_said_again(image_file: Path) -> None:
    with pytest.raises(unettile.UsageError, match="describe an array"):
        unettile.open(image_file, axes="yx")
    with pytest.raises(unettile.InputError, match="no such file"):
        unettile.open(image_file.with_name("none.tif"))
    with pytest.raises(unettile.InputError, match="--level 3 does not exist"):
        unettile.open(image_file, level=3)
    with pytest.raises(unettile.UsageError, match="--mpp"):
        unettile.open(image_file, mpp=-1.0)


def test_a_file_is_closed_when_nobody_keeps_its_image(image_file: Path) -> None:
    image: Any = unettile.open(image_file)
    slide = image._slide
    assert "607" in repr(image)
    del image
    gc.collect()
    with pytest.raises((AssertionError, ValueError, unettile.InputError)):
        slide.read(unettile.face.image.Box(0, 0, 200, 600))
