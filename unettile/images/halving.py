"""Halving: of each 2 × 2 pixels the number that occurs most often, as a compiled loop."""

from __future__ import annotations

from unettile.compiled import compiled


@compiled
def put_majority(pixels, out):  # type: ignore[no-untyped-def]
    """Fill `out` (N, ceil(h / 2), ceil(w / 2)) from `pixels` (N, h, w).

    Of numbers that occur equally often it is the first, row by row; at an odd edge the last row or column counts twice.
    """
    count, height, width = pixels.shape
    for n in range(count):
        for y in range(out.shape[1]):
            above, below, row = pixels[n, 2 * y], pixels[n, min(2 * y + 1, height - 1)], out[n, y]
            for x in range(width // 2):
                a, b, c, d = above[2 * x], above[2 * x + 1], below[2 * x], below[2 * x + 1]
                other = b if (b == c) | (b == d) else (c if c == d else a)
                row[x] = a if (a == b) | (a == c) | (a == d) else other
            if width % 2:
                row[width // 2] = above[width - 1]
