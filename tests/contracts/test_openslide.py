"""Slides through OpenSlide: the same pixels as through our reader; without the extra, a line that names it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from unettile.box import Box
from unettile.errors import InputError
from unettile.images import recognition, viaopenslide
from unettile.images.fingerprint import Fingerprint
from unettile.images.slide import Slide, open_slide
from unettile.images.spacing import UNKNOWN
from unettile.images.tiff import TiffSlide
from unettile.images.viaopenslide import OpenSlideSlide, load_openslide
from unettile.images.view import View

needs_openslide = pytest.mark.skipif(load_openslide() is None, reason="OpenSlide is not installed")


def whole(slide: Slide) -> NDArray[Any]:
    return slide.read(Box.of_shape(slide.shape))


def hamamatsu(folder: Path) -> Path:
    """Write a slide of the form VMS: text that names a JPEG with restart markers, and smaller ones."""
    folder.mkdir()
    y, x = np.mgrid[:512, :768]
    pixels = np.stack([y % 256, x % 256, (x + y) % 256], axis=-1).astype(np.uint8)
    for name, step, markers in (("image", 1, 16), ("map", 4, 4), ("macro", 8, 0)):
        picture = Image.fromarray(pixels[::step, ::step])
        picture.save(folder / f"{name}.jpg", restart_marker_blocks=markers, quality=95, subsampling=0)
    path = folder / "slide.vms"
    path.write_text(
        "[Virtual Microscope Specimen]\nNoLayers=1\nNoJpegColumns=1\nNoJpegRows=1\nImageFile=image.jpg\n"
        "MapFile=map.jpg\nMacroImage=macro.jpg\nPhysicalWidth=192000\nPhysicalHeight=128000\nSourceLens=20\n"
    )
    return path


@needs_openslide
def test_a_slide_that_is_no_tiff(tmp_path: Path) -> None:
    path = hamamatsu(tmp_path / "slide")
    with open_slide(path) as slide:
        assert (slide.reader, slide.shape, slide.channels, slide.dtype) == ("openslide", (512, 768), 3, np.uint8)
        assert slide.pixel_size_um == (0.25, 0.25) and slide.spacing == UNKNOWN
        assert np.array_equal(whole(slide), np.asarray(Image.open(tmp_path / "slide" / "image.jpg")))
        before = Fingerprint.of(slide)
    for view, shape in ((View(level=1), (256, 384)), (View(mpp=1.0), (128, 192)), (View(mpp=0.4), (320, 480))):
        with open_slide(path, view) as slide, open_slide(path, slide.view) as again:
            assert slide.shape == shape
            pixels = whole(slide)
            assert np.array_equal(slide.read(Box(31, 17, 100, 99)), pixels[31:100, 17:99])
            assert np.array_equal(whole(again), pixels)
    with open_slide(path, View(channels=(2, 0))) as slide, open_slide(path) as all_channels:
        assert np.array_equal(whole(slide), whole(all_channels)[:, :, [2, 0]])
    for view, message in ((View(level=6), "it has 6 levels"), (View(z=1), "--z 1"), (View(channels=(3,)), "channel 3")):
        with pytest.raises(InputError, match=message):
            open_slide(path, view)
    image = tmp_path / "slide" / "image.jpg"
    image.write_bytes(image.read_bytes()[:-9] + b"\0\0\0\0\0\0\0\xff\xd9")
    with open_slide(path) as slide:
        assert Fingerprint.of(slide) != before  # of all the files, not of the text that names them


@needs_openslide
def test_an_aperio_slide_has_the_same_pixels_through_either_reader(shared_data: Path) -> None:
    path = shared_data / "wsi" / "CMU-1-Small-Region.svs"
    with TiffSlide(path) as ours, OpenSlideSlide(path) as theirs:
        assert (ours.shape, ours.pixel_size_um, ours.view) == (theirs.shape, theirs.pixel_size_um, theirs.view)
        assert np.array_equal(whole(ours), whole(theirs))


@needs_openslide
def test_levels_of_a_pyramid_through_either_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viaopenslide, "PIECE_EDGE", 64)
    path = tmp_path / "pyramid.tif"
    pixels = np.random.default_rng(0).integers(0, 256, (512, 384, 3)).astype(np.uint8)
    options: dict[str, Any] = {"photometric": "rgb", "tile": (64, 64), "compression": "zlib", "metadata": None}
    with tifffile.TiffWriter(path) as file:
        file.write(pixels, resolution=(20_000, 40_000), resolutionunit="CENTIMETER", **options)
        file.write(pixels[1::2, ::2], subfiletype=1, **options)
        file.write(pixels[3::8, ::8], subfiletype=1, **options)
    for level, step in enumerate((1, 2, 8)):
        view = View(level=level)
        with TiffSlide(path, view) as ours, OpenSlideSlide(path, view) as theirs:
            assert ours.downsample == theirs.downsample == (step, step)
            assert ours.pixel_size_um == theirs.pixel_size_um == pytest.approx((0.25 * step, 0.5 * step))
            assert np.array_equal(whole(ours), whole(theirs))
            assert np.array_equal(theirs.read(Box(5, 7, 61, 41)), whole(theirs)[5:61, 7:41])


@pytest.mark.parametrize("name", ["slide.mrxs", "slide.bif", "slide.dcm"])
def test_without_the_extra_a_line_names_it(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (viaopenslide, recognition):
        monkeypatch.setattr(module, "load_openslide", lambda: None)
    path = tmp_path / name
    write_what_openslide_is_for(path)
    with pytest.raises(InputError, match=r"pip install 'unettile\[openslide\]'") as caught:
        open_slide(path)
    assert str(caught.value).startswith(f"cannot read {path}: ") and "\n" not in str(caught.value)


@needs_openslide
@pytest.mark.parametrize("name", ["slide.mrxs", "slide.bif", "slide.dcm"])
def test_what_openslide_cannot_read_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    write_what_openslide_is_for(path)
    with pytest.raises(InputError) as caught:
        open_slide(path)
    assert str(caught.value).startswith(f"cannot read {path}: ") and "\n" not in str(caught.value)


def write_what_openslide_is_for(path: Path) -> None:
    """Write the outside of a slide: a preview that is a JPEG, a TIFF whose tiles overlap, or a DICOM header."""
    if path.suffix == ".mrxs":
        path.write_bytes(imagecodecs.jpeg_encode(np.zeros((30, 40, 3), np.uint8)))
    elif path.suffix == ".bif":
        notes = b"<iScan ScanRes='0.25'></iScan>"
        tag = (700, 1, len(notes), notes, True)
        tifffile.imwrite(
            path,
            np.zeros((64, 64, 3), np.uint8),
            photometric="rgb",
            extratags=[tag],
            metadata=None,
            software="ScanOutputManager 1.1",
            description="level=0 mag=40 quality=95",
        )
    else:
        path.write_bytes(bytes(128) + b"DICM" + bytes(200))
