"""Sizes of objects: measured by area, brought to one size, and told as the network saw them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.training.runs import RECIPE
from unettile.box import Box
from unettile.objects.diameters import diameter_percentiles, object_areas, zoom_to
from unettile.training.draw import objects_seen
from unettile.training.pairs import find_pairs
from unettile.training.parts import AugmentPart
from unettile.training.reader import OpenPair
from unettile.training.recipe import Recipe
from unettile.training.samples import Samples
from unettile.training.survey import settle_diameter, survey


def sized(recipe: Recipe, diameter: float) -> Recipe:
    return replace(recipe, labels=replace(recipe.labels, diameter=diameter))


def test_half_of_all_pixels_lie_in_objects_up_to_the_median() -> None:
    areas = [4] * 100 + [100, 100, 900]  # specks are many and hardly count
    low, median, high = diameter_percentiles(areas, [1, 50, 99])
    assert (low, median, high) == pytest.approx([2 * np.sqrt(a / np.pi) for a in (4, 900, 900)])
    weighted = diameter_percentiles([100, 900], [50], weights=[10, 1])
    assert weighted == pytest.approx([2 * np.sqrt(100 / np.pi)])


def test_areas_add_up_over_pieces() -> None:
    labels = np.zeros((9, 20), np.uint16)
    labels[2:7, 3:15], labels[8, 19] = 7, 3
    assert object_areas([labels[:, :10], labels[:, 10:]]).tolist() == [1, 60]


def test_zooms_are_bounded_and_empty_images_stay() -> None:
    assert zoom_to(28, np.empty(0, np.int64)) == 1
    assert zoom_to(28, np.array([1])) == 8 and zoom_to(28, np.array([10**8])) == 1 / 32
    assert zoom_to(20, np.array([314])) == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("diameter", [9.0, 45.0])
def test_images_and_labels_are_brought_to_the_size_together(data: Path, diameter: float) -> None:
    pairs = find_pairs(data / "images", data / "labels")
    sources = survey(pairs, sized(RECIPE, diameter))
    for source in sources:
        (median,) = diameter_percentiles(source.areas, [50])
        assert median == pytest.approx(diameter, rel=0.02) and source.pair.zoom != 1
        with OpenPair(source.pair, RECIPE.labels) as opened:
            assert opened.shape == source.shape
            whole = Box.of_shape(opened.shape)
            ids, image = opened.ids(whole), opened.image.read(whole)[..., 0].astype(float)
            part = Box(3, 5, opened.shape[0] - 2, opened.shape[1] - 1)
            assert np.array_equal(opened.ids(part), ids[part.slices])
            (measured,) = diameter_percentiles(object_areas([ids]), [50])
            assert measured == pytest.approx(diameter, rel=0.1)
        # discs are bright: where labels and image did not fit, these means would be near each other
        assert image[ids > 0].mean() > 2 * image[ids == 0].mean()


def test_no_diameter_leaves_the_images_alone(data: Path) -> None:
    pairs = find_pairs(data / "images", data / "labels")
    assert [source.pair for source in survey(pairs, RECIPE)] == list(pairs)


def test_auto_is_the_median_of_the_images_within_what_a_network_sees(data: Path) -> None:
    pairs = find_pairs(data / "images", data / "labels")
    auto = replace(RECIPE, labels=replace(RECIPE.labels, diameter="auto"))
    settled = settle_diameter(pairs, auto)
    assert settled.labels.diameter == pytest.approx(21.2, abs=0.5)
    enlarged = [replace(pair, zoom=2.0) for pair in pairs]
    assert settle_diameter(enlarged, auto).labels.diameter == 32
    assert settle_diameter(pairs, RECIPE) is RECIPE


def test_what_the_network_saw_follows_from_size_zoom_and_odds(data: Path) -> None:
    pairs = find_pairs(data / "images", data / "labels")
    still = replace(RECIPE, augment=AugmentPart(zoom=(1.0, 1.0)))
    size = objects_seen(survey(pairs, sized(still, 30.0)), still)
    assert size is not None and size.median == pytest.approx(30, rel=0.02)
    moved = replace(RECIPE, augment=AugmentPart(zoom=(0.5, 2.0)))
    wide = objects_seen(survey(pairs, sized(moved, 30.0)), moved)
    assert wide is not None and wide.low < 18 and wide.high > 50 and wide.median == pytest.approx(30, rel=0.1)
    plain = replace(moved, augment=replace(moved.augment, plain=1.0))
    assert objects_seen(survey(pairs, sized(plain, 30.0)), plain) == size


def test_samples_show_objects_of_the_size(data: Path) -> None:
    recipe = replace(
        sized(RECIPE, 40.0),
        augment=AugmentPart(zoom=(1.0, 1.0), elastic_std=0.0),
        labels=replace(RECIPE.labels, diameter=40.0, gap=0),
        run=replace(RECIPE.run, output_edge=160, epochs=1),
    )
    samples = Samples(survey(find_pairs(data / "images", data / "labels"), recipe), recipe, 0, None)
    sample = samples[1]
    assert isinstance(sample, tuple)
    share = sample[1].mean()  # four discs of 21.2 px in 70 × 90, whatever the zoom: the share of the foreground stays
    assert 0.1 < share < 0.4
