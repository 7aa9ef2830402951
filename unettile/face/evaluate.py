"""Scores of predicted masks against true ones, as `unettile evaluate` gives them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from unettile.errors import UsageError
from unettile.evaluation.evaluate import evaluate as score
from unettile.evaluation.objects import Scoring
from unettile.evaluation.pairs import MaskPair, Meaning, pair_masks
from unettile.evaluation.score import Evaluation
from unettile.face.image import ImageLike, source_of


def evaluate(
    prediction: ImageLike | Sequence[ImageLike],
    truth: ImageLike | Sequence[ImageLike],
    *,
    objects: bool = False,
    boundaries: bool = False,
    classes: int | None = None,
    instances: bool = False,
    truth_components: bool = False,
    subset: bool = False,
    distance: float = 12.0,
    tolerance: float = 2.0,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score masks against the truth, by pixel, by object and by outline.

    Args:
        prediction: a mask (H, W), the path of one or of a folder of them, or a list of masks.
        truth: the same of the true masks.
        objects: score objects, too: average precision at IoU 0.50 … 0.95, F1, panoptic quality, SEG, aggregated
            Jaccard, detection F1, Rand error, variation of information.
        boundaries: score outlines, too: the Hausdorff distance at 95 %, px, and boundary F1.
        classes: ids of both masks are the classes 0 … K - 1. None: an id above 0 is foreground, whatever it is.
        instances: the prediction's ids are objects. Without it its objects are the connected parts of its foreground.
        truth_components: the truth's objects are the connected parts of its foreground. Without it its ids are objects.
        distance: px; with `objects`, two count as detected where their middles are no further apart.
        tolerance: px; with `boundaries`, outlines agree where they are no further apart.
        subset: of folders: let `truth` have images that `prediction` has not.
        progress: takes images done and images in all.

    Returns:
        An `Evaluation`: `pooled.figures`, by name, over all images; `scores` by image; `intervals()`, of 95 %; and
        `to_dict()`, which is what `unettile evaluate --json` prints.

    Raises:
        InputError: a mask that is no label map, differing sizes, or ids that the options do not explain.
        UsageError: options that do not go together.

    >>> import numpy as np, unettile
    >>> truth = np.array([[0, 1, 1, 0], [0, 1, 1, 0]])
    >>> scores = unettile.evaluate(np.roll(truth, 1, axis=1), truth, objects=True)
    >>> round(scores.pooled.figures["mean_iou"], 3), scores.pooled.figures["ap_50"]
    (0.333, 0.0)
    """
    meaning = Meaning(classes, instances, truth_components, objects, boundaries)
    if isinstance(prediction, str | os.PathLike) and isinstance(truth, str | os.PathLike):
        pairs = pair_masks(Path(prediction), Path(truth), subset=subset)
    else:
        pairs = _pairs(prediction, truth)
    tell = progress or (lambda done, total: None)
    return score(pairs, meaning, lambda done: tell(done, len(pairs)), Scoring(distance, tolerance))


def _pairs(prediction: ImageLike | Sequence[ImageLike], truth: ImageLike | Sequence[ImageLike]) -> list[MaskPair]:
    """Return the pairs of two masks, or of two lists of masks in their order, which are named by number."""
    if not isinstance(prediction, list | tuple) and not isinstance(truth, list | tuple):
        return [MaskPair("0", source_of(prediction, "the prediction"), source_of(truth, "the truth"))]  # type: ignore[arg-type]
    if not isinstance(prediction, list | tuple) or not isinstance(truth, list | tuple) or len(prediction) != len(truth):
        raise UsageError("a list of predictions needs a list of as many true masks, in the same order")
    return [
        MaskPair(str(number), source_of(one, f"prediction {number}"), source_of(other, f"truth {number}"))
        for number, (one, other) in enumerate(zip(prediction, truth, strict=True))
    ]
