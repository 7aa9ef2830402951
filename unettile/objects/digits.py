"""Digits: numbers as text, many at once, as Python formats them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.compiled import compiled

FOUR = np.array([[48 + number // 10**place % 10 for place in (3, 2, 1, 0)] for number in range(10**4)], np.uint8)
"""The digits of the numbers below 10,000, with zeros before them."""


@compiled
def put_integer(out, at, number):  # type: ignore[no-untyped-def]
    """Write a whole number into `out`, uint8, from place `at`; return the place after it."""
    if number < 0:
        out[at] = 45  # -
        at += 1
        number = -number
    rest = np.uint64(number)  # division by a constant is quicker without a sign
    if rest < 10000:
        skipped = 0 if rest >= 1000 else 1 if rest >= 100 else 2 if rest >= 10 else 3
        for i in range(skipped, 4):
            out[at + i - skipped] = FOUR[rest, i]
        return at + 4 - skipped
    length, bound = 5, np.uint64(100000)
    while rest >= bound and length < 19:
        length += 1
        bound *= np.uint64(10)
    end = at + length
    while end - 4 >= at:
        left = rest // np.uint64(10000)
        for i in range(4):
            out[end - 4 + i] = FOUR[rest - left * np.uint64(10000), i]
        end, rest = end - 4, left
    while end > at:
        left = rest // np.uint64(10)
        out[end - 1] = np.uint8(np.uint64(48) + rest - left * np.uint64(10))
        end, rest = end - 1, left
    return at + length


@compiled
def put_text(out, at, text):  # type: ignore[no-untyped-def]
    """Write bytes into `out` from place `at`; return the place after them."""
    for i in range(text.size):
        out[at + i] = text[i]
    return at + text.size


WIDEST = 32
"""Bytes that there are for a number."""


def cells_of(values: NDArray[Any], decimals: int, fixed: bool) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the text of numbers (n,), as (n, WIDEST) bytes and (n,) lengths; of what is no number, nothing.

    Args:
        values: whole numbers or floating point.
        decimals: behind the point with `fixed`, else significant digits: as Python's `.4f` and `.6g`.
    """
    out, lengths = np.empty((values.size, WIDEST), np.uint8), np.zeros(values.size, np.int64)
    if values.dtype.kind in "iu":
        _integers(values, out, lengths)
        return out, lengths
    doubtful = np.zeros(values.size, np.bool_)
    (_fixed if fixed else _general)(values, decimals, out, lengths, doubtful)
    for k in np.flatnonzero(doubtful):  # so near to a half that more than 64 bits decide
        text = format(float(values[k]), f".{decimals}{'f' if fixed else 'g'}").encode()
        assert len(text) <= WIDEST
        out[k, : len(text)] = np.frombuffer(text, np.uint8)
        lengths[k] = len(text)
    return out, lengths


@compiled
def _integers(values, out, lengths):  # type: ignore[no-untyped-def]
    for k in range(values.size):
        lengths[k] = put_integer(out[k], 0, values[k])


@compiled
def _fixed(values, decimals, out, lengths, doubtful):  # type: ignore[no-untyped-def]
    unit = 10**decimals
    for k in range(values.size):
        value = values[k]
        if not np.isfinite(value):
            continue
        scaled = abs(value) * unit
        below = np.floor(scaled)
        if scaled > 1e12 or abs(scaled - below - 0.5) < 1e-3 or (value <= 0 and np.signbit(value)):
            doubtful[k] = True
            continue
        number = np.int64(below) + (1 if scaled - below > 0.5 else 0)
        lengths[k] = _put_fraction(out[k], number, unit, decimals)


@compiled
def _general(values, digits, out, lengths, doubtful):  # type: ignore[no-untyped-def]
    for k in range(values.size):
        value = values[k]
        if not np.isfinite(value):
            continue
        if not 1e-4 <= value < 10 ** (digits - 1):
            doubtful[k] = True
            continue
        exponent = np.int64(np.floor(np.log10(value)))
        behind = digits - 1 - exponent
        scaled = value * 10.0**behind
        below = np.floor(scaled)
        number = np.int64(below) + (1 if scaled - below > 0.5 else 0)
        if abs(scaled - below - 0.5) < 1e-3 or not 10 ** (digits - 1) <= number < 10**digits:
            doubtful[k] = True
            continue
        length = _put_fraction(out[k], number, 10**behind, behind)
        while behind > 0 and out[k, length - 1] == 48:
            length -= 1
            behind -= 1
        lengths[k] = length - 1 if out[k, length - 1] == 46 else length


@compiled
def _put_fraction(out, number, unit, decimals):  # type: ignore[no-untyped-def]
    """Write number / unit, unit = 10 ** decimals, with so many decimals; return the length."""
    at = put_integer(out, 0, number // unit)
    out[at] = 46
    rest = number % unit
    for i in range(decimals):
        out[at + decimals - i] = 48 + rest % 10
        rest //= 10
    return at + 1 + decimals


@compiled
def put_rows(cells, lengths, names, name_ends, index, place, out):  # type: ignore[no-untyped-def]
    """Write rows of cells, parted by commas, a line each; return their length.

    cells, lengths: (C, n, WIDEST) and (C, n).
    names, name_ends, index: texts one after the other, where each ends, and which one stands before column `place`.
    """
    at = 0
    for row in range(lengths.shape[1]):
        for column in range(lengths.shape[0]):
            if column == place:
                at = put_text(out, at, names[name_ends[index[row]] : name_ends[index[row] + 1]])
                out[at] = 44
                at += 1
            for i in range(lengths[column, row]):
                out[at + i] = cells[column, row, i]
            at += lengths[column, row]
            out[at] = 44
            at += 1
        out[at - 1] = 10
    return at
