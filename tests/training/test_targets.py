"""Targets: what label images mean, and where the border between two instances lies."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from unettile.errors import InputError
from unettile.labels import carve_gaps
from unettile.training.parts import LabelPart
from unettile.training.targets import read_ids, target_margin, target_of
from unettile.weightmap import weight_map


def scattered(seed: int, edge: int = 60) -> np.ndarray:
    """Ids of overlapping discs: some touch, some are near, some alone."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:edge, :edge]
    labels = np.zeros((edge, edge), np.int32)
    for number in range(1, 13):
        cy, cx, r = *rng.uniform(0, edge, 2), rng.uniform(3, 8)
        labels[(y - cy) ** 2 + (x - cx) ** 2 < r * r] = number
    return labels


@pytest.mark.parametrize("width", [1, 2, 4])
def test_the_border_is_the_background_that_is_narrow_between_two_instances(width: int) -> None:
    for seed in range(4):
        labels = scattered(seed)
        target = target_of(labels, LabelPart(border=width), "x")
        carved = carve_gaps(labels, width)
        ids = [number for number in np.unique(carved) if number]
        distances = np.sort([ndimage.distance_transform_edt(carved != number) for number in ids], axis=0)
        between = (carved == 0) & (distances[0] + distances[1] <= width + width % 2 + 1 + 1e-6)
        assert between.any()
        np.testing.assert_array_equal(target.classes, np.where(between, 2, (carved > 0).astype(int)))


@pytest.mark.parametrize("sigma", [1.5, 5.0, 20.0])
def test_weights_beside_borders_are_the_weight_map_and_move_no_border(sigma: float) -> None:
    for seed in range(3):
        labels = scattered(seed)
        plain, sized = (target_of(labels, LabelPart(border=3), "x", given) for given in (0.0, sigma))
        np.testing.assert_array_equal(sized.classes, plain.classes)
        expected = weight_map(carve_gaps(labels, 3), 10.0, sigma)
        np.testing.assert_allclose(sized.weights(10.0, sigma), expected, rtol=2e-5)
        assert expected.max() > 1.2


def test_the_target_of_a_part_is_the_part_of_the_target() -> None:
    labels, part = scattered(5, 90), LabelPart(border=3)
    margin = target_margin(part)
    whole = target_of(labels, part, "x").classes[40:60, 40:60]
    near = target_of(labels[40 - margin : 60 + margin, 40 - margin : 60 + margin], part, "x").classes
    np.testing.assert_array_equal(near[margin:-margin, margin:-margin], whole)


def test_touching_instances_are_parted_by_a_gap_and_pixels_to_ignore_are_not_counted() -> None:
    labels = np.array([[1, 1, 1, 2, 2, 2, 255]])
    target = target_of(labels, LabelPart(gap=2, ignore=255), "x")
    assert target.classes.tolist() == [[1, 1, 0, 0, 1, 1, 0]]
    assert target.counted is not None and target.counted.tolist() == [[True] * 6 + [False]]


def test_a_class_that_is_not_named_is_refused() -> None:
    with pytest.raises(InputError, match=r"a\.png has class 2, the recipe names 2"):
        target_of(np.array([[0, 2]]), LabelPart(kind="classes"), "a.png")


def test_pictures_whose_colours_are_the_classes() -> None:
    part = LabelPart(kind="classes", names=("a", "b", "c"), colors=((0, 0, 0), (255, 0, 0), (0, 0, 255)))
    picture = np.array([[[0, 0, 255], [0, 0, 0], [255, 0, 0]]], np.uint8)
    assert read_ids(picture, part, "a.png").tolist() == [[2, 0, 1]]
    picture[0, 1] = (1, 2, 3)
    with pytest.raises(InputError, match=r"a\.png has the colour \(1, 2, 3\), which is no class"):
        read_ids(picture, part, "a.png")
    with pytest.raises(InputError, match="has 3 channels: labels need one"):
        read_ids(picture, LabelPart(), "a.png")
