"""What is trained on: the plane, the level and the channels that are chosen; stacks plane by plane; no opacity."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from unettile.box import Box
from unettile.errors import InputError, UsageError
from unettile.images.view import FIRST, View
from unettile.training.pairs import Pair, find_pairs, note_labels
from unettile.training.parts import LabelPart
from unettile.training.reader import OpenPair
from unettile.training.views import choose_views, note_views

SHAPE = (40, 52)


def noise(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(sum(shape)).integers(0, 255, shape).astype(np.uint8)


def pairs_of(place: Path) -> tuple[Pair, ...]:
    return find_pairs(place / "images", place / "labels")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    return tmp_path


def seen(pair: Pair) -> tuple[NDArray[np.uint8], NDArray[np.integer]]:
    with OpenPair(pair, LabelPart()) as opened:
        box = Box.of_shape(opened.shape)
        return opened.image.read(box), opened.ids(box)


@pytest.mark.parametrize("axes", ["ZYX", "TYX", "TZYX"])
def test_a_stack_and_its_labels_are_pairs_of_planes(place: Path, axes: str) -> None:
    """As the sets of electron microscopy come: one volume, one volume of labels."""
    shape = (2, 3, *SHAPE) if axes == "TZYX" else (6, *SHAPE)
    images, labels = noise(*shape), (noise(*shape) > 128).astype(np.uint16)
    for folder, pixels in (("images", images), ("labels", labels)):
        tifffile.imwrite(place / folder / "volume.tif", pixels, imagej=True, metadata={"axes": axes})
    pairs = choose_views(pairs_of(place), FIRST, 1)
    assert len(pairs) == len({pair.name for pair in pairs}) == 6
    for number, pair in enumerate(pairs):
        pixels, ids = seen(pair)
        np.testing.assert_array_equal(pixels[..., 0], images.reshape(6, *SHAPE)[number])
        np.testing.assert_array_equal(ids, labels.reshape(6, *SHAPE)[number])
    assert note_views(pairs, FIRST) == ["1 stack is trained on plane by plane: 6 images"]
    assert note_labels(pairs, "instances") is not None  # noise has ids in many parts, in every plane


def test_a_plane_is_chosen_of_both(place: Path) -> None:
    images = noise(4, *SHAPE)
    tifffile.imwrite(place / "images" / "a.tif", images, imagej=True, metadata={"axes": "ZYX"})
    for labels in (np.arange(4 * SHAPE[0] * SHAPE[1]).reshape(4, *SHAPE), np.ones(SHAPE)):
        many = labels.ndim == 3
        options = {"imagej": True, "metadata": {"axes": "ZYX"}} if many else {}
        tifffile.imwrite(place / "labels" / "a.tif", labels.astype(np.uint16), **options)
        [pair] = choose_views(pairs_of(place), View(z=2), 1)
        pixels, ids = seen(pair)
        np.testing.assert_array_equal(pixels[..., 0], images[2])
        np.testing.assert_array_equal(ids, labels[2] if many else labels)
        assert pair.name == "a" and note_views([pair], View(z=2)) == []


def test_planes_that_do_not_match_are_refused(place: Path) -> None:
    tifffile.imwrite(place / "images" / "a.tif", noise(4, *SHAPE), imagej=True, metadata={"axes": "ZYX"})
    for count in (3, 1):
        tifffile.imwrite(place / "labels" / "a.tif", noise(count, *SHAPE), imagej=True, metadata={"axes": "ZYX"})
        with pytest.raises(InputError, match=rf"has {count} planes, its image 4: need as many, or choose one with --z"):
            choose_views(pairs_of(place), FIRST, 1)


def test_opacity_is_no_colour(place: Path) -> None:
    """A folder of grey, RGB and RGBA pictures of one kind can be trained on together."""
    grey, opaque = noise(*SHAPE, 1), np.full((*SHAPE, 1), 255, np.uint8)
    colours = noise(*SHAPE, 3)
    stored = {
        "grey": grey[..., 0],
        "grey_opaque": np.concatenate([grey, opaque], axis=2),
        "rgb": colours,
        "rgba": np.concatenate([colours, opaque], axis=2),
    }
    for name, pixels in stored.items():
        Image.fromarray(pixels).save(place / "images" / f"{name}.png")
        Image.fromarray(noise(*SHAPE)).save(place / "labels" / f"{name}.png")
    pairs = choose_views(pairs_of(place), FIRST, 3)
    assert {pair.name: seen(pair)[0].shape[2] for pair in pairs} == {"grey": 1, "grey_opaque": 1, "rgb": 3, "rgba": 3}
    np.testing.assert_array_equal(seen(pairs[-1])[0], colours)
    assert note_views(pairs, FIRST) == ["the opacity of 2 images is left out, grey_opaque the first of them"]
    [with_it] = [pair for pair in choose_views(pairs_of(place), FIRST, 4) if pair.name == "rgba"]
    assert seen(with_it)[0].shape[2] == 4  # a network of four channels gets four
    chosen = choose_views(pairs_of(place), View(channels=(0,)), 1)
    assert all(seen(pair)[0].shape[2] == 1 for pair in chosen) and note_views(chosen, View(channels=(0,))) == []


def test_channels_are_chosen_by_name(place: Path) -> None:
    planes = noise(3, *SHAPE)
    metadata = {"axes": "CYX", "Channel": {"Name": ["405", "488", "561"]}}
    tifffile.imwrite(place / "images" / "a.ome.tif", planes, photometric="minisblack", metadata=metadata)
    tifffile.imwrite(place / "labels" / "a.tif", np.ones(SHAPE, np.uint8))
    [pair] = choose_views(pairs_of(place), View(channels=("488",)), 1)
    np.testing.assert_array_equal(seen(pair)[0][..., 0], planes[1])


def test_two_files_are_a_pair_whatever_they_are_called(place: Path) -> None:
    volume, ids = place / "train-volume.tif", place / "train-labels.tif"
    for path in (volume, ids):
        tifffile.imwrite(path, noise(3, *SHAPE), imagej=True, metadata={"axes": "ZYX"})
    assert find_pairs(volume, ids) == (Pair(volume, ids),)
    assert len(choose_views(find_pairs(volume, ids), FIRST, 1)) == 3
    square = [[[0, 0], [9, 0], [9, 9], [0, 9], [0, 0]]]
    feature = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": square}}
    (place / "train-volume.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    [pair] = choose_views(find_pairs(volume, place / "train-volume.geojson"), View(z=1), 1)
    assert seen(pair)[1].sum() == 81
    for images, labels in ((volume, place / "labels"), (place / "images", ids)):
        with pytest.raises(UsageError, match=r"is one image: give a file for images and labels each, or a folder"):
            find_pairs(images, labels)
