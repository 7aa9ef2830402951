"""The loop that draws shapes: every edge turns over, in each row that it crosses, the pixels to the right of it."""

from __future__ import annotations

import numpy as np

from unettile.compiled import compiled


@compiled
def draw(corners, starts, firsts, bounds, near, values, origin, out):  # type: ignore[no-untyped-def]
    """Put the value of each shape that is `near` into the pixels of `out` whose centres it holds, one after another."""
    height, width = out.shape
    y0, x0 = origin
    for shape in near:
        top = max(0, int(np.floor(bounds[shape, 0])) - y0)
        bottom = min(height, int(np.ceil(bounds[shape, 2])) - y0)
        left = max(0, int(np.floor(bounds[shape, 1])) - x0)
        right = min(width, int(np.ceil(bounds[shape, 3])) - x0)
        if bottom <= top or right <= left:
            continue
        flips = np.zeros((bottom - top, right - left + 1), np.uint8)
        for ring in range(firsts[shape], firsts[shape + 1]):
            first, last = starts[ring], starts[ring + 1]
            for corner in range(first, last):
                following = corner + 1 if corner + 1 < last else first
                xa, ya, xb, yb = corners[corner, 0], corners[corner, 1], corners[following, 0], corners[following, 1]
                if ya > yb:  # an edge is the same from both of its sides
                    xa, ya, xb, yb = xb, yb, xa, ya
                begin = max(top, int(np.ceil(ya - 0.5)) - y0)
                end = min(bottom, int(np.ceil(yb - 0.5)) - y0)
                for row in range(begin, end):
                    x = xa + (row + y0 + 0.5 - ya) * (xb - xa) / (yb - ya)
                    column = int(np.ceil(x - 0.5)) - x0
                    if column < right:
                        flips[row - top, max(column, left) - left] ^= 1
        for row in range(bottom - top):
            inside = 0
            for column in range(right - left):
                inside ^= flips[row, column]
                if inside:
                    out[row + top, column + left] = values[shape]
