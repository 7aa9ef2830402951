"""Score predicted masks against true ones: pairs of files, pixels block by block, objects image by image.

What an id means is said, never guessed. The truth's ids are objects and the prediction's ids are one foreground class
unless the caller says otherwise; an id above 0 is foreground.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.errors import InputError, UsageError
from unettile.images.slide import Slide, image_stem, list_images, open_labels
from unettile.labels import check_labels
from unettile.metrics.objects import ObjectCounts, average_precision, connected_components, match_counts
from unettile.metrics.pixels import confusion_matrix, dice, iou

THRESHOLDS = tuple(percent / 100 for percent in range(50, 100, 5))
"""IoU thresholds of the object score."""

BLOCK_EDGE = 4096  # px; bounds the memory of the pixel score


@dataclass(frozen=True)
class Meaning:
    """What the ids of the two masks are.

    Args:
        classes: None scores foreground (id > 0) against background; K scores the class ids 0 … K - 1 of both masks.
        instances: the prediction's ids are objects; without it they are classes, whose objects are the connected
            components of its foreground.
        truth_components: the truth's ids are classes, too, and its objects the connected components.
        objects: score objects as well.

    Raises:
        UsageError: fewer than two classes, or ids that would be classes and objects at once.
    """

    classes: int | None = None
    instances: bool = False
    truth_components: bool = False
    objects: bool = False

    def __post_init__(self) -> None:
        if self.classes is not None and self.classes < 2:
            raise UsageError(f"--classes got {self.classes}: need 2 or more, the background counts as one")
        if self.classes is not None and self.instances:
            raise UsageError("--classes and --instances exclude each other: ids are classes or objects; give one")
        if self.truth_components and not self.objects:
            raise UsageError("--truth-components says what an object is: need --objects with it")


@dataclass(frozen=True)
class Score:
    """Agreement of one pair, or of a whole set when added up.

    Args:
        confusion: (K, K) int64 pixel counts, rows are the true class.
        counts: matched, invented and missed objects, or None where objects were not scored.
    """

    confusion: NDArray[np.int64]
    counts: ObjectCounts | None

    def __add__(self, other: Score) -> Score:
        counts = self.counts + other.counts if self.counts is not None and other.counts is not None else None
        return Score(self.confusion + other.confusion, counts)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON values; a class that is in neither mask has null."""
        result: dict[str, Any] = {
            "pixels": int(self.confusion.sum()),
            "iou": [_or_none(value) for value in iou(self.confusion)],
            "dice": [_or_none(value) for value in dice(self.confusion)],
            "confusion": self.confusion.tolist(),
        }
        if self.counts is not None:
            precision = average_precision(self.counts)
            result["objects"] = {
                "thresholds": list(self.counts.thresholds),
                "average_precision": [float(value) for value in precision],
                "mean_average_precision": float(precision.mean()),
                "true_positives": list(self.counts.tp),
                "false_positives": list(self.counts.fp),
                "false_negatives": list(self.counts.fn),
            }
        return result


@dataclass(frozen=True)
class Evaluation:
    """The scores of a set: by image, in order of name."""

    scores: dict[str, Score]

    @property
    def pooled(self) -> Score:
        """All pixels and all objects of the set counted as if they were in one image."""
        return reduce(add, self.scores.values())

    def to_dict(self) -> dict[str, Any]:
        result = {"pooled": self.pooled.to_dict(), "images": {name: s.to_dict() for name, s in self.scores.items()}}
        counts = [score.counts for score in self.scores.values() if score.counts is not None]
        if counts:
            by_image = np.mean([average_precision(count) for count in counts], axis=0)
            result["mean_over_images"] = {"average_precision": by_image.tolist(), "thresholds": list(THRESHOLDS)}
        return result


def pair_masks(prediction: Path, truth: Path, *, subset: bool = False) -> list[tuple[str, Path, Path]]:
    """Pair two files, or the images of two folders by their names without endings.

    Args:
        prediction, truth: two files or two folders.
        subset: let TRUTH have images that PREDICTION has not.

    Returns:
        (name, prediction, truth), in order of name.

    Raises:
        UsageError: a file against a folder.
        InputError: an image without its counterpart, or two images of one name in one folder.
    """
    if prediction.is_dir() != truth.is_dir() and prediction.exists() and truth.exists():
        raise UsageError(f"cannot compare a file with a folder ({prediction}, {truth}): give two files or two folders")
    if not prediction.is_dir():
        return [(image_stem(prediction), prediction, truth)]
    predictions, truths = _by_stem(prediction), _by_stem(truth)
    _need_all(predictions, truths, f"no truth in {truth}")
    if not subset:
        _need_all(truths, predictions, f"no prediction in {prediction} (--subset scores what is there)")
    return [(name, path, truths[name]) for name, path in predictions.items()]


def evaluate(pairs: list[tuple[str, Path, Path]], meaning: Meaning) -> Evaluation:
    """Score every pair.

    Raises:
        InputError: a mask that is no label map, differing sizes, or ids that `meaning` does not explain.
    """
    return Evaluation({name: score_pair(prediction, truth, meaning) for name, prediction, truth in pairs})


def score_pair(prediction: Path, truth: Path, meaning: Meaning) -> Score:
    """Score one predicted mask against the true one.

    Pixels are read block by block; for objects both masks are held whole.

    Raises:
        InputError: see `evaluate`.
    """
    classes = meaning.classes or 2
    confusion = np.zeros((classes, classes), np.int64)
    counts = None
    with open_labels(prediction) as predicted, open_labels(truth) as true:
        if predicted.shape != true.shape:
            raise InputError(
                f"{prediction} is {_by(predicted.shape)} px and {truth} is {_by(true.shape)} px: "
                "need masks of one image; check the pairing"
            )
        only_id: int | None = None
        for box in _blocks(predicted.shape):
            p, t = _read(predicted, box), _read(true, box)
            if meaning.classes is None:
                if not meaning.instances:
                    only_id = _single_id(p, only_id, prediction)
                p, t = (p > 0).astype(np.uint8), (t > 0).astype(np.uint8)
            else:
                _check_classes(p, classes, prediction)
                _check_classes(t, classes, truth)
            confusion += confusion_matrix(p, t, classes)
        if meaning.objects:
            whole = Box.of_shape(predicted.shape)
            p, t = _read(predicted, whole), _read(true, whole)
            counts = match_counts(
                p if meaning.instances else connected_components(p > 0),
                connected_components(t > 0) if meaning.truth_components else t,
                THRESHOLDS,
            )
    return Score(confusion, counts)


def _by_stem(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in list_images(folder):
        name = image_stem(path)
        if name in found:
            raise InputError(f"{found[name]} and {path} share a name: need one mask an image; remove one")
        found[name] = path
    return dict(sorted(found.items()))


def _need_all(names: dict[str, Path], counterparts: dict[str, Path], what: str) -> None:
    alone = [path.name for name, path in names.items() if name not in counterparts]
    if alone:
        more = f" and {len(alone) - 3} more" if len(alone) > 3 else ""
        raise InputError(f"{', '.join(alone[:3])}{more}: {what}; need equal names, endings aside")


def _blocks(shape: tuple[int, int]) -> Iterator[Box]:
    whole = Box.of_shape(shape)
    for y0 in range(0, shape[0], BLOCK_EDGE):
        for x0 in range(0, shape[1], BLOCK_EDGE):
            yield Box(y0, x0, y0 + BLOCK_EDGE, x0 + BLOCK_EDGE).intersect(whole)


def _read(slide: Slide, box: Box) -> NDArray[Any]:
    return check_labels(slide.read(box), str(slide.path))


def _single_id(labels: NDArray[Any], known: int | None, path: Path) -> int | None:
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


def _check_classes(labels: NDArray[Any], classes: int, path: Path) -> None:
    if labels.max() >= classes:
        raise InputError(f"{path} holds the id {labels.max()}: --classes {classes} allows 0 … {classes - 1}; raise it")


def _by(shape: tuple[int, int]) -> str:
    return f"{shape[1]} × {shape[0]}"


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
