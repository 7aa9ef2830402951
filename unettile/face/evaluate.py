"""Scores of predicted masks against true ones, as `unettile evaluate` gives them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from unettile.errors import UsageError
from unettile.evaluation.comparison import Comparison, pair_classes
from unettile.evaluation.pairs import MaskPair, Meaning, mask_pair, note_ids, pair_masks
from unettile.evaluation.score import Evaluation
from unettile.face.advice import advise
from unettile.face.image import ImageLike, source_of


def evaluate(
    prediction: ImageLike | Sequence[ImageLike],
    truth: ImageLike | Sequence[ImageLike],
    *,
    objects: bool = False,
    boundaries: bool = False,
    classes: int | None = None,
    class_names: Sequence[str] = (),
    ignore: int | None = None,
    instances: bool = False,
    truth_components: bool = False,
    subset: bool = False,
    distance: float = 12.0,
    tolerance: float = 2.0,
    prediction_classes: ImageLike | Sequence[ImageLike] | None = None,
    truth_classes: ImageLike | Sequence[ImageLike] | None = None,
    match: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score masks against the truth, by pixel, by object and by outline.

    Args:
        prediction: a mask (H, W), the path of one or of a folder of them, or a list of masks.
        truth: the same of the true masks.
        objects: score objects, too: average precision at IoU 0.50 … 0.95, F1, panoptic quality, SEG, Rand error,
            variation of information.
        boundaries: score outlines, too: the Hausdorff distance at 95 %, px.
        classes: ids of both masks are the classes 0 … K - 1. None: an id above 0 is foreground, whatever it is.
        class_names: of the classes, background first, by which drawn labels have their numbers; () for those that a
            mask of unettile states, with `classes`.
        ignore: pixels of this number in the truth do not count, nor what lies there. Drawings have regions for it.
        instances: the prediction's ids are objects. Without it its objects are the connected parts of its foreground.
        truth_components: the truth's objects are the connected parts of its foreground. Without it its ids are objects.
        subset: of folders: let `truth` have images that `prediction` has not.
        distance: two objects count as detected where their middles are no further apart, px.
        tolerance: outlines agree where they are no further apart, px.
        prediction_classes, truth_classes: classes of the predicted and of the true objects, in the form of the masks.
        match: a .csv to write, of every matched, missed and invented object.
        overwrite: replace it if it exists.
        progress: takes images done and images in all.

    Returns:
        An `Evaluation`: `pooled.figures`, by name, over all images; `scores` by image; `intervals()`, of 95 %; and
        `to_dict()`, which is what `unettile evaluate --json` prints.

    Raises:
        InputError: a mask that is no label map, differing sizes, or ids that the options do not explain.
        UsageError: options that do not go together.

    Warns:
        Advice: ids that are taken for objects, and do not look like those of any.

    >>> import numpy as np, unettile
    >>> truth = np.array([[0, 1, 1, 0], [0, 1, 1, 0]])
    >>> scores = unettile.evaluate(np.roll(truth, 1, axis=1), truth, objects=True)
    >>> round(scores.pooled.figures["mean_iou"], 3), scores.pooled.figures["ap_50"]
    (0.333, 0.0)
    """
    meaning = Meaning(classes, instances, truth_components, objects, boundaries, tuple(class_names), ignore)
    kinds = pair_classes(prediction_classes, truth_classes, lambda *both: _pairs(*both, subset=True))
    comparison = Comparison(meaning, distance, tolerance, kinds, None if match is None else Path(match), overwrite)
    pairs = _pairs(prediction, truth, subset=subset)
    for note in note_ids(pairs, meaning):
        advise(note)
    tell = progress or (lambda done, total: None)
    return comparison.score(pairs, lambda done: tell(done, len(pairs)))


def _pairs(
    prediction: ImageLike | Sequence[ImageLike], truth: ImageLike | Sequence[ImageLike], *, subset: bool
) -> list[MaskPair]:
    """Return the pairs of two masks, of two folders, or of two lists of masks in their order, named by number."""
    if isinstance(prediction, str | os.PathLike) and isinstance(truth, str | os.PathLike):
        return pair_masks(Path(prediction), Path(truth), subset=subset)
    if not isinstance(prediction, list | tuple) and not isinstance(truth, list | tuple):
        return [mask_pair("0", source_of(prediction, "the prediction"), source_of(truth, "the truth"))]  # type: ignore[arg-type]
    if not isinstance(prediction, list | tuple) or not isinstance(truth, list | tuple) or len(prediction) != len(truth):
        raise UsageError("a list of predictions needs a list of as many true masks, in the same order")
    return [
        mask_pair(str(number), source_of(one, f"prediction {number}"), source_of(other, f"truth {number}"))
        for number, (one, other) in enumerate(zip(prediction, truth, strict=True))
    ]
