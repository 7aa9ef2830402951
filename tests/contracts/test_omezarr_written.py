"""OME-Zarr by readers that are not ours: the models of its specification, and tensorstore."""

from __future__ import annotations

import errno
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorstore
import zarr
from numpy.typing import NDArray
from ome_zarr_models.v04.image import ImageAttrs
from ome_zarr_models.v04.image_label import ImageLabelAttrs
from ome_zarr_models.v05 import Image, ImageLabel

from unettile.box import Box
from unettile.errors import InputError
from unettile.images.canvas import Canvas, Layer
from unettile.images.colours import distinct_colours
from unettile.images.formats import write_image
from unettile.images.pyramid import Pyramid, majority, mean
from unettile.images.record import read_record
from unettile.images.slide import open_labels, open_slide

NAMES = ("background", 'gland < & "µ"', "stroma")
COLOURS = distinct_colours(3)
CLASSES = Layer("classes", 1, "majority", NAMES, COLOURS)
PROBABILITIES = Layer("probabilities", 3, "mean", NAMES, COLOURS)
SHAPE = (700, 1100)
METADATA = {"unettile": "1", "image": {"shape": [3, 4]}}
PIXELS = np.random.default_rng(3).integers(0, 3, (4, *SHAPE), np.uint8)


def write(path: Path, *layers: Layer, version: str = "0.5") -> Path:
    planes = np.concatenate([PIXELS[:3] if layer is PROBABILITIES else PIXELS[3:] for layer in layers])
    pixels = planes[0] if len(planes) == 1 else planes
    canvas = Canvas(SHAPE, layers, pixel_size_um=(0.5, 0.25), offset_um=(100.0, -20.0), metadata=METADATA)
    write_image(path, replace(canvas, zarr=version), lambda box: pixels[(..., *box.slices)])
    return path


def read(path: Path, driver: str = "zarr3") -> NDArray[Any]:
    """Read an array with a second implementation of Zarr."""
    store = tensorstore.open({"driver": driver, "kvstore": {"driver": "file", "path": f"{path}/"}})
    return np.asarray(store.result().read().result())


def files(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_classes(tmp_path: Path) -> None:
    path = write(tmp_path / "mask.ome.zarr", CLASSES)
    group = zarr.open_group(path, mode="r")
    image = Image.from_zarr(group).attributes.ome.multiscales[0]
    assert [(axis.name, axis.unit) for axis in image.axes] == [("y", "micrometer"), ("x", "micrometer")]
    steps = [[step.model_dump(exclude_none=True) for step in one.coordinateTransformations] for one in image.datasets]
    assert steps[2] == [
        {"type": "scale", "scale": [2.0, 1.0]},
        {"type": "translation", "translation": [100.75, -19.625]},
    ]
    label = ImageLabel.from_zarr(group).attributes.ome.image_label
    assert [(one.label_value, one.rgba) for one in label.colors][:2] == [(0, (0, 0, 0, 0)), (1, (*COLOURS[1], 255))]
    assert [one.model_dump()["name"] for one in label.properties] == list(NAMES)
    assert json.loads((path / "zarr.json").read_text())["attributes"]["unettile"] == METADATA
    expected = PIXELS[3]
    for level in range(3):
        assert np.array_equal(read(path / str(level)), expected)
        expected = majority(expected)
    with open_labels(path) as slide:
        assert slide.pixel_size_um == (0.5, 0.25) and slide.origin_um == (100.0, -20.0)
        assert np.array_equal(slide.read(Box.of_shape(SHAPE))[:, :, 0], PIXELS[3])


def test_probabilities_are_the_image_and_classes_its_labels(tmp_path: Path) -> None:
    path = write(tmp_path / "both.zarr", PROBABILITIES, CLASSES)
    image = Image.from_zarr(zarr.open_group(path, mode="r")).attributes.ome
    assert [axis.name for axis in image.multiscales[0].axes] == ["c", "y", "x"]
    channels = dict(zarr.open_group(path, mode="r").attrs["ome"])["omero"]["channels"]
    assert [channel["label"] for channel in channels] == list(NAMES)
    assert channels[0]["color"] == "FFFFFF" and channels[1]["window"]["max"] == 255
    label = ImageLabel.from_zarr(zarr.open_group(path / "labels" / "classes", mode="r")).attributes.ome
    assert label.image_label.source.image == "../../"
    assert zarr.open_group(path / "labels", mode="r").attrs["ome"] == {"version": "0.5", "labels": ["classes"]}
    expected, numbers = PIXELS[:3], PIXELS[3]
    for level in range(3):
        assert np.array_equal(read(path / str(level)), expected)
        assert np.array_equal(read(path / "labels" / "classes" / str(level)), numbers)
        expected, numbers = mean(expected), majority(numbers)
    with open_slide(path) as slide:
        assert slide.channel_names == NAMES
    alone = write(tmp_path / "alone.zarr", CLASSES)
    for level in "012":
        one, other = files(alone / level), files(path / "labels" / "classes" / level)
        assert {name: data for name, data in one.items() if name != "zarr.json"} == {
            name: data for name, data in other.items() if name != "zarr.json"
        }


def test_the_version_before(tmp_path: Path) -> None:
    """0.4 by its models and tensorstore: an image of probabilities, with its label image."""
    path = write(tmp_path / "mask.ome.zarr", PROBABILITIES, CLASSES, version="0.4")
    group = zarr.open_group(path, mode="r")
    assert group.metadata.zarr_format == 2
    image = ImageAttrs.model_validate(group.attrs.asdict())
    assert [axis.name for axis in image.multiscales[0].axes] == ["c", "y", "x"]
    assert image.multiscales[0].version == "0.4" and image.omero is not None
    label = ImageLabelAttrs.model_validate(group["labels/classes"].attrs.asdict()).image_label
    assert [(one.label_value, one.rgba) for one in label.colors][:2] == [(0, (0, 0, 0, 0)), (1, (*COLOURS[1], 255))]
    assert group["labels"].attrs["labels"] == ["classes"]
    probabilities, classes = PIXELS[:3], PIXELS[3]
    for level in range(len(Pyramid(Canvas(SHAPE, (CLASSES,))).shapes)):
        assert np.array_equal(read(path / str(level), "zarr"), probabilities)
        assert np.array_equal(read(path / "labels" / "classes" / str(level), "zarr"), classes)
        probabilities, classes = np.stack([mean(plane) for plane in probabilities]), majority(classes)
    record = read_record(path / "labels" / "classes")
    with open_labels(path / "labels" / "classes") as slide:
        assert np.array_equal(slide.read(Box(0, 0, *SHAPE))[..., 0], PIXELS[3])
        assert slide.pixel_size_um == (0.5, 0.25)
    assert record.colour(1) == COLOURS[1]


def test_files_stay_few(tmp_path: Path) -> None:
    """A file holds many chunks: below 3,000 for 100,000² px."""
    pyramid = Pyramid(Canvas((100_000, 100_000), (CLASSES,)))
    count = 0
    for level, (height, width) in enumerate(pyramid.shapes):
        edge = pyramid.part_edge(level)
        count += -(-height // edge) * -(-width // edge)
    assert count < 3_000
    path = write(tmp_path / "mask.zarr", CLASSES)
    assert sorted(files(path)) == [
        "0/c/0/0",
        "0/zarr.json",
        "1/c/0/0",
        "1/zarr.json",
        "2/c/0/0",
        "2/zarr.json",
        "zarr.json",
    ]


def test_a_background_is_written_too(tmp_path: Path) -> None:
    write_image(tmp_path / "zeros.zarr", Canvas((600, 600), (CLASSES,)), lambda box: np.zeros(box.shape, np.uint8))
    chunk = tmp_path / "zeros.zarr" / "0" / "c" / "0" / "0"
    assert chunk.exists()
    index = np.frombuffer(chunk.read_bytes()[-4 - 4 * 16 : -4], "<u8")
    assert (index < 2**63).all(), "a chunk of zeros was left out"


def test_a_damaged_chunk_is_found(tmp_path: Path) -> None:
    path = write(tmp_path / "mask.zarr", CLASSES)
    chunk = path / "0" / "c" / "0" / "0"
    data = bytearray(chunk.read_bytes())
    data[len(data) // 3] ^= 1
    chunk.write_bytes(data)
    with open_labels(path) as slide, pytest.raises(InputError):
        slide.read(Box.of_shape(SHAPE))


def test_a_directory_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = write(tmp_path / "mask.zarr", PROBABILITIES)
    before = files(path)

    def fail(box: Box) -> NDArray[np.uint8]:
        raise OSError(errno.ENOSPC, "no space")

    with pytest.raises(InputError, match=r"cannot write .*mask\.zarr: the disk is full; nothing was left"):
        write_image(path, Canvas(SHAPE, (CLASSES,)), fail)
    assert files(path) == before
    write(path, CLASSES)
    assert "labels" not in files(path) and read(path / "0").shape == SHAPE
    assert list(tmp_path.iterdir()) == [path]


def test_a_destination_that_vanishes(tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()

    def vanish(box: Box) -> NDArray[np.uint8]:
        place.rename(tmp_path / "moved")
        return np.zeros(box.shape, np.uint8)

    with pytest.raises(InputError, match=r"cannot write .*its directory does not exist"):
        write_image(place / "mask.zarr", Canvas((5, 5), (CLASSES,)), vanish)
    assert not (place / "mask.zarr").exists()
