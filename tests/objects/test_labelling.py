"""The law of labelling: blocks of any size give what labelling the whole image gives, number by number."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from tests.objects.shapes import SHAPES, InMemory, blobs, masks, reference, spiral
from unettile.images.plain import PlainSlide
from unettile.objects.certainty import Chance
from unettile.objects.labelling import BLOCK_EDGE, Cutter, label_objects
from unettile.objects.rules import Labelling, Splitting
from unettile.objects.spill import Spill
from unettile.tiling import BlockGrid


def label(
    classes: NDArray[np.uint32],
    edge: int,
    labelling: Labelling,
    depth: NDArray[np.uint8] | None = None,
    chance: Chance | None = None,
) -> NDArray[np.uint32]:
    """Label in blocks of `edge` px, and read the result by the same blocks."""
    grid = BlockGrid((classes.shape[0], classes.shape[1]), edge)
    source = None if depth is None else PlainSlide(Path("depth"), depth[:, :, None])
    with Spill(grid, Path(tempfile.gettempdir())) as spill:
        cutter = Cutter(InMemory(classes), labelling.splitting, source)
        objects = label_objects(cutter, labelling, grid, spill, lambda done, total: None, chance)
        result = np.empty(grid.shape, np.uint32)
        for block in grid:
            result[block.box.slices] = objects.read(block.box)
        return result


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("edge", [2, 5, 16, 64])
def test_blocks_give_what_the_whole_gives(name: str, edge: int) -> None:
    mask = SHAPES[name]
    np.testing.assert_array_equal(label(mask, edge, Labelling()), reference(mask))


def test_blocks_of_one_pixel_give_what_the_whole_gives() -> None:
    mask = spiral(11)
    np.testing.assert_array_equal(label(mask, 1, Labelling()), reference(mask))
    np.testing.assert_array_equal(label(mask, 1, Labelling(Splitting())), label(mask, 11, Labelling(Splitting())))


@settings(max_examples=40)
@given(mask=masks, edge=st.integers(2, 30))
def test_random_masks_are_labelled_as_by_scipy(mask: NDArray[np.uint32], edge: int) -> None:
    np.testing.assert_array_equal(label(mask, edge, Labelling()), reference(mask))


@settings(max_examples=40)
@given(
    mask=blobs,
    edge=st.integers(4, 40),
    splitting=st.builds(
        Splitting, st.floats(0.5, 1.0), st.floats(0.0, 3.0), st.integers(0, 2), st.integers(1, 20), st.integers(0, 30)
    ),
    min_size=st.integers(0, 20),
    gaps=st.integers(0, 4),
    growth=st.integers(0, 4),
)
def test_splitting_knows_no_blocks(
    mask: NDArray[np.uint32], edge: int, splitting: Splitting, min_size: int, gaps: int, growth: int
) -> None:
    labelling = Labelling(splitting, min_size, gaps, growth)
    np.testing.assert_array_equal(label(mask, edge, labelling), label(mask, 70, labelling))


@settings(max_examples=40)
@given(mask=blobs, edge=st.integers(4, 40), levels=st.integers(1, 255), seed=st.integers(0, 9))
def test_splitting_by_a_map_knows_no_blocks(mask: NDArray[np.uint32], edge: int, levels: int, seed: int) -> None:
    depth = np.random.default_rng(seed).integers(0, levels + 1, mask.shape).astype(np.uint8)
    labelling = Labelling(Splitting(rise=2))
    np.testing.assert_array_equal(label(mask, edge, labelling, depth), label(mask, 70, labelling, depth))


@pytest.mark.slow
def test_a_large_mask_is_labelled_as_by_scipy() -> None:
    noise = ndimage.gaussian_filter(np.random.default_rng(0).random((9000, 7000), np.float32), 2)
    mask = (noise > 0.5).astype(np.uint32)
    expected = ndimage.label(mask)[0]  # numbered by first pixels, too
    np.testing.assert_array_equal(label(mask, BLOCK_EDGE, Labelling()), expected)
    np.testing.assert_array_equal(label(mask, 1000, Labelling(Splitting())), label(mask, 3001, Labelling(Splitting())))


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), edge=st.integers(3, 12), growth=st.integers(2, 8))
def test_growth_knows_no_blocks(seed: int, edge: int, growth: int) -> None:
    dots = (np.random.default_rng(seed).random((30, 33)) < 0.03).astype(np.uint32)
    grown = label(dots, edge, Labelling(growth=growth))
    np.testing.assert_array_equal(grown, label(dots, 33, Labelling(growth=growth)))
    near = ndimage.distance_transform_edt(dots == 0) <= growth if dots.any() else np.zeros(dots.shape, bool)
    np.testing.assert_array_equal(grown > 0, near)
    assert all(ndimage.label(grown == number)[1] == 1 for number in range(1, grown.max() + 1))
