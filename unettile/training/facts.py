"""Facts: what a set of images and labels is like, for the plan of a training: channels, sizes, objects, shares."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.metrics.objects import connected_components
from unettile.objects.depth import STEPS, distance_depth
from unettile.objects.diameters import diameter_percentiles
from unettile.training.meaning import Meaning
from unettile.training.pairs import Pair
from unettile.training.reader import OpenPair

FILES = 24  # pairs that are looked at, spread evenly
PIECE = 768  # px; of each, pieces of this edge, spread evenly
PIECES = 6
DEEPEST = 256  # px: what is thicker is as thick
GREY = 0.02  # share of the range by which channels must differ to be colours
EMPTY = 0.05  # a channel of less than this share of the widest one's range shows noise


@dataclass(frozen=True)
class Facts:
    """What was seen of a set, in its pixels.

    Args:
        images: how many there are.
        channels: of the images, how many have how many.
        pixels: of all images together, about.
        shape: (H, W) of the middle one by area.
        smallest_edge: px, of any image that was looked at.
        coloured, bright: shares of the images of three channels that have colours, and that are bright.
        uneven: whether a channel has hardly any signal beside the others.
        shares: of the pixels, for each class; of objects, background and they, or their kinds.
        objects: in an image, in the middle; 0 without any.
        touching: share of the objects that touch another one.
        diameters: px, of objects or separate parts: 5 %, half and 95 % of their pixels lie in no larger ones.
        spread: by how much the images' own medians of these differ, as a factor.
        thickness: px, across what is not background, typically.
    """

    images: int
    channels: dict[int, int]
    pixels: int
    shape: tuple[int, int]
    smallest_edge: int
    coloured: float
    bright: float
    uneven: bool
    shares: tuple[float, ...]
    objects: float
    touching: float
    diameters: tuple[float, float, float] | None
    spread: float
    thickness: float


@dataclass(frozen=True)
class _Image:
    """The same of one image."""

    channels: int
    shape: tuple[int, int]
    coloured: bool
    bright: bool
    uneven: bool
    counts: NDArray[np.int64]
    areas: NDArray[np.int64]
    objects: float
    touching: int
    depths: NDArray[np.float64]


def find_facts(pairs: Sequence[Pair], meaning: Meaning) -> Facts:
    """Look at pieces of up to 24 pairs.

    Raises:
        InputError: a pair that cannot be read, or labels that mean something else.
    """
    count = min(len(pairs), FILES)
    seen = [_look_at(pairs[place * len(pairs) // count], meaning) for place in range(count)]
    areas = np.concatenate([image.areas for image in seen])
    counts = np.sum([image.counts for image in seen], axis=0)
    sizes = sorted((image.shape for image in seen), key=lambda shape: shape[0] * shape[1])
    colours = [image for image in seen if image.channels == 3]
    medians = [float(diameter_percentiles(image.areas, [50])[0]) for image in seen if len(image.areas)]
    depths = np.concatenate([image.depths for image in seen])
    return Facts(
        images=len(pairs),
        channels=dict(Counter(image.channels for image in seen)),
        pixels=round(float(np.mean([shape[0] * shape[1] for shape in sizes])) * len(pairs)),
        shape=sizes[len(sizes) // 2],
        smallest_edge=min(min(shape) for shape in sizes),
        coloured=float(np.mean([image.coloured for image in colours])) if colours else 0.0,
        bright=float(np.mean([image.bright for image in colours])) if colours else 0.0,
        uneven=any(image.uneven for image in seen),
        shares=tuple((counts / max(1, counts.sum())).tolist()),
        objects=float(np.median([image.objects for image in seen])),
        touching=sum(image.touching for image in seen) / max(1, len(areas)),
        diameters=_three(areas) if len(areas) else None,
        spread=max(medians) / min(medians) if medians else 1.0,
        thickness=4 * float(depths.mean()) if len(depths) else 0.0,
    )


def _look_at(pair: Pair, meaning: Meaning) -> _Image:
    part = meaning.part
    objects, classes = part.kind == "instances", len(part.names)
    counts = np.zeros(classes, np.int64)
    areas: list[NDArray[np.int64]] = []
    depths: list[NDArray[np.float64]] = []
    pixels: list[NDArray[np.float64]] = []
    touching = seen = 0
    with OpenPair(pair, part) as opened:
        shape, channels = opened.shape, opened.image.channels
        largest = float(np.iinfo(opened.image.dtype).max) if opened.image.dtype.kind == "u" else 1.0
        pieces = Box.of_shape(shape).pieces(PIECE, PIECES)
        for box in pieces:
            ids = opened.ids(box)
            counted = ids[ids != part.ignore] if part.ignore >= 0 else ids
            foreground = (ids > 0) & (ids != part.ignore)
            numbered: NDArray[Any] = counted if part.kind == "classes" else counted > 0
            if opened.kinds is not None:
                kinds = opened.kinds.of(counted)
                numbered = kinds[kinds >= 0]
            counts += np.bincount(numbered.ravel().astype(np.int64), minlength=classes)[:classes]
            own = np.where(foreground, ids, 0) if objects else connected_components(foreground)
            numbers, sizes = np.unique(own[own > 0], return_counts=True)
            areas.append(sizes.astype(np.int64))
            touching += len(_touching(own)) if objects else 0
            if foreground.any():
                compact = np.unique(own, return_inverse=True)[1].reshape(own.shape).astype(np.uint32)
                compact[own == 0] = 0
                depths.append(distance_depth(compact, DEEPEST)[foreground].astype(np.float64)[::7] / STEPS)
            seen += len(numbers)
            pixels.append(opened.image.read(box)[::8, ::8].reshape(-1, channels).astype(np.float64))
    share = sum(box.area for box in pieces) / (shape[0] * shape[1])
    values = np.concatenate(pixels)
    ranges = np.percentile(values, 99.5, axis=0) - np.percentile(values, 0.5, axis=0)
    apart = channels == 3 and float((values.max(axis=1) - values.min(axis=1)).mean()) > GREY * max(1.0, ranges.max())
    return _Image(
        channels,
        shape,
        bool(apart),
        channels == 3 and float(np.median(values)) > 0.45 * largest,
        bool(channels > 1 and ranges.min() < EMPTY * ranges.max()),
        counts,
        np.concatenate(areas) if areas else np.empty(0, np.int64),
        seen / max(share, 1e-9),
        touching,
        np.concatenate(depths) if depths else np.empty(0),
    )


def _three(areas: NDArray[np.int64]) -> tuple[float, float, float]:
    low, median, high = diameter_percentiles(areas, [5, 50, 95]).round(1).tolist()
    return low, median, high


def _touching(ids: NDArray[np.integer]) -> set[int]:
    """Return the ids that touch another over a side."""
    found: set[int] = set()
    for one, other in ((ids[1:], ids[:-1]), (ids[:, 1:], ids[:, :-1])):
        meet = (one != other) & (one > 0) & (other > 0)
        found.update(one[meet].tolist())
        found.update(other[meet].tolist())
    return found
