"""Runs hold labels, and give any part of them back."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.objects.shapes import masks
from unettile.box import Box
from unettile.objects.runs import Runs


def test_runs_end_where_labels_change() -> None:
    runs = Runs.of(np.array([[7, 7, 0, 0], [0, 0, 0, 0], [1, 2, 2, 1]], np.uint32))
    assert runs.starts.tolist() == [0, 2, 3, 6]
    assert runs.ends.tolist() == [2, 4, 4, 1, 3, 4]
    assert runs.values.tolist() == [7, 0, 0, 1, 2, 1]


@settings(max_examples=60)
@given(labels=masks, data=st.data())
def test_a_part_is_put_where_it_belongs(labels: NDArray[np.uint32], data: st.DataObject) -> None:
    height, width = labels.shape
    y0, x0 = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    y1, x1 = data.draw(st.integers(y0 + 1, height)), data.draw(st.integers(x0 + 1, width))
    new = np.array([99, 98, 10, 20], np.uint32)  # labels 1 and 2, 1 added, are at places 2 and 3
    out = np.full((height + 3, width + 4), 5, np.uint32)
    expected = out.copy()
    there = Box(2, 3, 2 + y1 - y0, 3 + x1 - x0)
    expected[there.slices] = np.array([0, 10, 20], np.uint32)[labels[y0:y1, x0:x1]]
    Runs.of(labels).put((y0, x0), new, 1, out, there)
    np.testing.assert_array_equal(out, expected)
