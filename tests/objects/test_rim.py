"""Rims: what is probable beside an object is its, up to a width; checked against dilations, whatever the blocks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from tests.objects.shapes import blobs, reference
from tests.objects.test_labelling import label
from unettile.box import Box
from unettile.errors import UsageError
from unettile.images.plain import PlainSlide
from unettile.objects.certainty import Chance
from unettile.objects.rim import Rim
from unettile.objects.rules import Labelling, ObjectRules, Splitting


def chance_of(mask: NDArray[np.uint32], seed: int) -> Chance:
    """Return probabilities that are random, a little less beside objects than in them."""
    random = np.random.default_rng(seed).integers(0, 200, mask.shape)
    return Chance(PlainSlide(Path("p"), np.where(mask > 0, 255, random).astype(np.uint8)[:, :, None]), None)


@settings(max_examples=40)
@given(mask=blobs, seed=st.integers(0, 99), width=st.integers(1, 6), percent=st.integers(10, 75))
def test_a_rim_is_what_is_probable_beside_an_object(
    mask: NDArray[np.uint32], seed: int, width: int, percent: int
) -> None:
    ids, chance = reference(mask).astype(np.uint32), chance_of(mask, seed)
    box = Box.of_shape((mask.shape[0], mask.shape[1]))
    probable = 100 * chance.read(box)[:, :, 0].astype(int) >= 255 * percent
    found = Rim(chance, Labelling(rim=percent / 100, rim_width=width)).take(ids, box)
    np.testing.assert_array_equal(found[ids > 0], ids[ids > 0])
    reached = ndimage.binary_dilation(ids > 0, iterations=width, mask=probable | (ids > 0)) if ids.any() else ids > 0
    np.testing.assert_array_equal(found > 0, reached)
    for number in range(1, ids.max() + 1):
        assert ndimage.label(found == number)[1] == 1, "an object stays connected"


@settings(max_examples=30)
@given(
    mask=blobs,
    seed=st.integers(0, 99),
    edge=st.integers(3, 40),
    width=st.integers(1, 6),
    gaps=st.integers(0, 3),
    growth=st.integers(0, 3),
    split=st.booleans(),
)
def test_rims_know_no_blocks(
    mask: NDArray[np.uint32], seed: int, edge: int, width: int, gaps: int, growth: int, split: bool
) -> None:
    labelling = Labelling(Splitting() if split else None, 0, gaps, growth, rim=0.4, rim_width=width)
    chance = chance_of(mask, seed)
    np.testing.assert_array_equal(
        label(mask, edge, labelling, chance=chance), label(mask, 70, labelling, chance=chance)
    )


def test_two_objects_that_a_lower_threshold_joins_stay_two() -> None:
    levels = np.zeros((9, 21), np.uint8)
    levels[2:7, 2:19] = 100
    levels[3:6, 3:9] = levels[3:6, 12:18] = 200
    mask = (levels > 127).astype(np.uint32)
    chance = Chance(PlainSlide(Path("p"), levels[:, :, None]), None)
    found = label(mask, 5, Labelling(rim=100 / 255, rim_width=3), chance=chance)
    np.testing.assert_array_equal(found > 0, levels > 0)
    assert found[4, 2] == found[2, 2] == found[6, 10] == 1 and found[4, 18] == found[2, 11] == 2
    assert (label(mask, 5, Labelling(rim=101 / 255), chance=chance)[levels == 100] == 0).all()


def test_what_cannot_be_is_refused() -> None:
    for wrong in ({"rim": -0.1}, {"rim": 1.5}, {"rim_width": 0}, {"rim_width": 17}):
        with pytest.raises(UsageError, match="need"):
            Labelling(**wrong)
        with pytest.raises(UsageError, match="need"):
            ObjectRules.from_dict(wrong)
