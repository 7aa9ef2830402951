"""The border term of one block of labels, compiled.

Squared distances are integers of 16 bits where they fit, of 32 bits where not, and 32-bit floats where pixels are not
square; the loops are the same. Each runs over a row, or over CHUNK pixels of one, without a branch, so that the
compiler makes vector instructions of it: with 16 bits, up to 32 pixels at once.

1. Down each column, then up, keep the id met last and the distances to it and to the latest pixel of any other id. Of
   the two directions, the nearer two distinct ids are the column's. A third cannot be among the nearest two of any
   pixel: from wherever one looks, two of its own column are nearer.
2. Along each row, the nearest id of every pixel: over dx = 1, 2, … on both sides until dx² reaches the worst in the
   chunk, and no further than half the cut-off, since d1 is at most half of d1 + d2.
3. The same once more for the second distance: of each column the nearest if its id is another, else its second.
4. Weights from both, with one square root: (d1 + d2)² = d1² + d2² + 2 √(d1² d2²).

A chunk without any border also tells about the rows to come: d1 and d2 change by at most a pixel from one row to the
next. Such chunks look a little further than the cut-off, and then rest for as many rows as that proves empty.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numba
import numpy as np

CHUNK = 256  # pixels of a row that are searched together
CALM = 4  # rows that a chunk may rest


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile for one thread, without the interpreter's lock: threads and processes are the caller's."""
    compile_with = partial(numba.njit, nogil=True, error_model="numpy", fastmath={"nnan", "nsz"})  # no other rounding
    try:
        compiled: Callable[..., Any] = compile_with(cache=True)(function)
    except RuntimeError:  # neither the package nor the home directory can be written: compile anew in each process
        compiled = compile_with()(function)
    return compiled


@_compiled
def fill_block(  # type: ignore[no-untyped-def]
    ids, place, limits, term, scratch, out
):
    """Write the weights of a block.

    Args:
        ids: (rows of the block and of its margin, columns of `scratch`), 0 is background.
        out: (H, W) float32, the whole map.
    """
    margin, none = scratch.margin, scratch.none
    down_ids, down1, down2 = scratch.ids[0], scratch.distances[0], scratch.distances[1]
    up_ids, up1, up2 = scratch.ids[1], scratch.distances[2], scratch.distances[3]
    row_ids, row1, row2 = scratch.ids[2], scratch.row[0], scratch.row[1]
    best, second = scratch.chunk[0], scratch.chunk[1]
    calm = scratch.calm
    down_ids[:], down1[:], down2[:] = 0, none, none
    for y in range(place.first):
        _step(ids[y], none, down_ids, down1, down2)
    strip = scratch.down_ids.shape[0]
    for top in range(0, place.rows, strip):
        rows = min(strip, place.rows - top)
        start = place.first + top
        for i in range(rows):
            _step(ids[start + i], none, down_ids, down1, down2)
            _copy(down_ids, scratch.down_ids[i])
            _copy(down1, scratch.down[0, i])
            _copy(down2, scratch.down[1, i])
        up_ids[:], up1[:], up2[:] = 0, none, none
        for y in range(min(ids.shape[0], start + rows + none) - 1, start + rows - 1, -1):
            _step(ids[y], none, up_ids, up1, up2)
        calm[: (place.columns + CHUNK - 1) // CHUNK] = -1
        for i in range(rows - 1, -1, -1):
            _step(ids[start + i], none, up_ids, up1, up2)
            below = (scratch.down_ids[i], scratch.down[0, i], scratch.down[1, i])
            _join(below[0], below[1], below[2], up_ids, up1, up2, row_ids, row1, row2)
            for c in range((place.columns + CHUNK - 1) // CHUNK):
                x = c * CHUNK
                part = out[place.y + top + i, place.x + x : place.x + min(x + CHUNK, place.columns)]
                if calm[c] <= 0:
                    calm[c] = _search(row1, row2, row_ids, margin + x, limits, term, calm[c] < 0, scratch)
                    if calm[c] == 0:
                        _weigh(part, best, second, limits, term)
                        continue
                else:
                    calm[c] -= 1
                _fill(part, row1[margin + x : margin + x + CHUNK], term)


@_compiled
def _step(labels, none, ids, near, far):  # type: ignore[no-untyped-def]
    """Move what is known of each column to the next row: the id met last, and the distances to it and to another."""
    one, zero = np.uint16(1), np.uint16(0)
    for x in range(labels.shape[0]):
        label = labels[x]
        last = ids[x]
        first = min(np.uint16(near[x] + one), none)
        second = min(np.uint16(far[x] + one), none)
        met = label != 0
        far[x] = first if met & (label != last) else second
        near[x] = zero if met else first
        ids[x] = label if met else last


@_compiled
def _copy(source, target):  # type: ignore[no-untyped-def]
    for x in range(source.shape[0]):  # an assignment of slices would first ask whether they overlap
        target[x] = source[x]


@_compiled
def _join(ids_a, near_a, far_a, ids_b, near_b, far_b, ids, near, far):  # type: ignore[no-untyped-def]
    """Write the nearer two distinct ids of two directions: the first one's id, and both squared distances."""
    number = near.dtype.type
    for x in range(ids_a.shape[0]):
        id_a, id_b = ids_a[x], ids_b[x]
        first_a, first_b = near_a[x], near_b[x]
        second_a, second_b = far_a[x], far_b[x]
        a_is_nearer = first_a <= first_b
        ids[x] = id_a if a_is_nearer else id_b
        first = min(first_a, first_b)
        other = min(max(first_a, first_b), second_a if a_is_nearer else second_b)
        second = min(second_a, second_b) if id_a == id_b else other
        near[x] = number(number(first) * number(first))
        far[x] = number(number(second) * number(second))


@_compiled
def _search(near, far, ids, start, limits, term, further, scratch):  # type: ignore[no-untyped-def]
    """Find d1² and d2² of a chunk; return 0 if it has borders, else the rows it may rest, or -1."""
    best, second = scratch.chunk[0], scratch.chunk[1]
    if further:
        _find_nearest(near, ids, start, scratch.squares, limits.far_half, best, scratch.chunk_ids)
        where = (limits.far_near, limits.far_beyond, limits.far_whole, True)
    else:
        _find_nearest(near, ids, start, scratch.squares, limits.half, best, scratch.chunk_ids)
        where = (limits.near, limits.beyond, limits.whole, False)
    _find_second(near, far, ids, start, scratch.squares, where, best, scratch.chunk_ids, second)
    borders = 0
    for x in range(CHUNK):
        borders += (best[x] > 0) & (best[x] < limits.near) & (second[x] < limits.beyond)
    if borders:
        return 0
    if not further:
        return -1
    spare = (_narrowest(best, second, limits) - term.cutoff) * 0.5
    return min(CALM, int(spare)) if spare >= 1 else -1


@_compiled
def _find_nearest(near, ids, start, squares, columns, best, who):  # type: ignore[no-untyped-def]
    number = best.dtype.type
    _copy(near[start : start + CHUNK], best)
    _copy(ids[start : start + CHUNK], who)
    for dx in range(1, columns + 1):
        square = squares[dx]
        if dx & 3 == 1 and _worst(best) <= square:
            break
        left, right = near[start - dx : start - dx + CHUNK], near[start + dx : start + dx + CHUNK]
        left_ids, right_ids = ids[start - dx : start - dx + CHUNK], ids[start + dx : start + dx + CHUNK]
        for x in range(CHUNK):
            found, found_id = best[x], who[x]
            left_id, right_id = left_ids[x], right_ids[x]
            on_left, on_right = number(left[x] + square), number(right[x] + square)
            found_id = left_id if on_left < found else found_id
            found = min(on_left, found)
            who[x] = right_id if on_right < found else found_id
            best[x] = min(on_right, found)


@_compiled
def _find_second(near, far, ids, start, squares, where, best, who, second):  # type: ignore[no-untyped-def]
    too_far, beyond, columns, on_cells = where
    number = second.dtype.type
    here, other, here_ids = near[start : start + CHUNK], far[start : start + CHUNK], ids[start : start + CHUNK]
    for x in range(CHUNK):
        nearest, alternative = here[x], other[x]
        found = alternative if here_ids[x] == who[x] else nearest
        second[x] = min(found, beyond) if (best[x] < too_far) & ((best[x] > 0) | on_cells) else number(0)
    for dx in range(1, columns + 1):
        square = squares[dx]
        if dx & 3 == 1 and _worst(second) <= square:
            break
        left, right = near[start - dx : start - dx + CHUNK], near[start + dx : start + dx + CHUNK]
        left_far, right_far = far[start - dx : start - dx + CHUNK], far[start + dx : start + dx + CHUNK]
        left_ids, right_ids = ids[start - dx : start - dx + CHUNK], ids[start + dx : start + dx + CHUNK]
        for x in range(CHUNK):
            nearest_id = who[x]
            a, b, c, d = left[x], left_far[x], right[x], right_far[x]
            on_left = b if left_ids[x] == nearest_id else a
            on_right = d if right_ids[x] == nearest_id else c
            second[x] = min(second[x], number(min(on_left, on_right) + square))


@_compiled
def _worst(distances):  # type: ignore[no-untyped-def]
    worst = distances[0]
    for x in range(CHUNK):
        worst = max(worst, distances[x])
    return worst


@_compiled
def _narrowest(best, second, limits):  # type: ignore[no-untyped-def]
    """Return d1 + d2 of a chunk, at least: its square is 3 d1² + d2² or more, since d1 is the smaller."""
    number = best.dtype.type
    least = limits.far_beyond
    for x in range(CHUNK):
        square = number(number(number(best[x] + best[x]) + best[x]) + second[x])
        least = min(least, square if best[x] < limits.far_near else least)
    return math.sqrt(least)


@_compiled
def _weigh(out, best, second, limits, term):  # type: ignore[no-untyped-def]
    """Write weights; exp(t) as the 64th power of a polynomial for exp(t / 64), whose t is never below -0.29."""
    cutoff = term.cutoff * term.cutoff
    for x in range(out.shape[0]):
        a, b = np.float64(best[x]), np.float64(second[x])
        square = a + b + 2.0 * math.sqrt(a * b)
        t = square * term.scale
        power = 1 / 720 + t * (1 / 5040)
        power = 1.0 + t * (1.0 + t * (1 / 2 + t * (1 / 6 + t * (1 / 24 + t * (1 / 120 + t * power)))))
        power *= power
        power *= power
        power *= power
        power *= power
        power *= power
        power *= power
        counts = (best[x] < limits.near) & (second[x] < limits.beyond) & (square <= cutoff)
        background = term.background + (term.w0 * power if counts else 0.0)
        out[x] = np.float32(term.cell if best[x] == 0 else background)


@_compiled
def _fill(out, near, term):  # type: ignore[no-untyped-def]
    """Write the weights of a chunk without borders."""
    for x in range(out.shape[0]):
        out[x] = np.float32(term.cell if near[x] == 0 else term.background)


@_compiled
def rebase(labels, y0, y1, x0, x1, ids, left):  # type: ignore[no-untyped-def]
    """Write rows y0 … y1 - 1, columns x0 … x1 - 1 of unsigned labels as ids of 16 bits; False if they span too many."""
    one = labels.dtype.type(1)
    lowest, highest = labels.dtype.type(labels[y0, x0] - one), labels[y0, x0]
    for y in range(y0, y1):
        row = labels[y, x0:x1]
        for x in range(row.shape[0]):
            highest = max(highest, row[x])
            lowest = min(lowest, labels.dtype.type(row[x] - one))  # 0 becomes the largest
    if highest - lowest > 65535:
        return False
    for y in range(y0, y1):
        row = labels[y, x0:x1]
        to = ids[y - y0, left : left + x1 - x0]
        for x in range(row.shape[0]):
            label = row[x]
            to[x] = np.uint16(label - lowest) if label != 0 else np.uint16(0)
    return True
