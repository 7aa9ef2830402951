"""Depths are Euclidean distances, of any part of an array, and smoothing is a binomial filter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from tests.objects.shapes import blobs, masks
from unettile.box import Box
from unettile.objects.depth import STEPS, distance_depth, smooth


def expected(classes: NDArray[np.uint32], reach: int) -> NDArray[np.int32]:
    """Measure each class by itself; past the array's edge lies more of it."""
    depth = np.zeros(classes.shape, np.int32)
    for number in np.unique(classes[classes > 0]):
        inside = classes == number
        far = np.full(classes.shape, float(reach))
        if not inside.all():
            far = np.minimum(ndimage.distance_transform_edt(inside), reach)
        squares = np.rint(far**2)
        depth[inside] = np.floor(np.sqrt(squares) * STEPS)[inside].astype(np.int32)
    return depth


@settings(max_examples=60)
@given(
    classes=st.one_of(masks, blobs, blobs.map(lambda one: np.ascontiguousarray(one + (one[:, ::-1] > 0)))),
    reach=st.integers(1, 90),
    data=st.data(),
)
def test_depths_are_distances(classes: NDArray[np.uint32], reach: int, data: st.DataObject) -> None:
    classes = classes.astype(np.uint32)
    whole = distance_depth(classes, reach)
    np.testing.assert_array_equal(whole, expected(classes, reach))
    height, width = classes.shape
    y0, x0 = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    part = Box(y0, x0, data.draw(st.integers(y0 + 1, height)), data.draw(st.integers(x0 + 1, width)))
    np.testing.assert_array_equal(distance_depth(classes, reach, part), whole[part.slices])


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (8, 1), (2, 2), (30, 41)])
def test_smoothing_is_a_binomial_filter(shape: tuple[int, int]) -> None:
    depth = np.random.default_rng(0).integers(0, 2048, shape).astype(np.int32)
    kernel = np.outer([1, 2, 1], [1, 2, 1])
    once = ndimage.correlate(depth, kernel, mode="nearest")
    twice = ndimage.correlate(once, kernel, mode="nearest")
    np.testing.assert_array_equal(smooth(depth.copy(), 1), once)
    np.testing.assert_array_equal(smooth(depth.copy(), 2), twice)
