"""Files that others made, files that are no images, and what is known of a file without its pixels."""

from __future__ import annotations

import errno
import logging
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from unettile.box import Box
from unettile.errors import InputError
from unettile.images.fingerprint import Fingerprint
from unettile.images.listing import list_images
from unettile.images.slide import Slide, open_labels, open_slide, read_image, read_labels
from unettile.images.tiffimages import find_images
from unettile.images.view import View


def reference(path: Path, view: View) -> NDArray[Any] | None:
    """Return the plane of a slide's own view (h, w, channels) as tifffile reads it whole; None if it cannot."""
    try:
        with tifffile.TiffFile(path) as file:
            image = find_images(file)[view.series or 0].levels[view.level or 0]
            source = image if hasattr(image, "asarray") else image.keyframe
            pixels, axes = source.asarray(), str(source.axes)
            for axis, index in zip("TZ", (view.t, view.z), strict=True):
                depth = next((letter for letter in axes if letter not in "CTYXS"), "Z") if axis == "Z" else axis
                if depth in axes:
                    pixels = pixels.take(index, axis=axes.index(depth))
                    axes = axes.replace(depth, "")
            order = [axes.index(axis) for axis in "YXCS" if axis in axes]
            return pixels.transpose(order).reshape(*pixels.transpose(order).shape[:2], -1)
    except Exception:
        return None


def label_slides_of(path: Path) -> Iterator[Slide]:
    """Yield the only image of a file, or the first and the last plane of each that it holds."""
    todo = [View()]
    while todo:
        view = todo.pop()
        try:
            with open_labels(path, view, lossy=True) as slide:
                yield slide
        except InputError as error:
            choice = re.search(r"holds (\d+) images .*--series N|with --(z|time) N, from 0 to (\d+)", str(error))
            if choice is None:
                raise
            images, axis, last = choice.groups()
            name = {"z": "z", "time": "t"}.get(axis, "series")
            todo += [replace(view, **{name: n}) for n in (range(int(images)) if images else {0, int(last)})]


@pytest.mark.timeout(120)
def test_tiffs_of_other_projects_are_read_exactly_or_refused_in_one_line(shared_data: Path) -> None:
    """Region by region through our reader equals the whole plane through tifffile, for every file that it can read."""
    logging.getLogger("tifffile").disabled = True
    read = refused = 0
    folders = [shared_data / name for name in ("tiff", "stardist_samples", "wsi")]
    for path in sorted(file for folder in folders for file in folder.rglob("*") if file.is_file()):
        if path.suffix.lower() in (".jpg", ".png"):
            continue
        try:
            for labels in label_slides_of(path):
                expected = reference(path, labels.view)
                pixels = labels.read(Box.of_shape(labels.shape))
                assert expected is not None, path
                assert np.array_equal(pixels, expected, equal_nan=expected.dtype.kind == "f"), path
                height, width = labels.shape
                for box in (
                    Box(height // 3, width // 4, height // 3 * 2, width // 4 * 3),
                    Box(height - 1, 0, height, width),
                ):
                    part = labels.read(box)
                    assert np.array_equal(part, pixels[box.slices], equal_nan=expected.dtype.kind == "f"), path
                with open_slide(path, replace(labels.view, channels=None)) as slide:
                    assert slide.read(Box(0, 0, 1, 1)).dtype == slide.dtype
                read += 1
        except InputError as error:
            assert "\n" not in str(error), path
            refused += 1
    logging.getLogger("tifffile").disabled = False
    assert read > 370
    assert 0 < refused < 50


@pytest.mark.parametrize("bits", [2, 10, 12, 14])
def test_packed_integers_with_a_predictor_wrap_at_their_own_width(bits: int, tmp_path: Path) -> None:
    path = tmp_path / "packed.tif"
    kind = np.uint8 if bits <= 8 else np.uint16
    pixels = np.random.default_rng(bits).integers(0, 2**bits, (16, 24)).astype(kind)
    differences = np.diff(pixels.astype(int), axis=1, prepend=0) % 2**bits
    tag = (65000, "H", 1, 2, True)  # a private tag that becomes Predictor = 2: tifffile does not write this combination
    options: dict[str, Any] = {"bitspersample": bits, "extratags": [tag], "metadata": None, "photometric": "minisblack"}
    try:
        tifffile.imwrite(path, differences.astype(kind), **options)
    except NotImplementedError:
        pytest.skip("this imagecodecs reads packed integers, but does not write them")
    data = path.read_bytes()
    private, predictor = struct.pack("<HHI", 65000, 3, 1), struct.pack("<HHI", 317, 3, 1)
    assert data.count(private) == 1
    path.write_bytes(data.replace(private, predictor))
    assert np.array_equal(read_image(path)[:, :, 0], pixels)


def test_an_aperio_slide(shared_data: Path) -> None:
    path = shared_data / "wsi" / "CMU-1-Small-Region.svs"
    with open_slide(path) as slide, tifffile.TiffFile(path) as file:
        assert (slide.shape, slide.channels, slide.dtype) == ((2967, 2220), 3, np.uint8)
        assert slide.pixel_size_um == (0.499, 0.499)
        box = Box(1500, 1000, 1900, 1333)
        assert np.array_equal(slide.read(box), file.pages.first.asarray()[box.slices])


def test_files_that_are_no_images(tmp_path: Path) -> None:
    text = tmp_path / "text.tif"
    text.write_text("This is not an image.")
    empty = tmp_path / "empty.tif"
    empty.touch()
    header = tmp_path / "header.tif"
    header.write_bytes(b"II*\0\x08\0\0\0")
    pipe = tmp_path / "pipe.tif"
    os.mkfifo(pipe)
    for path, message in (
        (tmp_path / "missing.tif", "no such file"),
        (tmp_path, "it is a directory; need an image file"),
        (text, "need a TIFF, OME-Zarr, PNG or JPEG image; its content is none of these"),
        (empty, "it is empty; need an image file"),
        (header, "it holds no image"),
        (pipe, "it is a pipe or a device"),
        (text / "below", "not a directory"),
    ):
        with pytest.raises(InputError) as caught:
            open_slide(path)
        assert str(caught.value).startswith(f"cannot read {path}: ")
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    path = tmp_path / "secret.tif"
    path.write_bytes(b"II*\0")
    path.chmod(0)
    with pytest.raises(InputError, match="permission denied"):
        open_slide(path)


def test_a_file_that_vanishes_or_shrinks_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, np.ones((64, 64), np.uint8), metadata=None)
    with open_slide(path) as slide:
        os.truncate(path, 1000)
        with pytest.raises(InputError, match="it ended at byte 1000, though it was longer when it was opened"):
            slide.read(Box(0, 0, 64, 64))


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_read_error_in_the_middle_names_file_and_place(
    compression: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "image.tif"
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    tifffile.imwrite(path, pixels, metadata=None, tile=(16, 16), compression=compression)
    with open_slide(path) as slide:
        with monkeypatch.context() as patch:
            patch.setattr(os, "pread", failing)
            with pytest.raises(
                InputError, match=r"image.tif: reading failed at byte \d+ \(Input/output error\)"
            ) as caught:
                slide.read(Box(0, 0, 64, 64))
        error: BaseException | None = caught.value
        while error is not None and not isinstance(error, OSError):
            error = error.__cause__
        assert isinstance(error, OSError) and error.errno == errno.EIO  # what tells a hiccup of a network from damage
        assert np.array_equal(slide.read(Box(0, 0, 64, 64))[:, :, 0], pixels)


def failing(*_: object) -> bytes:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_images_of_a_directory(tmp_path: Path) -> None:
    names = ["b.PNG", "a.tif", "c.jpeg", ".hidden.png", "notes.txt", "slide.svs"]
    for name in names:
        (tmp_path / name).touch()
    (tmp_path / "folder.tif").mkdir()
    assert [path.name for path in list_images(tmp_path)] == ["a.tif", "b.PNG", "c.jpeg", "slide.svs"]


def test_directories_without_images(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match=r"holds no images: none of its 1 entries ends with \.tif"):
        list_images(tmp_path)
    with pytest.raises(InputError, match=r"cannot list .*: no such file"):
        list_images(tmp_path / "missing")
    with pytest.raises(InputError, match=r"cannot list .*: not a directory"):
        list_images(tmp_path / "notes.txt")


def test_labels_have_one_channel(tmp_path: Path) -> None:
    path = tmp_path / "labels.png"
    labels = np.arange(30, dtype=np.uint16).reshape(5, 6)
    path.write_bytes(imagecodecs.png_encode(labels))
    assert np.array_equal(read_labels(path), labels)
    path.write_bytes(imagecodecs.png_encode(np.zeros((5, 6, 3), np.uint8)))
    with pytest.raises(InputError, match="have 3 channels; need one"):
        read_labels(path)


def test_a_fingerprint_sees_content_and_nothing_else(tmp_path: Path) -> None:
    first, second = tmp_path / "a.tif", tmp_path / "b.tif"
    pixels = np.random.default_rng(0).integers(0, 255, (400, 300)).astype(np.uint8)
    tifffile.imwrite(first, pixels, metadata=None)
    second.write_bytes(first.read_bytes())
    os.utime(second, (0, 0))
    with open_slide(first) as a, open_slide(second) as b:
        print_a = Fingerprint.of(a)
        assert print_a == Fingerprint.of(b)
        assert (print_a.shape, print_a.dtype, print_a.channels) == ((400, 300), "uint8", 1)
    pixels[399, 299] ^= 1
    tifffile.imwrite(second, pixels, metadata=None)
    with open_slide(second) as b:
        assert Fingerprint.of(b) != print_a


@pytest.mark.parametrize(("start", "count"), [(300, 1), (1_999_999_999, 1), (1_000_000_000, 2**23)])
def test_a_fingerprint_samples_a_large_file_to_its_very_end(start: int, count: int, tmp_path: Path) -> None:
    """Two gigabytes, of which the file system stores next to nothing; in the middle, samples are 7.8 MB apart."""
    path = tmp_path / "large.tif"
    tifffile.imwrite(path, shape=(40_000, 50_000), dtype=np.uint8, metadata=None, photometric="minisblack")
    with open_slide(path) as slide:
        before = Fingerprint.of(slide)
        with path.open("r+b") as file:
            file.seek(start)
            file.write(b"\1" * count)
        after = Fingerprint.of(slide)
    assert after.content_sha256 != before.content_sha256
    assert (after.bytes, after.shape) == (before.bytes, before.shape)


def test_a_description_that_resembles_another_form_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    pixels = np.random.default_rng(0).integers(0, 255, (20, 30, 3)).astype(np.uint8)
    for text in (
        '{"stage": {"shape": [7, 7]}}',
        "<OME",
        "<OME><Image/></OME>",
        "Aperio",
    ):
        tifffile.imwrite(path, pixels, description=text, metadata=None, photometric="rgb", compression="zlib")
        with open_slide(path) as slide:
            assert np.array_equal(slide.read(Box.of_shape(slide.shape)), pixels)


# Pixel sizes.


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"resolution": (40_000, 20_000), "resolutionunit": "CENTIMETER"}, (0.5, 0.25)),
        ({"resolution": (50_800, 50_800), "resolutionunit": "INCH"}, (0.5, 0.5)),
        ({"resolution": (72, 72), "resolutionunit": "INCH"}, None),
        ({"resolution": (300, 300), "resolutionunit": "INCH"}, None),
        ({"resolution": (2, 2), "resolutionunit": "NONE"}, None),
        ({}, None),
        ({"ome": True, "metadata": {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5}}, (0.5, 0.25)),
        (
            {"ome": True, "metadata": {"PhysicalSizeX": 250, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.5}},
            (0.5, 0.25),
        ),
        ({"imagej": True, "resolution": (4, 2), "metadata": {"unit": "um"}}, (0.5, 0.25)),
        ({"imagej": True, "resolution": (4, 2), "metadata": {"unit": "pixel"}}, None),
        ({"description": "Aperio|AppMag = 20|MPP = 0.4990|Left = 25"}, (0.499, 0.499)),
    ],
    ids=str,
)
def test_pixel_sizes_of_tiffs(options: dict[str, Any], expected: tuple[float, float] | None, tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, np.zeros((8, 8), np.uint8), **{"metadata": None, **options})
    with open_slide(path) as slide:
        assert slide.pixel_size_um == (None if expected is None else pytest.approx(expected))
