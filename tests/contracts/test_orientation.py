"""Orientation: what a camera or a scanner notes beside the pixels is applied, in every format and for every region."""

from __future__ import annotations

import doctest
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageOps

from tests.narrow import make_checkpoint
from unettile.box import Box
from unettile.errors import InputError
from unettile.images import orientation as module
from unettile.images.fingerprint import Fingerprint
from unettile.images.slide import open_labels, open_slide
from unettile.images.view import View
from unettile.inference.predict import Predictor
from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.run.watch import Watch
from unettile.segmentation.segment import segment_image
from unettile.training.pairs import Pair
from unettile.training.reader import OpenPair
from unettile.training.recipe import LabelPart

EVERY = range(1, 9)
TAG = 274


def scene() -> NDArray[np.uint8]:
    """Return smooth RGB pixels of 48 × 72 px that no turn leaves as they are."""
    y, x = np.mgrid[:48, :72]
    return np.stack([4 * y, 3 * x, y + x], axis=2).astype(np.uint8)


def write(path: Path, orientation: int) -> NDArray[np.uint8]:
    """Write an image with a note of its orientation; return what Pillow, as every viewer, shows."""
    if path.suffix == ".tif":
        options = {"tile": (16, 32), "compression": "zlib", "resolution": (2e4, 4e4), "resolutionunit": "CENTIMETER"}
        tifffile.imwrite(
            path, scene(), photometric="rgb", metadata=None, extratags=[(TAG, "H", 1, orientation, True)], **options
        )
    else:
        exif = Image.Exif()
        exif[TAG] = orientation
        Image.fromarray(scene()).save(path, exif=exif, quality=95)
    with Image.open(path) as image:
        return np.asarray(ImageOps.exif_transpose(image))


@pytest.mark.parametrize("orientation", EVERY)
@pytest.mark.parametrize("ending", ["jpg", "png", "tif"])
def test_pixels_lie_where_a_viewer_shows_them(ending: str, orientation: int, tmp_path: Path) -> None:
    path = tmp_path / f"image.{ending}"
    shown = write(path, orientation)
    with open_slide(path) as slide:
        whole = slide.read(Box.of_shape(slide.shape))
        assert np.abs(whole.astype(int) - shown).max() <= (3 if ending == "jpg" else 0)
        for box in (Box(0, 0, 5, 7), Box(11, 3, 40, 44), Box(whole.shape[0] - 1, 2, whole.shape[0], 30)):
            np.testing.assert_array_equal(slide.read(box), whole[box.slices])
        assert slide.orientation == orientation
        assert Fingerprint.of(slide).orientation == orientation
    with open_labels(path, lossy=True) as labels:
        np.testing.assert_array_equal(labels.read(Box.of_shape(labels.shape)), whole)


def test_heights_and_widths_of_pixels_turn_with_them(tmp_path: Path) -> None:
    for orientation in EVERY:
        write(tmp_path / "image.tif", orientation)
        with open_slide(tmp_path / "image.tif") as slide, open_slide(tmp_path / "image.tif", View(mpp=0.5)) as square:
            lying = orientation >= 5
            assert slide.pixel_size_um == pytest.approx((0.5, 0.25) if lying else (0.25, 0.5))
            assert square.shape == ((36, 48) if lying else (24, 72)) or square.shape == (
                (72, 24) if lying else (24, 72)
            )
            assert square.orientation == orientation


def test_a_note_that_makes_no_sense_is_none(tmp_path: Path) -> None:
    for note in (0, 9, 40000):
        write(tmp_path / "image.tif", 1)
        tifffile.imwrite(tmp_path / "image.tif", scene(), metadata=None, extratags=[(TAG, "H", 1, note, True)])
        with open_slide(tmp_path / "image.tif") as slide:
            assert slide.shape == (48, 72) and slide.orientation == 1
    for damaged in (b"", b"II", b"II*\0\xff\xff\0\0", b"MM\0*\0\0\0\x08\xff\xff"):
        assert module.exif_orientation(damaged) == 1


def test_upright_labels_fit_a_turned_image_or_the_turn_is_named(tmp_path: Path) -> None:
    image, labels = tmp_path / "image.jpg", tmp_path / "labels.png"
    shown = write(image, 6)
    for pixels, fits in ((shown, True), (scene(), False)):
        Image.fromarray(pixels[..., 0]).save(labels)
        if fits:
            with OpenPair(Pair(image, labels), LabelPart()) as opened:
                assert opened.shape == shown.shape[:2]
        else:
            with pytest.raises(InputError, match=r"turned by 90° to the right, as its orientation 6 asks for"):
                OpenPair(Pair(image, labels), LabelPart())


def test_examples() -> None:
    done = doctest.testmod(module)
    assert done.attempted >= 2 and done.failed == 0


def test_segment_says_that_an_image_was_turned(tmp_path: Path) -> None:
    predictor = Predictor(make_checkpoint(channels=3, widths=(2, 3)), "cpu", "fp32")
    for orientation, said in (
        (1, []),
        (6, [f"{tmp_path}/image.png is turned by 90° to the right, as its orientation 6"]),
    ):
        write(tmp_path / "image.png", orientation)
        lines: list[str] = []
        watch = Watch(on_advice=lines.append)
        segment_image(tmp_path / "image.png", tmp_path / f"{orientation}.tif", predictor, SegmentOptions(), watch)
        assert [line.removesuffix(" asks for") for line in lines] == said
