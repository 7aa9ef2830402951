"""Survey: what a page tells of all objects: counts by class, spreads of their figures, and how densely they lie.

Figures are gone through twice, a run of objects at a time: for their ends, and for how many lie where between them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unettile.images.colours import Colour
from unettile.images.pixelsize import PixelSize
from unettile.images.record import Record
from unettile.objects.columns import Figures, Known
from unettile.objects.geojson import MOST_CLASSES
from unettile.objects.intensity import Totals

ROWS = 2**18
"""Objects at once."""

BINS = 40
CELLS = 96
"""Cells of the map along the longer side of the image, at most."""

FULL = 3
"""Objects in a cell of the map on average, at least, unless there are few."""

MOST_CHANNELS = 12
"""Channels whose intensities are shown."""


@dataclass(frozen=True)
class Subject:
    """What the objects are in.

    Args:
        name: of the image.
        shape: (H, W), px.
        pixel_size_um: height and width of a pixel; None if it is not known.
    """

    name: str
    shape: tuple[int, int]
    pixel_size_um: PixelSize | None = None


@dataclass(frozen=True)
class Spread:
    """How one figure of the objects is spread.

    Args:
        name: of the figure.
        unit: of its values; empty for none.
        edges: (BINS + 1,) of the bins; equal steps, or with `log` equal factors.
        counts: (BINS,) objects in each; the last bin has its upper end, too.
        mean, sd: of the values.
        log: sizes span orders of magnitude.
    """

    name: str
    unit: str
    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    mean: float
    sd: float
    log: bool = False


@dataclass(frozen=True)
class ClassCount:
    """Objects of one class: how many, and how many px they cover."""

    name: str
    colour: Colour
    count: int
    area: int


@dataclass(frozen=True)
class Survey:
    """What there is to tell.

    Args:
        subject: what the objects are in.
        count: of objects.
        area: px that they cover.
        classes: the most frequent first; empty where there are none, or very many.
        spreads: of sizes, confidence and intensities; empty without objects.
        density: (h, w) objects whose middles lie in each cell of the map.
        cell: edge of a cell, px.
    """

    subject: Subject
    count: int
    area: int
    classes: tuple[ClassCount, ...]
    spreads: tuple[Spread, ...]
    density: NDArray[np.int64]
    cell: int


def survey(figures: Figures, known: Known, record: Record, subject: Subject) -> Survey:
    """Return what the figures of all objects say."""
    cell = cell_edge(subject.shape, len(figures.sums))
    height, width = (-(-length // cell) for length in subject.shape)
    density = np.zeros(height * width, np.int64)
    area = 0
    ends: dict[str, tuple[float, float]] = {}
    sums: dict[str, tuple[float, float]] = {}
    by_class: dict[int, list[int]] = {}
    for start, stop in _runs(len(figures.sums)):
        found = figures.sums.measurements(start, stop)
        area += int(found.area.sum())
        places = ((found.centroid_y + 0.5) // cell * width + (found.centroid_x + 0.5) // cell).astype(np.int64)
        density += np.bincount(places, minlength=density.size)
        if known.classes is not None and len(by_class) <= MOST_CLASSES:
            kinds, index = np.unique(known.classes[start:stop], return_inverse=True)
            counts, areas = np.bincount(index), np.bincount(index, found.area)
            for kind, n, covered in zip(kinds.tolist(), counts.tolist(), areas.tolist(), strict=True):
                so_far = by_class.setdefault(kind, [0, 0])
                so_far[0], so_far[1] = so_far[0] + n, so_far[1] + int(covered)
        for name, values in _values(figures, found.area, subject, start, stop).items():
            low, high = ends.get(name, (math.inf, -math.inf))
            ends[name] = min(low, float(values.min())), max(high, float(values.max()))
            total = sums.get(name, (0.0, 0.0))
            sums[name] = total[0] + float(values.sum()), total[1] + float((values**2).sum())
    edges = {name: _edges(*both, log=name == SIZE) for name, both in ends.items()}
    counted = {name: np.zeros(BINS, np.int64) for name in edges}
    for start, stop in _runs(len(figures.sums)):
        areas = figures.sums.measurements(start, stop).area
        for name, values in _values(figures, areas, subject, start, stop).items():
            counted[name] += np.histogram(values, edges[name])[0]
    order = sorted(by_class, key=lambda kind: (-by_class[kind][0], kind))
    classes = tuple(ClassCount(record.name(kind), record.colour(kind), *by_class[kind]) for kind in order)
    count = len(figures.sums)
    return Survey(
        subject,
        count,
        area,
        classes if len(classes) <= MOST_CLASSES else (),
        tuple(
            Spread(name, _unit(name, subject), edges[name], counted[name], *_moments(*sums[name], count), name == SIZE)
            for name in edges
        ),
        density.reshape(height, width),
        cell,
    )


SIZE = "area"


def cell_edge(shape: tuple[int, int], count: int) -> int:
    """Return the edge of the cells of a map, px: a round number; at most CELLS along the longer side, 8 of few objects.

    >>> cell_edge((8192, 8192), 90000), cell_edge((1000, 1000), 60), cell_edge((50, 50), 10**6)
    (100, 200, 1)
    """
    longest = max(shape)
    least = min(longest / 8, math.sqrt(FULL * shape[0] * shape[1] / max(1, count)))
    step = 1
    while True:
        for factor in (1, 2, 5):
            if step * factor >= max(least, longest / CELLS):
                return step * factor
        step *= 10


def _runs(count: int) -> Iterator[tuple[int, int]]:
    for start in range(0, count, ROWS):
        yield start, min(start + ROWS, count)


def _values(
    figures: Figures, area: NDArray[np.int64], subject: Subject, start: int, stop: int
) -> dict[str, NDArray[np.float64]]:
    """Return the figures that are shown of the objects start + 1 … stop, by name."""
    size = subject.pixel_size_um
    found = {SIZE: area.astype(np.float64) * (1.0 if size is None else size[0] * size[1])}
    if figures.confidence is not None:
        found["confidence"] = figures.confidence.inside[start:stop]
    for channels in figures.channels:
        if isinstance(channels.values, Totals):
            means = channels.values.means(start, stop, area)
        else:
            means = channels.values.intensities(start, stop, ()).mean
        for k, name in enumerate(channels.names[:MOST_CHANNELS]):
            finite = np.nan_to_num(means[:, k], posinf=0.0, neginf=0.0)
            found[f"mean {name.replace('_', ' ')}"] = finite
    return found


def _unit(name: str, subject: Subject) -> str:
    if name != SIZE:
        return ""
    return "px" if subject.pixel_size_um is None else "µm²"


def _edges(low: float, high: float, *, log: bool) -> NDArray[np.float64]:
    """Return the edges of the bins between two ends."""
    if log:
        edges = np.geomspace(low, max(high, low * 1.01), BINS + 1)
    else:
        edges = np.linspace(low, high if high > low else low + (abs(low) or 1.0), BINS + 1)
    edges[0], edges[-1] = low, max(high, edges[-1])
    return edges


def _moments(total: float, squares: float, count: int) -> tuple[float, float]:
    mean = total / count
    return mean, math.sqrt(max(0.0, squares / count - mean**2))
