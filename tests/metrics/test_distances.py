"""Distances of outlines equal scikit-image's, and do not depend on blocks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import binary_erosion
from skimage.metrics import hausdorff_distance

from unettile.box import Box
from unettile.metrics.distances import Outline, hausdorff


def outline(mask: np.ndarray, block: int = 1000) -> Outline:
    result = Outline(mask.shape)
    for y in range(0, mask.shape[0], block):
        for x in range(0, mask.shape[1], block):
            box = Box(y, x, min(y + block, mask.shape[0]), min(x + block, mask.shape[1]))
            result.add(box, mask[result.window(box).slices])
    return result


@pytest.mark.parametrize("block", (1, 7, 1000))
def test_outlines_equal_an_erosion_whatever_the_blocks(block: int) -> None:
    mask = np.random.default_rng(3).random((23, 31)) < 0.8
    expected = np.argwhere(mask & ~binary_erosion(mask))
    found = outline(mask, block).points
    assert np.array_equal(found[np.lexsort(found.T[::-1])], expected)


def test_distance_equals_scikit_image_and_95_percent_forgive() -> None:
    first, second = np.zeros((60, 60), bool), np.zeros((60, 60), bool)
    first[10:30, 10:30], second[12:30, 10:33] = True, True
    second[50, 50] = True  # one stray pixel
    points = [outline(mask).points for mask in (first, second)]
    edges = [mask & ~binary_erosion(mask) for mask in (first, second)]
    assert hausdorff(*points, percentile=100) == pytest.approx(hausdorff_distance(*edges))
    assert hausdorff(*points) == 3 == hausdorff(*points[::-1])


def test_nothing_is_near_nothing_and_infinitely_far_from_something() -> None:
    something, nothing = np.ones((4, 4), bool), np.zeros((4, 4), bool)
    assert hausdorff(outline(nothing).points, outline(nothing).points) == 0
    assert hausdorff(outline(nothing).points, outline(something).points) == float("inf")
