"""Scoring the objects of a pair of masks, block by block: who shares how many pixels with whom, and where all are."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.drawn.labels import Drawn
from unettile.errors import InputError, UsageError
from unettile.evaluation.pairs import MaskPair, Meaning, in_classes
from unettile.evaluation.score import THRESHOLDS, Row
from unettile.images.record import Record, read_record
from unettile.images.slide import ImageSource, Slide, open_labels
from unettile.images.view import View
from unettile.labels import check_labels
from unettile.metrics.aggregate import UNSAID, Agreement, aggregated_areas, class_counts, near_counts
from unettile.metrics.centroids import Centroids
from unettile.metrics.objects import ObjectCounts, count_matches
from unettile.metrics.overlaps import OverlapCounter, Overlaps
from unettile.metrics.pairings import pair_objects
from unettile.metrics.partitions import Partition, score_partition
from unettile.objects.labelling import BLOCK_EDGE as LABELLED_EDGE
from unettile.objects.labelling import Classes, Cutter, Objects, label_objects
from unettile.objects.rules import Labelling
from unettile.objects.spill import Spill
from unettile.tiling import BlockGrid
from unettile.wording import size_text

BLOCK_EDGE = 4096  # px; bounds the memory of what is scored block by block
MOST_CLASSES = 256

Labels = NDArray[Any]


@dataclass(frozen=True)
class Scoring:
    """How near is near, and where the classes of objects stand.

    Args:
        distance: largest distance of the middles of two objects that detection takes for one, px.
        tolerance: largest distance of two outlines that agree, px.
        class_maps: by name of the pair, the predicted and the true image of classes; an object's class is that of most
            of its pixels. Without it, ids of unettile know their classes.
        listed: list every object.

    Raises:
        UsageError: a number out of range.
    """

    distance: float = 12.0
    tolerance: float = 2.0
    class_maps: dict[str, MaskPair] | None = None
    listed: bool = False

    def __post_init__(self) -> None:
        for option, value in (("--distance", self.distance), ("--tolerance", self.tolerance)):
            if not math.isfinite(value) or value < 0:
                raise UsageError(f"{option} is {value:g}: need px, 0 or more")


PLAIN = Scoring()


@dataclass(frozen=True)
class ObjectScore:
    """What the objects of a pair say: see `Totals` and `Score`."""

    counts: ObjectCounts
    agreement: Agreement
    partition: Partition
    rows: tuple[Row, ...]


def score_objects(pair: MaskPair, predicted: Slide, true: Slide, meaning: Meaning, scoring: Scoring) -> ObjectScore:
    """Score the objects of two masks of one size.

    Raises:
        InputError: a mask that is no label map.
    """
    with ExitStack() as stack:
        read_prediction = _reader(predicted, stack, components=not meaning.instances)
        read_truth = _reader(true, stack, components=meaning.truth_components)
        counter, places = OverlapCounter(), (Centroids(), Centroids())
        for box in blocks(predicted.shape):
            p, t = read_prediction(box), read_truth(box)
            counter.add(p, t)
            for centroids, ids in zip(places, (p, t), strict=True):
                centroids.add(box, ids)
        overlaps = counter.overlaps()
        by_class = _by_class(pair, (predicted, read_prediction), (true, read_truth), overlaps, meaning, scoring, stack)
    near = near_counts(places[0].table()[2], places[1].table()[2], scoring.distance)
    agreement = Agreement(*aggregated_areas(overlaps), near, by_class)
    rows = _rows(overlaps, *places) if scoring.listed else ()
    return ObjectScore(count_matches(overlaps, THRESHOLDS), agreement, score_partition(overlaps), rows)


def blocks(shape: tuple[int, int]) -> Iterator[Box]:
    """Yield the boxes that an image is scored by."""
    whole = Box.of_shape(shape)
    for y0 in range(0, shape[0], BLOCK_EDGE):
        for x0 in range(0, shape[1], BLOCK_EDGE):
            yield Box(y0, x0, y0 + BLOCK_EDGE, x0 + BLOCK_EDGE).intersect(whole)


def read_ids(slide: Slide, box: Box) -> Labels:
    """Return the ids (h, w) of a region.

    Raises:
        InputError: they are none.
    """
    return check_labels(slide.read(box), str(slide.path))


def _by_class(
    pair: MaskPair,
    prediction: tuple[Slide, Callable[[Box], Labels]],
    truth: tuple[Slide, Callable[[Box], Labels]],
    overlaps: Overlaps,
    meaning: Meaning,
    scoring: Scoring,
    stack: ExitStack,
) -> NDArray[np.float64]:
    """Return the counts of each class; none where classes are not known."""
    if scoring.class_maps is not None:
        maps = scoring.class_maps
        chosen = maps[pair.name] if pair.name in maps else next(iter(maps.values()))
        chosen = in_classes(chosen, meaning.names)
        first = _majority(prediction[0], prediction[1], chosen.prediction, chosen.prediction_view)
        second = _majority(truth[0], truth[1], chosen.truth, chosen.truth_view)
    elif meaning.classes is not None:
        objects = [_label(_Ids(slide), stack) for slide, _ in (prediction, truth)]
        counter = OverlapCounter()
        for box in blocks(prediction[0].shape):
            counter.add(*(one.read(box) for one in objects))
        first, second = (dict(enumerate(one.numbers.classes.tolist(), start=1)) for one in objects)
        return class_counts(counter.overlaps(), first, second, meaning.classes - 1)
    else:
        said = _said_classes(pair, overlaps) if meaning.instances and not meaning.truth_components else None
        if said is None:
            return np.zeros((0, 4))
        first, second = said
    largest = max((*first.values(), *second.values()), default=0)
    return class_counts(overlaps, first, second, min(largest, MOST_CLASSES))


def _said_classes(pair: MaskPair, overlaps: Overlaps) -> tuple[dict[int, int], dict[int, int]] | None:
    """Return the class of each id that occurs; of drawings by name, if both masks have one of the same name."""
    sources, views = (pair.prediction, pair.truth), (pair.prediction_view, pair.truth_view)
    records = [
        read_record(source, view.series, (view.t or 0, view.z or 0))
        for source, view in zip(sources, views, strict=True)
    ]
    occurring = [np.unique(ids) for ids in (overlaps.prediction, overlaps.truth)]
    if not any(isinstance(source, Drawn) for source in sources):
        found = [_classes_of(ids, record) for ids, record in zip(occurring, records, strict=True)]
        return None if found[0] is None or found[1] is None else (found[0], found[1])
    first, second = map(_said_names, sources, records, occurring)
    if not set(first.values()) & set(second.values()) - {""}:
        return None
    named = (name.casefold() for record in records for number, name in record.names.items() if number)
    others = sorted({*first.values(), *second.values()} - {""})
    numbers = {name: number for number, name in enumerate(dict.fromkeys([*named, *others]), start=1)}
    return (
        {one: numbers.get(name, 0) for one, name in first.items()},
        {one: numbers.get(name, UNSAID) for one, name in second.items()},
    )


def _said_names(source: ImageSource, record: Record, ids: NDArray[np.int64]) -> dict[int, str]:
    """Return the name of the class of each of these ids, in small letters; "" for none."""
    if isinstance(source, Drawn):
        return {number: name.casefold() for number, name in enumerate(source.object_names, start=1)}
    classes = _classes_of(ids, record) or {}
    return {one: record.name(number).casefold() if number else "" for one, number in classes.items()}


def _classes_of(ids: NDArray[np.int64], record: Record) -> dict[int, int] | None:
    """Return the class of each of these ids, as far as the metadata know them; None where they know none."""
    if record.ids is None:
        return None
    known = ids[(ids > 0) & (ids <= record.ids.classes.size)]
    return dict(zip(known.tolist(), record.ids.classes[known - 1].tolist(), strict=True))


def _majority(slide: Slide, read: Callable[[Box], Labels], path: ImageSource, view: View) -> dict[int, int]:
    """Return the class that most pixels of each object have in an image of classes; of equals the first."""
    with open_labels(path, view) as classes:
        if classes.shape != slide.shape:
            raise InputError(
                f"{path} is {size_text(classes.shape)} and {slide.path} is {size_text(slide.shape)}: need the classes"
                " of the same image"
            )
        counter = OverlapCounter()
        for box in blocks(slide.shape):
            counter.add(read_ids(classes, box), read(box))
        shared = counter.overlaps()
    order = np.lexsort((-shared.prediction, shared.pixels, shared.truth))
    return {int(shared.truth[k]): int(shared.prediction[k]) for k in order if shared.prediction[k] and shared.truth[k]}


def _rows(overlaps: Overlaps, prediction: Centroids, truth: Centroids) -> tuple[Row, ...]:
    """Return all objects, with their areas and middles."""
    known = []
    for centroids in (truth, prediction):
        ids, areas, places = centroids.table()
        known.append(
            {
                int(number): (int(area), float(y), float(x))
                for number, area, (y, x) in zip(ids, areas, places, strict=True)
            }
        )
    return tuple(
        Row(pairing, known[0].get(pairing.truth), known[1].get(pairing.prediction))
        for pairing in pair_objects(overlaps)
    )


class _Ids:
    """The ids of a mask, as classes."""

    def __init__(self, slide: Slide) -> None:
        self._slide = slide
        self.shape = slide.shape

    def read(self, box: Box) -> NDArray[np.uint32]:
        return read_ids(self._slide, box).astype(np.uint32)


class _Foreground(_Ids):
    """All that is above 0 in a mask, as one class."""

    def read(self, box: Box) -> NDArray[np.uint32]:
        return (read_ids(self._slide, box) > 0).astype(np.uint32)


def _reader(slide: Slide, stack: ExitStack, *, components: bool) -> Callable[[Box], Labels]:
    """Return what gives the object ids of a box: those of the file, or those of its foreground's connected parts.

    Args:
        stack: closes the temporary file of the latter.
    """
    return _label(_Foreground(slide), stack).read if components else lambda box: read_ids(slide, box)


def _label(classes: Classes, stack: ExitStack) -> Objects:
    """Return the connected parts of each class."""
    grid = BlockGrid(classes.shape, LABELLED_EDGE)
    spill = stack.enter_context(Spill(grid, Path(tempfile.gettempdir())))
    return label_objects(Cutter(classes, None, None), Labelling(), grid, spill, lambda done, total: None)
