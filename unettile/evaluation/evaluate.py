"""Scoring pairs of masks block by block: memory grows with the number of objects, not with the image.

The objects of a class mask, its connected components, are labelled in blocks, too, into a temporary file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.errors import InputError
from unettile.evaluation.pairs import MaskPair, Meaning
from unettile.evaluation.score import THRESHOLDS, Evaluation, Score, Totals
from unettile.images.slide import ImageSource, Slide, open_labels
from unettile.labels import check_labels
from unettile.metrics.distances import Outline, hausdorff
from unettile.metrics.objects import count_matches
from unettile.metrics.overlaps import OverlapCounter, Overlaps
from unettile.metrics.partitions import score_partition
from unettile.metrics.pixels import confusion_matrix
from unettile.objects.components import open_ids

BLOCK_EDGE = 4096  # px; bounds the memory of what is scored block by block

Labels = NDArray[Any]


def evaluate(
    pairs: Sequence[MaskPair], meaning: Meaning, on_pair: Callable[[int], None] = lambda done: None
) -> Evaluation:
    """Score every pair; `on_pair` takes the number of pairs done.

    Raises:
        InputError: a mask that is no label map, differing sizes, or ids that `meaning` does not explain.
    """
    scores = {}
    for number, pair in enumerate(pairs, start=1):
        scores[pair.name] = score_pair(pair.prediction, pair.truth, meaning)
        on_pair(number)
    return Evaluation(scores)


def score_pair(prediction: ImageSource, truth: ImageSource, meaning: Meaning) -> Score:
    """Score one predicted mask against the true one.

    Raises:
        InputError: see `evaluate`.
    """
    with open_labels(prediction) as predicted, open_labels(truth) as true:
        if predicted.shape != true.shape:
            raise InputError(
                f"{prediction} is {_by(predicted.shape)} px and {truth} is {_by(true.shape)} px: "
                "need masks of one image; check the pairing"
            )
        confusion = _confusion(predicted, true, meaning)
        distances = _distances(predicted, true, meaning) if meaning.boundaries else None
        if not meaning.objects:
            return Score(Totals(confusion, None), None, distances)
        overlaps = _overlaps(predicted, true, meaning)
        return Score(Totals(confusion, count_matches(overlaps, THRESHOLDS)), score_partition(overlaps), distances)


def _confusion(predicted: Slide, true: Slide, meaning: Meaning) -> NDArray[np.int64]:
    classes = meaning.class_count
    confusion = np.zeros((classes, classes), np.int64)
    only_id: int | None = None
    for box in _blocks(predicted.shape):
        p, t = _read(predicted, box), _read(true, box)
        if meaning.classes is None:
            if not meaning.instances:
                only_id = _single_id(p, only_id, predicted.path)
            p, t = (p > 0).astype(np.uint8), (t > 0).astype(np.uint8)
        else:
            _check_classes(p, classes, predicted.path)
            _check_classes(t, classes, true.path)
        confusion += confusion_matrix(p, t, classes)
    return confusion


def _distances(predicted: Slide, true: Slide, meaning: Meaning) -> tuple[float, ...]:
    """Return the 95 % Hausdorff distance of each class but the background, px."""
    pairs = [(Outline(predicted.shape), Outline(true.shape)) for _ in range(1, meaning.class_count)]
    for box in _blocks(predicted.shape):
        seen = pairs[0][0].window(box)
        p, t = _read(predicted, seen), _read(true, seen)
        for k, (outline_p, outline_t) in enumerate(pairs, start=1):
            outline_p.add(box, p > 0 if meaning.classes is None else p == k)
            outline_t.add(box, t > 0 if meaning.classes is None else t == k)
    return tuple(_distance(first.points, second.points) for first, second in pairs)


def _distance(first: NDArray[np.int64], second: NDArray[np.int64]) -> float:
    return hausdorff(first, second) if len(first) or len(second) else float("nan")


def _overlaps(predicted: Slide, true: Slide, meaning: Meaning) -> Overlaps:
    """Count which objects share how many pixels."""
    with ExitStack() as stack:
        read_prediction = open_ids(predicted, stack, components=not meaning.instances)
        read_truth = open_ids(true, stack, components=meaning.truth_components)
        counter = OverlapCounter()
        for box in _blocks(predicted.shape):
            counter.add(read_prediction(box), read_truth(box))
        return counter.overlaps()


def _blocks(shape: tuple[int, int]) -> Iterator[Box]:
    whole = Box.of_shape(shape)
    for y0 in range(0, shape[0], BLOCK_EDGE):
        for x0 in range(0, shape[1], BLOCK_EDGE):
            yield Box(y0, x0, y0 + BLOCK_EDGE, x0 + BLOCK_EDGE).intersect(whole)


def _read(slide: Slide, box: Box) -> Labels:
    return check_labels(slide.read(box), str(slide.path))


def _single_id(labels: Labels, known: int | None, path: Path) -> int | None:
    """Return the one id above 0, refusing a second: several ids may be classes or objects, and only the user knows."""
    foreground = labels[labels > 0]
    if foreground.size == 0:
        return known
    low, high = int(foreground.min()), int(foreground.max())
    if low != high or known not in (None, low):
        raise InputError(
            f"{path} holds several ids above 0 (up to {high}): need to know what they are; "
            "say --classes K if they are classes, --instances if they are objects"
        )
    return low


def _check_classes(labels: Labels, classes: int, path: Path) -> None:
    if labels.max() >= classes:
        raise InputError(f"{path} holds the id {labels.max()}: --classes {classes} allows 0 … {classes - 1}; raise it")


def _by(shape: tuple[int, int]) -> str:
    return f"{shape[1]} × {shape[0]}"
