"""Zarr directories: axes in any order, whose meaning is stated or beyond doubt; damage is named, absence is fill."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from unettile.box import Box
from unettile.errors import InputError
from unettile.images.fingerprint import Fingerprint
from unettile.images.listing import is_folder, list_images
from unettile.images.slide import open_labels, open_slide, read_image, read_labels
from unettile.images.view import View
from unettile.labels import check_labels

SHAPE = (83, 59)
METRES = {"type": "space", "unit": "meter"}


def noise(*shape: int) -> NDArray[np.uint16]:
    return np.random.default_rng(len(shape)).integers(0, 60000, shape).astype(np.uint16)


def multiscales(axes: list[Any], *paths: str, **more: Any) -> dict[str, Any]:
    return {"multiscales": [{"axes": axes, "datasets": [{"path": path} for path in paths], **more}]}


def write_image(path: Path, pixels: NDArray[Any], attributes: dict[str, Any], version: int = 2, **options: Any) -> None:
    group = zarr.open_group(path, mode="w", zarr_format=version)
    chunks = tuple(min(n, 20) for n in pixels.shape)
    group.create_array("0", shape=pixels.shape, dtype=pixels.dtype, **{"chunks": chunks, **options})[...] = pixels
    group.attrs.update(attributes)


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("order", ["yx", "xy", "cyx", "yxc", "tczyx", "czyx", "zyx", "xcyzt"])
def test_axes_in_any_order(order: str, version: int, tmp_path: Path) -> None:
    path = tmp_path / "image.zarr"
    lengths = {"t": 2, "c": 3, "z": 4, "y": SHAPE[0], "x": SHAPE[1]}
    pixels = noise(*(lengths[axis] for axis in order))
    ome = multiscales([{"name": axis} for axis in order], "0")
    write_image(path, pixels, ome if version == 2 else {"ome": ome}, version)
    view = View(z=3 if "z" in order else None, t=1 if "t" in order else None)
    plane = pixels[tuple({"z": 3, "t": 1}.get(axis, slice(None)) for axis in order)]
    left = [axis for axis in order if axis in "yxc"]
    expected = plane.transpose([left.index(axis) for axis in "yxc" if axis in left]).reshape(*SHAPE, -1)
    with open_slide(path, view) as slide:
        assert slide.shape == SHAPE and slide.channels == expected.shape[2]
        for box in (Box.of_shape(SHAPE), Box(19, 20, 61, 41), Box(82, 58, 83, 59), Box(5, 5, 5, 5)):
            assert np.array_equal(slide.read(box), expected[box.slices])


@pytest.mark.parametrize(
    "options",
    [
        {"compressors": None},
        {"compressors": zarr.codecs.GzipCodec()},
        {"compressors": zarr.codecs.ZstdCodec()},
        {"compressors": zarr.codecs.BloscCodec(cname="lz4", shuffle="bitshuffle")},
        {"shards": (40, 40)},
        {"chunks": (83, 59)},
        {"chunks": (7, 13)},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["uint8", ">u2", "int32", ">f4", "float64"])
def test_codecs_and_types(dtype: str, options: dict[str, Any], tmp_path: Path) -> None:
    pixels = noise(*SHAPE).astype(dtype)
    write_image(tmp_path / "a.zarr", pixels, {"ome": multiscales(["y", "x"], "0")}, 3, **options)
    with open_slide(tmp_path / "a.zarr") as slide:
        assert slide.dtype.isnative and slide.dtype == np.dtype(dtype).newbyteorder("=")
        assert np.array_equal(slide.read(Box(3, 4, 80, 59))[:, :, 0], pixels[3:80, 4:])


@pytest.mark.parametrize(
    ("shape", "names", "channels"),
    [
        (SHAPE, None, 1),
        ((3, *SHAPE), None, 3),
        ((*SHAPE, 4), None, 4),
        ((9, *SHAPE), ("c", "y", "x"), 9),
        ((*SHAPE, 9), ("y", "x", "c"), 9),
        ((9, *SHAPE), None, None),
        ((3, 70, 4), None, None),
        ((2, 3, *SHAPE), None, None),
        ((9, *SHAPE), ("channel", "row", "column"), None),
    ],
)
def test_an_array_by_itself_is_read_where_there_is_no_doubt(
    shape: tuple[int, ...], names: tuple[str, ...] | None, channels: int | None, tmp_path: Path
) -> None:
    path = tmp_path / "array.zarr"
    zarr.create_array(path, shape=shape, chunks=shape, dtype="u1", dimension_names=names)[...] = 7
    if channels is None:
        with pytest.raises(InputError, match="nothing says what its axes are: give the OME-Zarr group that holds it"):
            open_slide(path)
    else:
        with open_slide(path) as slide:
            assert (slide.shape, slide.channels) == (SHAPE, channels)


def test_pixel_size_and_position_follow_units_and_both_lists_of_transformations(tmp_path: Path) -> None:
    axes = [{"name": "y", "type": "space", "unit": "nanometer"}, {"name": "x", "type": "space", "unit": "micrometer"}]
    ome = multiscales(axes, "0", coordinateTransformations=[{"type": "scale", "scale": [10, 1]}])
    ome["multiscales"][0]["datasets"][0]["coordinateTransformations"] = [
        {"type": "scale", "scale": [25, 0.5]},
        {"type": "translation", "translation": [300, 4]},
    ]
    write_image(tmp_path / "a.zarr", noise(*SHAPE), ome)
    with open_slide(tmp_path / "a.zarr") as slide:
        assert slide.pixel_size_um == pytest.approx((0.25, 0.5))
        assert slide.origin_um == pytest.approx((3.0, 4.0))
    for axis in axes:
        del axis["unit"]
    write_image(tmp_path / "a.zarr", noise(*SHAPE), ome)
    with open_slide(tmp_path / "a.zarr") as slide:
        assert (slide.pixel_size_um, slide.origin_um) == (None, None)  # a length without a unit is none


def test_a_chunk_that_is_absent_is_fill_and_one_that_is_damaged_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    pixels = noise(*SHAPE)
    for version, key in ((2, "1.2"), (3, "c/1/2")):
        for damage in (b"", b"\0", b"not a chunk at all"):
            shutil.rmtree(path, ignore_errors=True)
            ome = multiscales(["y", "x"], "0")
            write_image(path, pixels, ome if version == 2 else {"ome": ome}, version, fill_value=9)
            (path / "0" / key).unlink()
            expected = pixels.copy()
            expected[20:40, 40:] = 9
            assert np.array_equal(read_image(path)[:, :, 0], expected)
            (path / "0" / key).write_bytes(damage)
            with open_slide(path) as slide:
                with pytest.raises(InputError, match=f"read .*a.zarr: chunk 0/{key} cannot be decoded") as caught:
                    slide.read(Box(0, 0, 83, 59))
                assert "\n" not in str(caught.value)


def test_a_directory_that_vanishes_is_not_read_as_fill(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    write_image(path, noise(*SHAPE), multiscales(["y", "x"], "0"))
    with open_slide(path) as slide:
        shutil.rmtree(path)
        with pytest.raises(InputError, match="has vanished"):
            slide.read(Box(0, 0, 83, 59))


def test_groups_that_are_no_image_say_what_to_give(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    for attributes, message in [
        (
            {"plate": {}},
            r"plate or a well; `segment` alone takes a plate whole: give the path of one image, like plate.zarr/A/1/0",
        ),
        ({"labels": ["nuclei", "cells"]}, r"group of label images \(nuclei, cells\): give the path of one"),
        ({}, r"a Zarr group without an image \(multiscales\); it holds 0: give one of them"),
        ({"multiscales": 3}, "multiscales is no list"),
        ({"multiscales": [{"axes": ["y", "x"], "datasets": [{"path": "7"}]}]}, "OME-Zarr metadata are damaged"),
        (multiscales(["y", "x", "c"], "0"), "need y and x, and may have t, c, z"),
        (multiscales(["y", "row"], "0"), "axes y, row: need y and x"),
        (multiscales(["y", "x"], "0", coordinateTransformations=[{"type": "scale", "scale": [1]}]), "for 2 axes"),
        (multiscales(["y", "x"], "0", coordinateTransformations=[{"type": "affine"}]), "of kind affine"),
    ]:
        write_image(path, noise(*SHAPE), attributes)
        with pytest.raises(InputError, match=message) as caught:
            open_slide(path)
        assert str(caught.value).startswith(f"cannot read {path}: ") and "\n" not in str(caught.value)


def test_several_images_in_one_directory(tmp_path: Path) -> None:
    """As bioformats2raw writes them: a group each, by number."""
    path = tmp_path / "many.zarr"
    zarr.open_group(path, mode="w", zarr_format=2).attrs["bioformats2raw.layout"] = 3
    for number in range(11):
        write_image(path / str(number), noise(20 + number, 30), multiscales(["y", "x"], "0", name=f"scan {number}"))
    with pytest.raises(InputError, match=r"11 images \(0: 20 × 30 px 'scan 0', .*choose with --series N"):
        open_slide(path)
    with open_slide(path, View(series=10)) as slide:
        assert slide.shape == (30, 30)


def test_labels_inside_an_image_are_labels(tmp_path: Path) -> None:
    path = tmp_path / "image.zarr"
    write_image(path, noise(*SHAPE), multiscales(["y", "x"], "0"))
    labels = noise(1, *SHAPE)
    write_image(path / "labels" / "nuclei", labels, multiscales(["z", "y", "x"], "0") | {"image-label": {}})
    assert np.array_equal(read_labels(path / "labels" / "nuclei"), labels[0])
    write_image(path / "labels" / "mask", labels > 30000, multiscales(["z", "y", "x"], "0"))
    with open_labels(path / "labels" / "mask") as slide:
        assert check_labels(slide.read(Box.of_shape(SHAPE)), "mask").max() == 1
    assert read_image(path / "labels" / "mask").max() == 255


def test_a_folder_lists_zarr_directories_and_they_are_no_folders(tmp_path: Path) -> None:
    write_image(tmp_path / "b.ome.zarr", noise(*SHAPE), multiscales(["y", "x"], "0"))
    (tmp_path / "a.tif").touch()
    (tmp_path / "empty.zarr").mkdir()
    assert [path.name for path in list_images(tmp_path)] == ["a.tif", "b.ome.zarr"]
    assert is_folder(tmp_path) and not is_folder(tmp_path / "b.ome.zarr") and not is_folder(tmp_path / "a.tif")


def test_a_fingerprint_sees_chunks_and_metadata_and_no_place(tmp_path: Path) -> None:
    first, second = tmp_path / "a.zarr", tmp_path / "b.zarr"
    write_image(first, noise(*SHAPE), multiscales(["y", "x"], "0"), fill_value=0)
    shutil.copytree(first, second)
    with open_slide(first) as a, open_slide(second) as b:
        before = Fingerprint.of(a)
        assert before == Fingerprint.of(b)
        (second / "0" / "4.2").unlink()
        assert Fingerprint.of(b) != before
        shutil.copy(first / "0" / "4.2", second / "0" / "4.2")
        assert Fingerprint.of(b) == before
        (second / "0" / "0.0").write_bytes((second / "0" / "0.0").read_bytes()[::-1])
        assert Fingerprint.of(b) != before


def test_a_fingerprint_of_many_chunks_looks_at_few(tmp_path: Path) -> None:
    """A hundred thousand chunks, none of them there."""
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    group.create_array("0", shape=(100_000, 64_000), chunks=(256, 256), dtype="u1")
    group.attrs["ome"] = multiscales(["y", "x"], "0")
    with open_slide(tmp_path / "a.zarr") as slide:
        files = slide.files
        assert len(files) <= 270
        assert {"c/0/0", f"c/{100_000 // 256}/{64_000 // 256 - 1}"} <= {"/".join(path.parts[-3:]) for path in files}
        Fingerprint.of(slide)
