"""Measurements agree with scikit-image's, and do not depend on the blocks."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.measure import regionprops

from tests.objects.shapes import SHAPES, InMemory, blobs, masks, reference
from unettile.images.plain import PlainSlide
from unettile.objects.measure import Measurements, measure
from unettile.tiling import BlockGrid


def measured(labels: NDArray[np.integer], edge: int, image: NDArray[np.generic] | None = None) -> Measurements:
    objects = InMemory(labels)
    picture = None if image is None else PlainSlide(Path("image"), image)
    directory = Path(tempfile.gettempdir())
    grid = BlockGrid(objects.shape, edge)
    sums = measure(objects, objects.origin, picture, grid, directory, lambda done, total: None)
    return sums.measurements(0, objects.count)


def check(labels: NDArray[np.integer], edge: int) -> None:
    image = np.random.default_rng(0).integers(0, 65536, (*labels.shape, 2)).astype(np.uint16)
    found = measured(labels, edge, image)
    props = regionprops(labels, image)
    assert found.area.tolist() == [int(prop.area) for prop in props]
    assert found.box.tolist() == [list(prop.bbox) for prop in props]
    for name, ours, theirs in (
        ("centroid", np.stack([found.centroid_y, found.centroid_x], 1), [prop.centroid for prop in props]),
        ("perimeter", found.perimeter, [prop.perimeter_crofton for prop in props]),
        ("eccentricity", found.eccentricity, [prop.eccentricity for prop in props]),
        ("intensity", found.intensity, [prop.intensity_mean for prop in props]),
    ):
        theirs = np.array(theirs, float).reshape(ours.shape)
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-6, err_msg=name)


@settings(max_examples=30, deadline=None)
@given(mask=st.one_of(masks, blobs), edge=st.integers(3, 40))
def test_figures_are_those_of_scikit_image(mask: NDArray[np.uint32], edge: int) -> None:
    check(reference(mask), edge)


def test_figures_of_hard_shapes_are_those_of_scikit_image() -> None:
    for mask in SHAPES.values():
        check(reference(mask), 6)


@settings(max_examples=20, deadline=None)
@given(mask=blobs, edge=st.integers(3, 40))
def test_blocks_change_no_bit(mask: NDArray[np.uint32], edge: int) -> None:
    labels = reference(mask)
    image = np.random.default_rng(1).integers(0, 256, (*labels.shape, 1)).astype(np.uint8)
    ours, whole = measured(labels, edge, image), measured(labels, 99, image)
    for name in ("area", "centroid_y", "centroid_x", "box", "perimeter", "eccentricity", "intensity"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(whole, name), err_msg=name)
