"""Outlines: valid polygons whose area is the object's number of pixels, whatever the blocks."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from shapely.geometry import Polygon

from tests.objects.shapes import SHAPES, InMemory, blobs, masks, reference
from unettile.objects.outline import CornerFinder
from unettile.objects.polygons import Outline, Polygons
from unettile.objects.scan import Scan
from unettile.tiling import BlockGrid

SCRATCH = Path(tempfile.gettempdir())


def outlines(labels: NDArray[np.integer], edge: int, directory: Path) -> list[Outline]:
    objects = InMemory(labels)
    finder = CornerFinder(directory, objects.count, objects.shape)
    with Scan(objects, (), (finder,), lambda done, total: None) as scan:
        scan.show_all(BlockGrid(objects.shape, edge))
    return list(Polygons(finder.finish()))


def polygon(outline: Outline) -> Polygon:
    return Polygon(outline.rings[0], outline.rings[1:])


def check(labels: NDArray[np.integer], edge: int, directory: Path) -> None:
    found = outlines(labels, edge, directory)
    assert [outline.number for outline in found] == list(range(1, labels.max(initial=0) + 1))
    y, x = np.indices(labels.shape)
    for outline in found:
        shape = polygon(outline)
        assert shapely.is_valid(shape), shapely.is_valid_reason(shape)
        assert shape.area == np.count_nonzero(labels == outline.number)
        assert shape.exterior.is_ccw and not any(hole.is_ccw for hole in shape.interiors)
        inside = shapely.contains_xy(shape, x + 0.5, y + 0.5)
        np.testing.assert_array_equal(inside, labels == outline.number)


@settings(max_examples=60)
@given(mask=st.one_of(masks, blobs), edge=st.integers(3, 40))
def test_polygons_cover_their_pixels(mask: NDArray[np.uint32], edge: int) -> None:
    check(reference(mask), edge, SCRATCH)


def test_polygons_of_hard_shapes_cover_their_pixels(tmp_path: Path) -> None:
    for mask in SHAPES.values():
        check(reference(mask), 7, tmp_path)
        check(reference(mask == 0), 5, tmp_path)


@settings(max_examples=20)
@given(mask=masks, edge=st.integers(2, 20))
def test_blocks_change_no_outline(mask: NDArray[np.uint32], edge: int) -> None:
    labels = reference(mask)
    for ours, whole in zip(outlines(labels, edge, SCRATCH), outlines(labels, 99, SCRATCH), strict=True):
        for ring, other in zip(ours.rings, whole.rings, strict=True):
            np.testing.assert_array_equal(ring, other)
