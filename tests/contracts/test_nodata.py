"""No data: what a file declares to hold none changes no scaling, draws no edge and becomes background."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from unettile.box import Box
from unettile.errors import InputError
from unettile.images.nodata import stored_number
from unettile.images.normalize import Normalization
from unettile.images.slide import Slide, open_slide
from unettile.images.view import View

GDAL_NODATA = 42113
INNER = Box(30, 20, 110, 130)
SHAPE = (128, 150)


def scene(dtype: str = "float32", channels: int = 1) -> NDArray[Any]:
    """Return what the frame surrounds, (h, w, channels)."""
    random = np.random.default_rng(channels)
    return random.normal(120, 30, (*INNER.shape, channels)).clip(1, 250).astype(dtype)


def framed(pixels: NDArray[Any], value: float) -> NDArray[Any]:
    whole = np.full((*SHAPE, pixels.shape[2]), value, pixels.dtype)
    whole[INNER.slices] = pixels
    return whole


def write_tiff(path: Path, pixels: NDArray[Any], text: str | None) -> Path:
    tags = [] if text is None else [(GDAL_NODATA, "s", 0, text, True)]
    form = {"photometric": "minisblack", "planarconfig": "contig" if pixels.shape[2] > 1 else None}
    tifffile.imwrite(path, pixels.squeeze(), metadata=None, tile=(32, 64), extratags=tags, **form)
    return path


def whole(slide: Slide) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    box = Box.of_shape(slide.shape)
    return slide.read(box), slide.known(box)


@pytest.mark.parametrize(
    ("dtype", "value", "text"),
    [
        ("float32", -9999, "-9999"),
        ("float32", 3.4e38, "3.3999999521443642e+38"),
        ("float32", math.nan, "nan"),
        ("int16", -32768, "-32768"),
        ("uint8", 0, "0 "),
        ("uint16", 65535, "65535"),
    ],
)
@pytest.mark.parametrize("channels", [1, 2])
def test_a_declared_number_is_no_intensity(dtype: str, value: float, text: str, channels: int, tmp_path: Path) -> None:
    pixels = scene(dtype, channels)
    path = write_tiff(tmp_path / "image.tif", framed(pixels, value), text)
    for normalization in (Normalization(), Normalization(per_channel=True)):
        with open_slide(path, filled=True) as slide:
            assert normalization.measure(slide) == normalization.measure_array(pixels)
            filled, known = whole(slide)
    inside = np.zeros(SHAPE, np.bool_)
    inside[INNER.slices] = True
    assert known is not None and np.array_equal(known, inside)
    assert np.array_equal(filled[INNER.slices], pixels)
    outside = filled[~inside]
    assert (outside == outside[0]).all()
    assert np.abs(outside[0].astype(float) - np.median(pixels, axis=(0, 1))).max() <= 1
    with open_slide(path, filled=True) as slide:
        for box in (Box(0, 0, 5, 5), Box(25, 10, 40, 60), Box(100, 100, 128, 150)):
            part = slide.known(box)
            assert part is not None and np.array_equal(part, inside[box.slices])
            assert np.array_equal(slide.read(box), filled[box.slices])


def test_other_readers_see_the_numbers_that_are_stored(tmp_path: Path) -> None:
    stored = framed(scene(), -9999)
    with open_slide(write_tiff(tmp_path / "image.tif", stored, "-9999")) as slide:
        pixels, known = whole(slide)
        assert known is None and np.array_equal(pixels, stored)


@pytest.mark.parametrize("text", [None, "none", "300", "0.5", "-1"])
def test_what_no_pixel_can_hold_declares_nothing(text: str | None, tmp_path: Path) -> None:
    stored = framed(scene("uint8"), 0)
    with open_slide(write_tiff(tmp_path / "image.tif", stored, text), filled=True) as slide:
        pixels, known = whole(slide)
        assert known is None and np.array_equal(pixels, stored)
    assert stored_number(text, np.dtype("uint8")) is None


def test_a_black_pixel_is_not_one_without_data_while_another_channel_has_some(tmp_path: Path) -> None:
    pixels = scene("uint8", 3)
    pixels[5, 5] = (0, 0, 9)
    with open_slide(write_tiff(tmp_path / "image.tif", framed(pixels, 0), "0"), filled=True) as slide:
        known = slide.known(INNER)
        assert known is not None and known.all()


def test_nothing_but_no_data_is_refused(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "image.tif", np.full((*SHAPE, 1), -9999, np.float32), "-9999")
    with pytest.raises(InputError, match=r"image\.tif: none of its pixels holds data, as it declares"):
        open_slide(path, filled=True)


def opaque_inside() -> NDArray[np.uint8]:
    alpha = np.zeros((*SHAPE, 1), np.uint8)
    alpha[INNER.slices] = 255
    return alpha


@pytest.mark.parametrize("form", ["RGBA.png", "LA.png", "palette.png", "RGBA.tif"])
def test_where_opacity_is_0_colours_mean_nothing(form: str, tmp_path: Path) -> None:
    colours = 1 if form == "LA.png" else 3
    pixels = scene("uint8", colours)
    if form == "palette.png":
        pixels = np.repeat(pixels[..., :1], 3, axis=2)
    stored = np.concatenate([framed(pixels, 255), opaque_inside()], axis=2)
    path = tmp_path / form
    if form == "palette.png":
        image = Image.fromarray(framed(pixels, 0)[..., 0])
        image.putpalette(np.repeat(np.arange(256, dtype=np.uint8), 3).tobytes())
        image.save(path, transparency=0)
    elif form == "RGBA.tif":
        tifffile.imwrite(path, stored, photometric="rgb", extrasamples=["unassalpha"], metadata=None)
    else:
        Image.fromarray(stored).save(path)
    view = View(channels=tuple(range(colours)))
    with open_slide(path, view, filled=True) as slide:
        assert Normalization().measure(slide) == Normalization().measure_array(pixels)
        filled, known = whole(slide)
        assert known is not None and np.array_equal(known, opaque_inside()[..., 0] > 0)
        assert np.array_equal(filled[INNER.slices], pixels)
    with open_slide(path, filled=True) as slide:  # with its opacity chosen, it is a channel as others are
        assert slide.known(INNER) is None


def test_a_stain_that_is_called_opacity_is_none(tmp_path: Path) -> None:
    """tifffile calls the fourth of any four channels opacity."""
    stains = np.random.default_rng(0).poisson(1.0, (*SHAPE, 4)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "image.tif", stains, photometric="rgb", extrasamples=["unassalpha"], metadata=None)
    with open_slide(tmp_path / "image.tif", View(channels=(0,)), filled=True) as slide:
        pixels, known = whole(slide)
        assert known is None and np.array_equal(pixels, stains[..., :1])
    planes = np.where(np.moveaxis(stains, 2, 0) > 1, 255, 0).astype(np.uint8)
    named = {"photometric": "rgb", "planarconfig": "separate", "metadata": {"axes": "CYX"}}
    tifffile.imwrite(tmp_path / "image.tif", planes, **named)
    with open_slide(tmp_path / "image.tif", View(channels=(0,)), filled=True) as slide:
        assert slide.known(INNER) is None


def test_resampled_pixels_hold_data_where_their_middle_does(tmp_path: Path) -> None:
    pixels = framed(scene(), -9999)
    resolution = {"resolution": (2e4, 2e4), "resolutionunit": "CENTIMETER"}
    tags = [(GDAL_NODATA, "s", 0, "-9999", True)]
    tifffile.imwrite(tmp_path / "image.tif", pixels[..., 0], metadata=None, extratags=tags, **resolution)
    for mpp, step in ((1.0, 2), (0.25, 0.5)):
        with open_slide(tmp_path / "image.tif", View(mpp=mpp), filled=True) as slide:
            values, known = whole(slide)
            assert known is not None and values.min() >= 0
            y, x = (((np.arange(length) + 0.5) * step).astype(int) for length in slide.shape)
            assert np.array_equal(known, (pixels[..., 0] != -9999)[np.ix_(y, x)])
            box = Box(3, 11, 20, 30)
            assert np.array_equal(slide.known(box), known[box.slices])  # type: ignore[arg-type]
