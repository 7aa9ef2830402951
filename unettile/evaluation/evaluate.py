"""Scoring pairs of masks block by block: memory grows with the number of objects, not with the image.

The objects of a class mask, its connected components, are labelled in blocks, too, into a temporary file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.errors import InputError
from unettile.evaluation.ignored import Ignored
from unettile.evaluation.objects import PLAIN, Scoring, blocks, read_ids, score_objects
from unettile.evaluation.pairs import MaskPair, Meaning, in_classes
from unettile.evaluation.score import Evaluation, Score, Totals
from unettile.images.slide import Slide, open_labels
from unettile.metrics.distances import Outline, boundary_f1, hausdorff
from unettile.metrics.pixels import confusion_matrix
from unettile.wording import size_text

Labels = NDArray[Any]


def evaluate(
    pairs: Sequence[MaskPair],
    meaning: Meaning,
    on_pair: Callable[[int], None] = lambda done: None,
    scoring: Scoring = PLAIN,
) -> Evaluation:
    """Score every pair; `on_pair` takes the number of pairs done.

    Raises:
        InputError: a mask that is no label map, differing sizes, or ids that `meaning` does not explain.
    """
    scores = {}
    for number, pair in enumerate(pairs, start=1):
        scores[pair.name] = score_pair(pair, meaning, scoring)
        on_pair(number)
    return Evaluation(scores)


def score_pair(pair: MaskPair, meaning: Meaning, scoring: Scoring = PLAIN) -> Score:
    """Score one predicted mask against the true one.

    Raises:
        InputError: see `evaluate`.
    """
    if meaning.classes is not None:
        pair = in_classes(pair, meaning.names, meaning.classes)
    with (
        open_labels(pair.prediction, pair.prediction_view) as predicted,
        open_labels(pair.truth, pair.truth_view) as true,
    ):
        if predicted.shape != true.shape:
            raise InputError(
                f"{pair.prediction} is {size_text(predicted.shape)} and {pair.truth} is {size_text(true.shape)}: "
                "need masks of one image; check the pairing"
            )
        ignored = Ignored.of([(pair.prediction, predicted, None), (pair.truth, true, meaning.ignore)])
        predicted, true = ignored.without(predicted), ignored.without(true)
        confusion = _confusion(predicted, true, meaning, ignored)
        left_out = predicted.shape[0] * predicted.shape[1] - int(confusion.sum())
        outlines = _outlines(predicted, true, meaning, ignored) if meaning.boundaries else None
        distances = None if outlines is None else tuple(_distance(*both) for both in outlines)
        edges = None if outlines is None else tuple(boundary_f1(*both, scoring.tolerance) for both in outlines)
        if not meaning.objects:
            return Score(Totals(confusion, None), None, distances, edges, ignored=left_out)
        found = score_objects(pair, predicted, true, meaning, scoring)
        return Score(
            Totals(confusion, found.counts, found.agreement), found.partition, distances, edges, found.rows, left_out
        )


def _confusion(predicted: Slide, true: Slide, meaning: Meaning, ignored: Ignored) -> NDArray[np.int64]:
    classes = meaning.class_count
    confusion = np.zeros((classes, classes), np.int64)
    only_id: int | None = None
    for box in blocks(predicted.shape):
        p, t = read_ids(predicted, box), read_ids(true, box)
        if meaning.classes is None:
            if not meaning.instances:
                only_id = _single_id(p, only_id, predicted.path)
            p, t = (p > 0).astype(np.uint8), (t > 0).astype(np.uint8)
        else:
            _check_classes(p, classes, predicted.path)
            _check_classes(t, classes, true.path)
        if (holes := ignored.read(box)) is not None:
            p, t = p[~holes], t[~holes]
        confusion += confusion_matrix(p, t, classes)
    return confusion


def _outlines(
    predicted: Slide, true: Slide, meaning: Meaning, ignored: Ignored
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return the outlines of the prediction and of the truth, for each class but the background.

    Where an object reaches into what is ignored, it has no outline.
    """
    pairs = [(Outline(predicted.shape), Outline(true.shape)) for _ in range(1, meaning.class_count)]
    for box in blocks(predicted.shape):
        seen = pairs[0][0].window(box)
        p, t, holes = read_ids(predicted, seen), read_ids(true, seen), ignored.read(seen)
        for k, (outline_p, outline_t) in enumerate(pairs, start=1):
            outline_p.add(box, p > 0 if meaning.classes is None else p == k, holes)
            outline_t.add(box, t > 0 if meaning.classes is None else t == k, holes)
    return [(first.points, second.points) for first, second in pairs]


def _distance(first: NDArray[np.int64], second: NDArray[np.int64]) -> float:
    return hausdorff(first, second) if len(first) or len(second) else float("nan")


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
