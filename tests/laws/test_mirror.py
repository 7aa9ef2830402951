"""The mirror law: a window equals the same window of the whole image extended by numpy's `reflect`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unettile.box import Box
from unettile.images.mirror import read_mirrored, reflect_indices
from unettile.images.plain import PlainSlide

LENGTHS = (1, 2, 3, 5, 7, 16, 91, 92, 93, 101, 184)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("margin", [0, 1, 92, 300])
def test_indices_are_those_of_numpy(length: int, margin: int) -> None:
    expected = np.pad(np.arange(length), margin, mode="reflect")
    assert np.array_equal(reflect_indices(-margin, length + margin, length), expected)


@settings(max_examples=60)
@given(
    length=st.integers(1, 60),
    start=st.integers(-500, 500),
    size=st.integers(0, 200),
    shift=st.integers(-300, 300),
)
def test_indices_are_a_function_of_the_coordinate(length: int, start: int, size: int, shift: int) -> None:
    """Two ranges agree wherever they overlap, and inside the image an index is the coordinate itself."""
    a = dict(zip(range(start, start + size), reflect_indices(start, start + size, length).tolist(), strict=True))
    other = start + shift
    b = dict(zip(range(other, other + size), reflect_indices(other, other + size, length).tolist(), strict=True))
    assert all(a[key] == b[key] for key in a.keys() & b.keys())
    assert all(a[key] == key for key in a.keys() & set(range(length)))
    assert all(0 <= value < length for value in a.values())


@pytest.mark.parametrize(
    "shape",
    [(1, 1), (1, 50), (50, 1), (2, 3), (13, 29), (91, 101), (97, 200)],
    ids=lambda shape: f"{shape[0]}x{shape[1]}",
)
def test_windows_are_windows_of_the_mirrored_image(shape: tuple[int, int]) -> None:
    margin = 130
    pixels = np.random.default_rng(1).integers(0, 2**16, (*shape, 2)).astype(np.uint16)
    whole = np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)), mode="reflect")
    slide = PlainSlide(Path("memory"), pixels)
    frame = Box.of_shape(shape).expand(margin)
    random = np.random.default_rng(2)
    boxes = [frame, Box.of_shape(shape), Box(-margin, -margin, 0, 0), Box(0, 0, 0, 5)]
    for _ in range(30):
        y0, y1 = sorted(random.integers(frame.y0, frame.y1 + 1, 2).tolist())
        x0, x1 = sorted(random.integers(frame.x0, frame.x1 + 1, 2).tolist())
        boxes.append(Box(y0, x0, y1, x1))
    for box in boxes:
        window = read_mirrored(slide, box)
        assert window.dtype == np.uint16
        assert np.array_equal(window, whole[box.relative_to(frame).slices]), box


def test_no_more_is_read_than_the_window_needs() -> None:
    """Memory is proportional to the window: a window across the edge reads less than its own area."""
    read: list[Box] = []

    class Watched(PlainSlide):
        def read(self, box: Box) -> np.ndarray:
            read.append(box)
            return super().read(box)

    slide = Watched(Path("memory"), np.zeros((1000, 1000, 1), np.uint8))
    for box in (Box(-92, -92, 480, 480), Box(500, 700, 1072, 1072), Box(300, 300, 400, 400)):
        read_mirrored(slide, box)
        assert read.pop().area <= box.area
