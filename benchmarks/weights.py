"""What a border weight map costs beside other ways to make one, in one run, on the same label maps.

Ways, each from a label map in memory to a map (float) in memory:

    unettile      `weight_map`
    edt           one Euclidean distance transform of the same map by the package `edt`: a measure and no weight map,
                  which needs two distances for each pixel, to different cells, and an exponential
    crops         one transform by scipy for each cell, in its bounding box grown by the reach, found by scikit-image
    scipy         one transform by scipy of the whole map for each cell, the nearest two kept
    monai         the same with MONAI's `DistanceTransformEDT`, 32 cells at a time
    stack         the recipe that most published code follows: all cells' transforms stacked, then sorted
    brute force   for each background pixel, the distance to every boundary pixel

Each round runs them in turn; a way whose work would exceed its share is left out of larger maps. The result is the time
of each over that of unettile, round by round, with its memory and its largest error against the definition.
"""

from __future__ import annotations

import importlib
import os
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import regionprops

from benchmarks.measure import finish, found_version, machine, make_parser, rounded, spread
from unettile.limits import count_threads
from unettile.weightmap import reach, weight_map

W0, SIGMA = 10.0, 5.0
Labels = NDArray[np.int32]
Way = Callable[[Labels, int], NDArray[Any]]
BATCH = 32  # cells that MONAI gets at once
SECONDS = 0.03  # that a measurement takes at least: a call on a small map is over before a timer is sure
SLOW_ROUNDS = 3  # that ways other than those with threads take part in


class Contender(NamedTuple):
    """A way to make a map.

    Args:
        make: takes labels and a number of threads.
        limit: most pixels × passes over them that it is given.
        passes: how often it visits a pixel, of a map with so many cells.
        threaded: whether it uses threads at all; the others run once, beside one thread.
    """

    name: str
    make: Way
    limit: float = float("inf")
    passes: Callable[[int], float] = lambda cells: 1
    threaded: bool = False


def by_unettile(labels: Labels, threads: int) -> NDArray[Any]:
    return weight_map(labels, W0, SIGMA, threads=threads)


def by_edt(labels: Labels, threads: int) -> NDArray[Any]:
    distances: NDArray[Any] = importlib.import_module("edt").edt(labels, parallel=threads)
    return distances


def by_crops(labels: Labels, threads: int) -> NDArray[Any]:
    nearest = np.full((2, *labels.shape), np.inf)
    far = reach(SIGMA) + 1
    for cell in regionprops(labels):
        y0, x0, y1, x1 = cell.bbox
        part = np.s_[max(0, y0 - far) : y1 + far, max(0, x0 - far) : x1 + far]
        keep_two(nearest[(slice(None), *part)], ndimage.distance_transform_edt(labels[part] != cell.label))
    return weights_of(labels, nearest)


def by_scipy(labels: Labels, threads: int) -> NDArray[Any]:
    nearest = np.full((2, *labels.shape), np.inf)
    for cell in np.unique(labels[labels > 0]):
        keep_two(nearest, ndimage.distance_transform_edt(labels != cell))
    return weights_of(labels, nearest)


def by_monai(labels: Labels, threads: int) -> NDArray[Any]:
    transform = importlib.import_module("monai.transforms").DistanceTransformEDT()
    nearest = np.full((2, *labels.shape), np.inf)
    cells = np.unique(labels[labels > 0])
    for start in range(0, len(cells), BATCH):
        outside = labels != cells[start : start + BATCH, None, None]
        for distances in np.asarray(transform(outside.astype(np.float32))):
            keep_two(nearest, distances)
    return weights_of(labels, nearest)


def by_stack(labels: Labels, threads: int) -> NDArray[Any]:
    stack = np.stack(
        [ndimage.distance_transform_edt(labels != cell) for cell in np.unique(labels[labels > 0])], axis=-1
    )
    stack.sort(axis=-1)
    return weights_of(labels, np.moveaxis(stack[..., :2], -1, 0))


def by_brute_force(labels: Labels, threads: int) -> NDArray[Any]:
    inner = ndimage.minimum_filter(labels, 3) == ndimage.maximum_filter(labels, 3)
    points = np.argwhere((labels > 0) & ~inner)
    ids = labels[tuple(points.T)]
    cells, firsts = np.unique(ids, return_index=True)
    points = points[np.argsort(ids, kind="stable")]
    firsts = np.searchsorted(np.sort(ids), cells)
    nearest = np.full((2, *labels.shape), np.inf)
    for y, x in np.argwhere(labels == 0):
        squares = ((points - (y, x)) ** 2).sum(axis=1)
        by_cell = np.minimum.reduceat(squares, firsts)
        nearest[:, y, x] = np.sqrt(np.partition(by_cell, 1)[:2])
    return weights_of(labels, nearest)


def keep_two(nearest: NDArray[Any], distances: NDArray[Any]) -> None:
    """Put distances to one more cell among the nearest two."""
    np.minimum(nearest[1], np.maximum(nearest[0], distances), out=nearest[1])
    np.minimum(nearest[0], distances, out=nearest[0])


def weights_of(labels: Labels, nearest: NDArray[Any]) -> NDArray[Any]:
    """Return the weights of two distances (2, H, W), both infinite where there are no two cells."""
    weights: NDArray[Any] = 1 + np.where(labels == 0, W0 * np.exp(-(nearest.sum(axis=0) ** 2) / (2 * SIGMA**2)), 0)
    return weights


CONTENDERS = (
    Contender("unettile", by_unettile, threaded=True),
    Contender("edt", by_edt, threaded=True),
    Contender("crops", by_crops, 5e6),
    Contender("scipy", by_scipy, 3e8, lambda cells: cells),
    Contender("monai", by_monai, 6e7, lambda cells: cells),
    Contender("stack", by_stack, 6e7, lambda cells: cells),
    Contender("brute force", by_brute_force, 1e6, lambda cells: cells),
)


def discs(edge: int, cells: int) -> Labels:
    """Return a square map of about so many discs, each in its own place, some of which touch."""
    rng = np.random.default_rng(0)
    rows = round(np.sqrt(cells))
    pitch = edge / rows
    labels = np.zeros((edge, edge), np.int32)
    for cell in range(rows * rows):
        y, x = ((np.array(divmod(cell, rows)) + rng.uniform(0.3, 0.7, 2)) * pitch).tolist()
        radius = pitch * rng.uniform(0.25, 0.5)
        y0, x0 = max(0, int(y - radius)), max(0, int(x - radius))
        part = labels[y0 : int(y + radius) + 2, x0 : int(x + radius) + 2]
        ys, xs = np.ogrid[y0 : y0 + part.shape[0], x0 : x0 + part.shape[1]]
        part[(ys - y) ** 2 + (xs - x) ** 2 <= radius**2] = cell + 1
    return labels


def mosaic(edge: int, folder: Path) -> Labels:
    """Return a square map of the label images of a folder, laid side by side in the order of their names' hashes."""
    labels, cells = np.zeros((edge, edge), np.int32), 0
    paths = sorted(folder.iterdir())
    order = np.random.default_rng(0).permutation(len(paths))
    y = index = 0
    while y < edge:
        x, height = 0, edge
        while x < edge:
            image = np.asarray(imagecodecs.imread(paths[order[index % len(paths)]])).astype(np.int32)
            index += 1
            part = image[: edge - y, : edge - x]
            labels[y : y + part.shape[0], x : x + part.shape[1]] = np.where(part > 0, part + cells, 0)
            cells += int(image.max())
            x, height = x + image.shape[1], min(height, image.shape[0])
        y += height
    return labels


def maps(edges: tuple[int, ...], data: Path | None) -> Iterator[tuple[str, Labels]]:
    """Yield named label maps: synthetic ones, and real nuclei where there are any."""
    for edge in edges:
        yield f"{edge}² discs", discs(edge, max(4, edge * edge // 420))
        if edge >= 4096:
            yield f"{edge}² large discs", discs(edge, 600)
            yield f"{edge}² small discs", discs(edge, 200_000)
        if data is not None:
            yield f"{edge}² nuclei", mosaic(edge, data)


def timed(way: Way, labels: Labels, threads: int) -> float:
    """Return the seconds of a call, the mean of as many as fill SECONDS."""
    start, calls, took = time.perf_counter(), 0, 0.0
    while took < SECONDS:
        way(labels, threads)
        calls, took = calls + 1, time.perf_counter() - start
    return took / calls


def peak_bytes(way: Way, labels: Labels) -> int:
    """Return what a call allocates at most, its result included, as far as Python sees it."""
    tracemalloc.start()
    way(labels, 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def largest_error(way: Way, labels: Labels) -> float:
    """Return the largest difference to one transform per cell, over up to four windows of a map."""
    made = way(labels, 1)
    edge, near = 192, reach(SIGMA) + 1
    worst = 0.0
    for y, x in np.unique(np.linspace(0, max(0, labels.shape[0] - edge), 2).astype(int))[:, None] * [[1, 1]]:
        top, left = max(0, y - near), max(0, x - near)
        expected = by_scipy(labels[top : y + edge + near, left : x + edge + near], 1)
        window = expected[y - top : y - top + edge, x - left : x - left + edge]
        worst = max(worst, float(np.abs(made[y : y + edge, x : x + edge] - window).max()))
    return worst


def compare(name: str, labels: Labels, rounds: int, threads: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    """Yield a row for each way and number of threads."""
    cells = len(np.unique(labels[labels > 0]))
    able = [c for c in CONTENDERS if is_here(c.name) and labels.size * c.passes(cells) <= c.limit]
    for count in threads:
        ways = [contender for contender in able if contender.threaded or count == 1]
        for contender in ways:  # warm-up: imports and compiled code everywhere, caches where it is cheap
            contender.make(labels if contender.threaded else labels[:64, :64], count)
        seconds = [
            {c.name: timed(c.make, labels, count) for c in ways if c.threaded or index < SLOW_ROUNDS}
            for index in range(rounds)
        ]
        for contender in ways:
            shared = [r for r in seconds if contender.name in r]
            row: dict[str, Any] = {"map": name, "cells": cells, "threads": count, "way": contender.name}
            row["time_over_unettile"] = spread([r[contender.name] / r["unettile"] for r in shared])
            row["fastest_over_fastest"] = rounded(
                min(r[contender.name] for r in shared) / min(r["unettile"] for r in seconds)
            )
            if contender.name == "unettile":
                row["mpx_per_s"] = spread([labels.size / r["unettile"] / 1e6 for r in seconds])
            if count == 1:
                row["mib"] = rounded(peak_bytes(contender.make, labels) / 2**20)
                if contender.name != "edt":
                    row["largest_error"] = largest_error(contender.make, labels)
            yield row


def measure(edges: tuple[int, ...], rounds: int, data: Path | None) -> dict[str, Any]:
    """Compare all ways on all maps and return the figures as JSON values."""
    most = count_threads()
    threads = (1, most) if most > 1 else (1,)
    return {
        "bench": "weights",
        "machine": machine("numpy", "numba", "scipy", "scikit-image", "edt", "monai"),
        "case": {"w0": W0, "sigma": SIGMA, "rounds": rounds},
        "rows": [row for name, labels in maps(edges, data) for row in compare(name, labels, rounds, threads)],
    }


def is_here(name: str) -> bool:
    return name not in ("edt", "monai") or found_version(name) is not None


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--edges", type=int, nargs="+", default=[256, 512, 2048, 8192], help="of the maps, px")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    nuclei = Path(os.environ.get("UNETTILE_DATA", "../shared/data")) / "dsb2018_train" / "labels"
    result = measure(tuple(given.edges), given.rounds, nuclei if nuclei.is_dir() else None)
    finish(result, given.output)
