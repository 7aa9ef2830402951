"""Label maps: which arrays are one, and the gap that is carved between cells that touch."""

from __future__ import annotations

import doctest
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import ndimage

from unettile import labels as module
from unettile.errors import InputError, UsageError
from unettile.labels import carve_gaps, check_labels

SHAPES = st.tuples(st.integers(1, 14), st.integers(1, 14))
IDS = st.sampled_from([0, 0, 0, 1, 2, 3, 7])


@pytest.mark.parametrize(
    ("array", "match"),
    [
        (np.zeros((4, 4, 3), np.uint8), "one channel"),
        (np.zeros(4, np.uint8), "one channel"),
        (np.zeros((0, 4), np.uint8), "empty"),
        (np.array([[0.0, 0.5]]), "whole numbers"),
        (np.array([[0.0, np.nan]]), "whole numbers"),
        (np.array([[0.0, np.inf]]), "whole numbers"),
        (np.array([[0.0, 1e20]]), "whole numbers"),
        (np.array([[0, -3]]), "negative label -3"),
        (np.array([[0, 2**63]], np.uint64), "label 9223372036854775808 is above 2\\^63 - 1"),
        (np.array([[0.0, -3.0]]), "negative label -3"),
        (np.array([[0, 1j]]), "complex"),
        (np.array([["a"]]), "integer"),
    ],
)
def test_what_is_no_label_map_is_refused_in_one_line(array: NDArray[Any], match: str) -> None:
    with pytest.raises(InputError, match=match) as refusal:
        check_labels(array, "a.tif")
    assert str(refusal.value).startswith("a.tif: ")
    assert "\n" not in str(refusal.value)


def test_whole_floats_booleans_and_a_channel_axis_are_label_maps() -> None:
    assert check_labels(np.array([[0.0, 3.0]]), "a").dtype == np.int64
    assert check_labels(np.array([[False, True]]), "a").tolist() == [[0, 1]]
    assert check_labels(np.zeros((4, 5, 1), np.uint16), "a").shape == (4, 5)


@given(arrays(np.int64, SHAPES, elements=IDS), st.integers(0, 7))
@settings(max_examples=200)
def test_carving_removes_exactly_the_pixels_near_another_cell(labels: NDArray[np.int64], gap: int) -> None:
    expected = labels.copy()
    half = math.ceil(gap / 2)
    for cell in np.unique(labels[labels > 0]):
        others = (labels != cell) & (labels != 0)
        if half and others.any():
            expected[(labels == cell) & (ndimage.distance_transform_edt(~others) < half + 1)] = 0
    np.testing.assert_array_equal(carve_gaps(labels, gap), expected)


@given(arrays(np.int64, SHAPES, elements=IDS), st.integers(1, 6))
@settings(max_examples=100)
def test_no_two_cells_touch_after_carving(labels: NDArray[np.int64], gap: int) -> None:
    carved = carve_gaps(labels, gap)
    joined, _ = ndimage.label(carved > 0, structure=np.ones((3, 3)))
    for part in np.unique(joined[joined > 0]):
        assert len(np.unique(carved[joined == part])) == 1


@pytest.mark.parametrize(("gap", "width"), [(0, 0), (1, 2), (2, 2), (3, 4), (4, 4)])
def test_a_straight_border_gets_a_gap_of_that_width_in_its_middle(gap: int, width: int) -> None:
    labels = np.repeat([[1] * 10 + [2] * 10], 6, axis=0)
    carved = carve_gaps(labels, gap)
    half = width // 2
    np.testing.assert_array_equal(carved, np.repeat([[1] * (10 - half) + [0] * width + [2] * (10 - half)], 6, axis=0))
    np.testing.assert_array_equal(carve_gaps(labels.T, gap), carved.T)


def test_carving_leaves_separate_cells_and_types_alone() -> None:
    labels = np.zeros((20, 20), np.uint16)
    labels[2:8, 2:8], labels[12:18, 12:18] = 3, 65535
    carved = carve_gaps(labels, 2)
    np.testing.assert_array_equal(carved, labels)
    assert carved.dtype == labels.dtype


def test_a_gap_below_zero_is_refused() -> None:
    with pytest.raises(UsageError, match="0 or more"):
        carve_gaps(np.zeros((3, 3), int), -1)


def test_carving_leaves_its_input_alone() -> None:
    labels = np.array([[1, 2]])
    carve_gaps(labels, 2)
    assert labels.tolist() == [[1, 2]]


def test_the_examples_run() -> None:
    done = doctest.testmod(module)
    assert done.attempted
    assert done.failed == 0
