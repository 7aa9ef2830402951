"""Bringing pixels back, compiled: sums of four neighbours, weighted by whole numbers, so that nothing is rounded."""

from __future__ import annotations

from unettile.compiled import compiled


@compiled
def interpolate(planes, rows, down, columns, right, out):  # type: ignore[no-untyped-def]
    """Write planes at other places, in 1/65536 of their numbers.

    Args:
        planes: (P, h, w) uint8.
        rows, columns: (n, 2) and (m, 2) int64: the two rows and columns beside each place.
        down, right: (n,) and (m,) int64: weights of the second of them, 0 … 256; the first has the rest.
        out: (P, n, m) int32, overwritten.
    """
    width = planes.shape[2]
    line = planes[0, 0].astype("int32")
    for plane in range(planes.shape[0]):
        for i in range(rows.shape[0]):
            above, below, weight = rows[i, 0], rows[i, 1], down[i]
            for x in range(width):
                line[x] = planes[plane, above, x] * (256 - weight) + planes[plane, below, x] * weight
            for j in range(columns.shape[0]):
                w = right[j]
                out[plane, i, j] = line[columns[j, 0]] * (256 - w) + line[columns[j, 1]] * w


@compiled
def first_largest(sums, out):  # type: ignore[no-untyped-def]
    """Write the number of the plane with the largest sum; of equal ones the first.

    Args:
        sums: (P, n, m) int32.
        out: (n, m) uint8, overwritten.
    """
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            best = 0
            for plane in range(1, sums.shape[0]):
                if sums[plane, i, j] > sums[best, i, j]:
                    best = plane
            out[i, j] = best


@compiled
def nearest_ids(ids, rows, down, columns, right, foreground, out):  # type: ignore[no-untyped-def]
    """Write the ids of objects at other places.

    Where all four neighbours are of one object, or of none, so is the place. Elsewhere it is of the object that the
    largest weights are of, if it is foreground or no neighbour is background, else of none.

    Args:
        ids: (h, w) uint32.
        rows, down, columns, right: as in `interpolate`.
        foreground: (n, m) bool.
        out: (n, m) uint32, overwritten.
    """
    for i in range(out.shape[0]):
        above, below, v = rows[i, 0], rows[i, 1], down[i]
        for j in range(out.shape[1]):
            left, beside, u = columns[j, 0], columns[j, 1], right[j]
            a, b, c, d = ids[above, left], ids[above, beside], ids[below, left], ids[below, beside]
            if a == b and b == c and c == d:
                out[i, j] = a
                continue
            if not foreground[i, j] and (a == 0 or b == 0 or c == 0 or d == 0):
                out[i, j] = 0
                continue
            weights = ((256 - v) * (256 - u), (256 - v) * u, v * (256 - u), v * u)
            around = (a, b, c, d)
            best, most = 0, -1
            for k in range(4):
                if around[k] == 0:
                    continue
                total = 0
                for other in range(4):
                    if around[other] == around[k]:
                        total += weights[other]
                if total > most:
                    best, most = around[k], total
            out[i, j] = best
