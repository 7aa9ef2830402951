"""The laws of pyramids: each level is half the one below, whatever the pieces, in memory that does not grow."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from unettile.box import Box
from unettile.images.canvas import PIECE_BYTES, TILE_EDGE, Canvas, Layer
from unettile.images.formats import write_image
from unettile.images.pyramid import Pyramid, majority, mean
from unettile.images.slide import read_labels

CLASSES = Layer("classes", 1, "majority")
PROBABILITIES = Layer("probabilities", 2, "mean")
SHAPES = ((1, 1), (1, 1100), (512, 512), (513, 512), (1300, 2050))
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape[0]}x{shape[1]}")


def noise(channels: int, shape: tuple[int, int]) -> NDArray[np.uint8]:
    return np.random.default_rng(7).integers(0, 5, (channels, *shape), np.uint8)


def small() -> Any:
    return hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=7), elements=st.integers(0, 3))


@given(small())
def test_a_majority_is_the_commonest_number_and_of_equals_the_first(pixels: NDArray[np.uint8]) -> None:
    height, width = pixels.shape
    doubled = np.pad(pixels, ((0, height % 2), (0, width % 2)), mode="edge")
    for (y, x), found in np.ndenumerate(majority(pixels)):
        four = doubled[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].ravel().tolist()
        assert found == Counter(four).most_common(1)[0][0]  # of equal counts the one met first


@given(small())
def test_a_mean_is_rounded_half_up(pixels: NDArray[np.uint8]) -> None:
    pixels = pixels * np.uint8(85)
    height, width = pixels.shape
    doubled = np.pad(pixels, ((0, height % 2), (0, width % 2)), mode="edge").astype(float)
    expected = doubled.reshape(-(-height // 2), 2, -(-width // 2), 2).mean(axis=(1, 3))
    assert np.array_equal(mean(pixels), np.floor(expected + 0.5))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32"])
def test_a_mean_does_not_overflow(dtype: str) -> None:
    largest = np.full((2, 4), np.iinfo(dtype).max, dtype)
    assert np.array_equal(mean(largest), largest[:1, :2])


@each_shape
@pytest.mark.parametrize("piece_bytes", [1, PIECE_BYTES])
def test_each_level_is_half_the_one_below(
    shape: tuple[int, int], piece_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unettile.images.pyramid.PIECE_BYTES", piece_bytes)
    pixels = noise(3, shape)
    canvas = Canvas(shape, (PROBABILITIES, CLASSES))
    pyramid = Pyramid(canvas)
    levels = [np.full((3, *level), 99, np.uint8) for level in pyramid.shapes]
    reads = np.zeros(shape, int)

    def read(box: Box) -> NDArray[np.uint8]:
        reads[box.slices] += 1
        return pixels[(..., *box.slices)]

    for level, box, part in pyramid.stream(read):
        assert (levels[level][(..., *box.slices)] == 99).all(), "written twice"
        assert box.y0 % pyramid.part_edge(level) == box.x0 % pyramid.part_edge(level) == 0
        assert max(box.shape) <= pyramid.part_edge(level)
        levels[level][(..., *box.slices)] = part
    assert (reads == 1).all()
    assert max(pyramid.shapes[-1]) <= TILE_EDGE < max((*pyramid.shapes[-2:][0], TILE_EDGE + 1))
    expected = pixels
    for found in levels:
        assert np.array_equal(found, expected)
        expected = np.concatenate([mean(expected[:2]), majority(expected[2:])])


@pytest.mark.parametrize("shape", SHAPES[2:], ids=str)
def test_every_level_is_found_by_tifffile(shape: tuple[int, int], tmp_path: Path) -> None:
    pixels = noise(1, shape)
    shapes = Pyramid(Canvas(shape, (CLASSES,))).shapes
    for name in ("mask.tif", "mask.ome.tif"):
        path = tmp_path / name
        canvas = Canvas(shape, (CLASSES,), metadata={"image": {"shape": [9, 9]}})  # tifffile has a "shape" of its own
        write_image(path, canvas, lambda box: pixels[(0, *box.slices)])
        assert np.array_equal(read_labels(path), pixels[0]), "our own reader passes the levels over"
        with tifffile.TiffFile(path) as tif:
            (series,) = tif.series
            assert [level.shape for level in series.levels] == shapes
            expected = pixels[0]
            for level in series.levels:
                assert np.array_equal(level.asarray(), expected)
                expected = majority(expected)


@settings(max_examples=15)
@given(st.integers(1, 1600), st.integers(1, 1600))
def test_any_shape_has_its_levels(height: int, width: int) -> None:
    pyramid = Pyramid(Canvas((height, width), (CLASSES,)))
    seen = np.zeros(len(pyramid.shapes), int)
    for level, box, pixels in pyramid.stream(lambda box: np.zeros(box.shape, np.uint8)):
        seen[level] += box.area
        assert pixels.shape == (1, *box.shape) and Box.of_shape(pyramid.shapes[level]).contains(box)
    assert seen.tolist() == [h * w for h, w in pyramid.shapes]


def test_memory_does_not_grow_with_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unettile.images.pyramid.PIECE_BYTES", 4 * TILE_EDGE**2)
    majority(np.zeros((2, 2), np.uint8))  # what is loaded or compiled for it is not counted
    peaks = []
    for edge in (4_000, 16_000):
        tracemalloc.start()
        for _ in Pyramid(Canvas((edge, edge), (CLASSES,))).stream(lambda box: np.zeros(box.shape, np.uint8)):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 3 * TILE_EDGE**2  # a tile and what its half takes for each of two more levels
