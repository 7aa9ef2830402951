"""Numbers become the text that Python makes of them, digit by digit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unettile.objects.digits import cells_of


def texts(values: np.ndarray, decimals: int, fixed: bool) -> list[str]:
    out, lengths = cells_of(values, decimals, fixed)
    return [bytes(row[:length]).decode() for row, length in zip(out, lengths, strict=True)]


HARD = [
    *(0.0, -0.0, 1e-5, -1e-5, 0.00005, 0.03125, 0.28125, 999999.5, 99999.95, 9.999995, 0.0001, 1e-300, 1e11, 1.5),
    *(1e15, 123456.5, 0.1, 1 / 3, 2 / 3, 1.0, 100000.0, 999999.0, 0.99999949, 0.9999995, math.nan, math.inf, -2.5),
]


@pytest.mark.parametrize(("decimals", "fixed"), [(4, True), (6, False)])
def test_hard_numbers(decimals: int, fixed: bool) -> None:
    kind = f".{decimals}{'f' if fixed else 'g'}"
    expected = [format(value, kind) if math.isfinite(value) else "" for value in HARD]
    assert texts(np.array(HARD), decimals, fixed) == expected


@settings(max_examples=300)
@given(value=st.one_of(st.floats(-1e6, 1e9), st.floats(0, 1), st.fractions(0, 5000, max_denominator=4096).map(float)))
def test_any_number(value: float) -> None:
    assert texts(np.array([value]), 4, True) == [f"{value:.4f}"]
    assert texts(np.array([value]), 6, False) == [f"{value:.6g}"]


def test_whole_numbers() -> None:
    powers = [10**n + less for n in range(19) for less in (-1, 0, 1)]
    values = np.array([0, 1, 9, 10, 99, 123456789, -7, 2**62, -12345, 100040007, *powers])
    assert texts(values, 4, True) == [str(value) for value in values]
