"""Climbing: which maximum of the depth each pixel of a block climbs to, and where the basins of maxima meet.

1. Every pixel points to its highest neighbour of the same class; among equals the first in raster order is the higher.
   One that points out of the block, or to none, is an end. This is done row by row, in vectors.
2. Pixels that are no background are listed; ends are numbered, and each other pixel takes what its neighbour has, until
   all have a number: those with the same one are a basin.
3. Where two basins touch, the lower depth of two neighbours is a pass; the highest pass between them counts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unettile.compiled import compiled
from unettile.objects.basins import DOWN, HERE, LEFT, RIGHT, UP, Passes

NUMBER = np.uint32(2**31)
"""What tells numbers of basins from raster indices; blocks have less px."""


@dataclass(frozen=True)
class Climb:
    """Where the pixels of a block (h, w) climb to.

    Args:
        points: (h, w) uint8, the way of each, HERE … DOWN.
        pixels: (n,) uint32 raster indices of those that are no background.
        basin: (h, w) uint32, the basins 1 … N in raster order of their ends, 0 for background.
        ends: (N + 1,) int64 raster indices; place 0 means nothing, here and below.
        first: (N + 1,) int64 raster index of the first pixel of each basin.
        area: (N + 1,) int64 px.
    """

    points: NDArray[np.uint8]
    pixels: NDArray[np.uint32]
    basin: NDArray[np.uint32]
    ends: NDArray[np.int64]
    first: NDArray[np.int64]
    area: NDArray[np.int64]


def climb(classes: NDArray[np.uint32], depth: NDArray[np.int32]) -> Climb:
    """Return where the pixels of a block climb to.

    Args:
        classes, depth: (h + 2, w + 2), the block with 1 px around it; what lies past the image has class 0.
    """
    shape = classes.shape[0] - 2, classes.shape[1] - 2
    points, basin = np.empty(shape, np.uint8), np.empty(shape, np.uint32)
    pixels = np.empty(points.size, np.uint32)
    pixels = pixels[: _point(classes, depth, points, basin, pixels)]
    ends = np.zeros(pixels.size + 1, np.int64)
    ends = ends[: _number(pixels, basin.reshape(-1), ends) + 1].copy()
    first, area = np.zeros(ends.size, np.int64), np.zeros(ends.size, np.int64)
    _follow(pixels, basin.reshape(-1), first, area)
    return Climb(points, pixels, basin, ends, first, area)


def meetings(classes: NDArray[np.uint32], depth: NDArray[np.int32], climbed: Climb) -> Passes:
    """Return the passes inside a block, one for each pair of basins, the highest.

    Args:
        classes, depth: as `climb` takes them.
    """
    keys, depths = _meet(classes, depth, climbed.pixels, climbed.basin, climbed.ends.size - 1)
    order = np.argsort(keys)
    keys = keys[order]
    return Passes(keys >> 32, keys & 0xFFFFFFFF, depths[order])


@compiled
def _point(classes, depth, points, onward, pixels):  # type: ignore[no-untyped-def]
    """Fill `points`, and `onward` with the raster index of the neighbour or of the pixel itself; list the pixels.

    Return how many there are.
    """
    height, width = points.shape
    here, up, left, right, down = np.int32(HERE), np.int32(UP), np.int32(LEFT), np.int32(RIGHT), np.int32(DOWN)
    none, one, zero = np.int32(-1), np.int32(1), np.int32(0)
    ways = np.empty(width, np.int32)
    count = 0
    for y in range(height):
        own, above, below = classes[y + 1], classes[y], classes[y + 2]
        level, higher, lower = depth[y + 1], depth[y], depth[y + 2]
        pointing, following = points[y], onward[y]
        some = zero
        for x in range(width):
            kind, top, way = own[x + 1], level[x + 1], here
            goes = (above[x + 1] == kind) & (higher[x + 1] >= top)
            top, way = (higher[x + 1] if goes else top), (up if goes else way)
            goes = (own[x] == kind) & ((level[x] > top) | ((way == here) & (level[x] == top)))
            top, way = (level[x] if goes else top), (left if goes else way)
            goes = (own[x + 2] == kind) & (level[x + 2] > top)
            top, way = (level[x + 2] if goes else top), (right if goes else way)
            goes = (below[x + 1] == kind) & (lower[x + 1] > top)
            way = down if goes else way
            ways[x] = way if kind != 0 else none
            some |= np.int32(kind != 0)
        base, step_up, step_down = np.int32(y * width), np.int32(-width), np.int32(width)
        if y == 0:
            step_up = zero
        if y == height - 1:
            step_down = zero
        for x in range(width):
            way = ways[x]
            step = step_up if way == up else zero
            step = none if way == left else step
            step = one if way == right else step
            step = step_down if way == down else step
            following[x] = np.uint32(base + np.int32(x) + step if way >= 0 else zero)
            pointing[x] = max(way, zero)
        if ways[0] == left:
            following[0] = np.uint32(base)
        if ways[width - 1] == right:
            following[width - 1] = np.uint32(base + width - 1)
        if some:
            for x in range(width):
                pixels[count] = base + x
                count += ways[x] >= 0
    return count


@compiled
def _number(pixels, onward, ends):  # type: ignore[no-untyped-def]
    """Put the numbers of ends, NUMBER added, in place of where they point, and of where others do that follow them.

    Fill in the ends from place 1; return N.
    """
    count = 0
    for k in range(pixels.size):
        i = pixels[k]
        if onward[i] == i:
            count += 1
            ends[count] = i
            onward[i] = NUMBER | np.uint32(count)
        elif onward[i] < i:
            onward[i] = onward[onward[i]]
    return count


@compiled
def _follow(pixels, onward, first, area):  # type: ignore[no-untyped-def]
    """Give all pixels the numbers of their ends, to and fro because ways lead both along the raster and against it."""
    most = pixels.size - 1
    least, backwards = np.uint32(0), True
    while least < NUMBER:
        least = NUMBER
        for k in range(pixels.size):
            i = pixels[most - k if backwards else k]
            near = onward[i]
            for _ in range(2):
                far = onward[i if near >= NUMBER else near]
                near = near if near >= NUMBER else far
            onward[i] = near
            least = min(least, near)
        backwards = not backwards
    for k in range(most, -1, -1):
        number = onward[pixels[k]] & ~NUMBER
        onward[pixels[k]] = number
        first[number] = pixels[k]
        area[number] += 1


@compiled
def _meet(classes, depth, pixels, basin, count):  # type: ignore[no-untyped-def]
    """Return the pairs of basins (n,) that touch, as smaller · 2^32 + larger, and the highest passes."""
    height, width = basin.shape
    flat = basin.reshape(-1)
    size = 64
    while size < 6 * count:  # a map of regions in a plane has at most three borders a region
        size *= 2
    table = np.zeros((size, 2), np.int64)  # pair and pass, side by side in memory
    for k in range(pixels.size):
        i = np.int64(pixels[k])
        here = flat[i]
        for downwards in range(2):
            there = flat[min(i + (width if downwards else 1), flat.size - 1)]
            if there == here or there == 0:
                continue
            y, x = i // width, i % width
            m, n = y + downwards, x + 1 - downwards
            if m == height or n == width or classes[y + 1, x + 1] != classes[m + 1, n + 1]:
                continue
            key = np.int64(min(here, there)) << 32 | np.int64(max(here, there))
            place = (key * 0x9E3779B1 >> 15) & (size - 1)
            while table[place, 0] != key and table[place, 0] != 0:
                place = (place + 1) & (size - 1)
            table[place, 0] = key
            table[place, 1] = max(table[place, 1], np.int64(min(depth[y + 1, x + 1], depth[m + 1, n + 1])))
    found = np.flatnonzero(table[:, 0])
    return table[found, 0], table[found, 1]
