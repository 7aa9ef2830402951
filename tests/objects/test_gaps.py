"""Gaps: what lies between two objects, and nothing else, goes to them; checked against distances to each object."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from tests.objects.shapes import blobs, reference
from tests.objects.test_labelling import label
from unettile.labels import carve_gaps
from unettile.objects.gaps import close_gaps
from unettile.objects.rules import Labelling


def in_gaps(labels: NDArray[np.integer], width: int) -> NDArray[np.bool_]:
    """Return where d1 + d2 of a background pixel is less than width + 2, from one distance transform an object."""
    far = np.full((2, *labels.shape), np.inf)
    distances = [ndimage.distance_transform_edt(labels != number) for number in range(1, labels.max() + 1)]
    nearest = np.sort(np.concatenate([far, distances]) if distances else far, axis=0)
    between: NDArray[np.bool_] = (labels == 0) & (nearest[0] + nearest[1] < width + 2 - 1e-9)
    return between


@settings(max_examples=40)
@given(mask=blobs, width=st.integers(1, 6))
def test_gaps_are_those_of_the_distances(mask: NDArray[np.uint32], width: int) -> None:
    labels = reference(mask).astype(np.uint32)
    closed, between = close_gaps(labels, width), in_gaps(labels, width)
    np.testing.assert_array_equal(closed[~between], labels[~between])
    for number in range(1, labels.max() + 1):
        assert ndimage.label(closed == number)[1] == 1, "an object stays connected"
    beside = ndimage.binary_dilation(labels > 0) & between
    assert (closed[beside] > 0).all(), "what lies in a gap beside an object is somebody's"


@settings(max_examples=25)
@given(mask=blobs, width=st.integers(1, 6), edge=st.integers(3, 40))
def test_gaps_know_no_blocks(mask: NDArray[np.uint32], width: int, edge: int) -> None:
    labelling = Labelling(gaps=width)
    np.testing.assert_array_equal(label(mask, edge, labelling), label(mask, 70, labelling))


def test_a_carved_gap_is_given_back_and_an_open_edge_is_not() -> None:
    truth = np.zeros((12, 20), np.uint32)
    truth[2:10, 2:9], truth[2:10, 9:16] = 1, 2
    carved = carve_gaps(truth, 2)
    assert (carved[2:10, 8:10] == 0).all()
    closed = close_gaps(carved, 2)
    np.testing.assert_array_equal(closed[truth > 0], truth[truth > 0])
    outside = np.argwhere((closed > 0) & (truth == 0))
    assert outside.tolist() == [[1, 8], [1, 9], [10, 8], [10, 9]], "no more than a pixel past the ends of the gap"
