"""Depths: in the middle of every object 1, at its edge near 0, whatever its size and its neighbours."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from unettile.training.targets import normalized_depth


def test_of_each_object_it_is_the_distance_transform_over_its_maximum() -> None:
    labels = np.zeros((60, 80), np.int32)
    y, x = np.mgrid[:60, :80]
    for label, (cy, cx, radius) in {7: (20, 20, 12), 3: (20, 43, 11), 9000: (48, 60, 6)}.items():
        labels[(y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = label
    depth = normalized_depth(labels)
    assert depth.dtype == np.float32 and (depth[labels == 0] == 0).all()
    for label in (7, 3, 9000):
        own = labels == label
        distance = ndimage.distance_transform_edt(own)
        assert np.abs(depth[own] - (distance / distance.max())[own]).max() < 0.02  # sixteenths of a px
        assert depth[own].max() == 1


def test_the_arrays_end_is_no_edge_and_background_may_be_missing() -> None:
    labels = np.ones((9, 40), np.uint16)
    labels[:, 20:] = 2
    depth = normalized_depth(labels)
    assert depth[4, 0] == depth[4, 39] == 1 and depth[4, 19] == depth[4, 20] < 0.1
    assert (normalized_depth(np.zeros((3, 4), np.uint16)) == 0).all()
