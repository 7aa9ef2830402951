"""A model's rules on arrays make the objects that they make of files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.objects.test_job import field, silent
from unettile.box import Box
from unettile.images.arrays import ArrayImage, ArraySlide
from unettile.objects.byrules import find_in_array, foreground_of, label_array
from unettile.objects.foreground import ClassMap
from unettile.objects.job import Products, Sources, find_objects
from unettile.objects.rules import Foreground, ObjectRules

NAMES = ("background", "nucleus")


@pytest.mark.parametrize(
    "rules",
    [
        ObjectRules(),
        ObjectRules(min_size=20, fill_holes=30, close_gaps=2),
        ObjectRules(split=True, min_size=10),
        ObjectRules(split=True, own_depth=False, neck=0.95),
        ObjectRules(threshold=0.3, split=True, rise=5),
        ObjectRules(threshold=0.6, rim=0.5, rim_width=2),
        ObjectRules(split=True, own_depth=False, rim=0.45),
    ],
)
def test_arrays_and_files_give_the_same_objects(tmp_path: Path, rules: ObjectRules) -> None:
    levels = np.clip(field((150, 170)) * 255, 0, 255).astype(np.uint8)
    depth = np.clip(field((150, 170), seed=1) * 255, 0, 255).astype(np.uint8)
    chances = np.stack([255 - levels, levels], axis=2)
    mask = chances if rules.threshold else (levels > 140).astype(np.uint8)[:, :, None]
    ids = label_array(mask, depth[:, :, None], rules, NAMES, chances)
    planes = {"photometric": "minisblack", "planarconfig": "contig"}
    layout = {} if mask.shape[2] == 1 else planes
    tifffile.imwrite(tmp_path / "chances.tif", chances, **planes)
    tifffile.imwrite(tmp_path / "mask.tif", mask.squeeze(), **layout)
    tifffile.imwrite(tmp_path / "depth.tif", depth)
    sources = Sources(
        tmp_path / "mask.tif",
        depth=tmp_path / "depth.tif" if rules.split and rules.own_depth else None,
        probabilities=tmp_path / "chances.tif" if rules.rim and not rules.threshold else None,
    )
    found = find_objects(
        sources,
        rules.foreground(NAMES),
        rules.labelling(()),
        Products(tmp_path / "ids.tif"),
        overwrite=False,
        stage=silent,
        block_edge=48,
    )
    assert found.count == ids.max() > 10
    np.testing.assert_array_equal(ids, tifffile.imread(tmp_path / "ids.tif"))
    if rules.rim:
        assert (ids > 0).sum() > 1.05 * (label_array(mask, depth[:, :, None], replace(rules, rim=0), NAMES) > 0).sum()


def test_kinds_share_their_foreground() -> None:
    """Where the background is likeliest, but the kinds together are likelier, there is an object, of the likelier."""
    shares = np.full((8, 12, 3), (1.0, 0.0, 0.0))
    shares[2:6, 2:6] = (0.4, 0.35, 0.25)
    shares[2:6, 8:11] = (0.52, 0.26, 0.22)
    mask = np.rint(255 * shares).astype(np.uint8)
    names = ("background", "a", "b")
    ids, classes = find_in_array(mask, None, ObjectRules(threshold=0.5), names)
    assert np.array_equal(ids > 0, shares[:, :, 0] == 0.4) and classes.tolist() == [1]
    assert np.array_equal(foreground_of(mask, ObjectRules(threshold=0.5), names), ids > 0)
    likeliest = mask.argmax(axis=2).astype(np.uint8)[:, :, None]
    assert not label_array(likeliest, None, ObjectRules(), names).any()
    shares[4:6, 2:6] = (0.3, 0.1, 0.6)
    shares[5, 2:6] = (0.0, 0.0, 1.0)
    two = np.rint(255 * shares).astype(np.uint8)
    ids, classes = find_in_array(two, None, ObjectRules(threshold=0.5), names)
    assert ids.max() == 1 and classes.tolist() == [1], "of equals the first"
    apart, classes = find_in_array(two, None, ObjectRules(threshold=0.5, merge_classes=False), names)
    assert apart.max() == 2 and classes.tolist() == [1, 2]


@pytest.mark.parametrize("chosen", [None, (2,), (1, 3), (3, 4)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_a_pixel_belongs_to_the_first_likeliest_of_the_chosen_classes(
    kind: type, chosen: tuple[int, ...] | None
) -> None:
    """Where these add up to the threshold, at least; ties are many."""
    levels = np.random.default_rng(0).integers(0, 7, (40, 50, 5))
    scale = 1.0 if kind is np.float32 else float(np.iinfo(kind).max)
    pixels = (levels / 16 if kind is np.float32 else levels * (scale // 16)).astype(kind)
    threshold = 9 / 16 if kind is np.float32 else 9 * (scale // 16) / scale
    found = ClassMap(ArraySlide(ArrayImage(pixels)), Foreground(threshold, chosen)).read(Box.of_shape((40, 50)))
    numbers = chosen or (1, 2, 3, 4)
    for y, x in np.ndindex(40, 50):
        some = [levels[y, x, number] for number in numbers]
        inside = sum(some) >= 9
        assert found[y, x] == (numbers[some.index(max(some))] if inside else 0)
    assert (found > 0).any() != (len(numbers) == 1)
