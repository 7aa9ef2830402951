"""Score: how a prediction and the truth agree, for one image or for a set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.metrics.aggregate import Agreement, pool
from unettile.metrics.bootstrap import interval, resamplings
from unettile.metrics.objects import ObjectCounts, average_precision, f1, panoptic_quality, seg
from unettile.metrics.pairings import Pairing
from unettile.metrics.partitions import Partition
from unettile.metrics.pixels import accuracy, dice, iou

THRESHOLDS = tuple(percent / 100 for percent in range(50, 100, 5))
"""IoU thresholds of the object score."""


Place = tuple[int, float, float]
"""Area of an object, px, and its middle (y, x)."""


@dataclass(frozen=True)
class Row:
    """An object of an image, or two that match.

    Args:
        pairing: which.
        truth, prediction: where they are; None for none.
    """

    pairing: Pairing
    truth: Place | None
    prediction: Place | None


@dataclass(frozen=True)
class Totals:
    """What adds up over images: counts of pixels and of objects.

    Args:
        confusion: (K, K) int64 pixel counts, rows are the true class.
        counts: of objects, or None where they were not scored.
        agreement: of the same objects by area, place and class.
    """

    confusion: NDArray[np.int64]
    counts: ObjectCounts | None
    agreement: Agreement | None = None

    @property
    def figures(self) -> dict[str, float]:
        """Return the scores by name, each one number, larger is better but for `pixel_error`; NaN where undefined."""
        overlap, coefficient = iou(self.confusion), dice(self.confusion)
        result = {"pixel_error": 1 - accuracy(self.confusion), "mean_iou": _mean(overlap[1:])}
        result |= {f"iou_{k}": float(value) for k, value in enumerate(overlap)}
        result |= {f"dice_{k}": float(value) for k, value in enumerate(coefficient)}
        if self.counts is not None:
            precision = average_precision(self.counts)
            result |= {
                "ap_50": float(precision[0]),
                "mean_ap": float(precision.mean()),
                "f1_50": float(f1(self.counts)[0]),
                "panoptic_quality": panoptic_quality(self.counts),
                "seg": seg(self.counts),
            }
        if self.agreement is not None:
            result |= {"aji": self.agreement.aggregated_jaccard, "detection_f1": self.agreement.detection_f1}
            by_class = self.agreement.panoptic_by_class
            if by_class.size:
                result["mpq"] = self.agreement.multi_class_panoptic_quality
                result |= {f"pq_{k}": float(value) for k, value in enumerate(by_class, start=1)}
        return result

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON values; null where undefined, as for a class that is in neither mask."""
        result: dict[str, Any] = {
            "pixels": int(self.confusion.sum()),
            "pixel_error": _or_none(1 - accuracy(self.confusion)),
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
                "f1": [float(value) for value in f1(self.counts)],
                "panoptic_quality": panoptic_quality(self.counts),
                "seg": _or_none(seg(self.counts)),
                "true_positives": list(self.counts.tp),
                "false_positives": list(self.counts.fp),
                "false_negatives": list(self.counts.fn),
            }
        if self.agreement is not None:
            matched, invented, missed = self.agreement.near
            result["objects"] |= {
                "aggregated_jaccard": self.agreement.aggregated_jaccard,
                "detection": {
                    "f1": self.agreement.detection_f1,
                    "true_positives": int(matched),
                    "false_positives": int(invented),
                    "false_negatives": int(missed),
                },
            }
            by_class = self.agreement.panoptic_by_class
            if by_class.size:
                result["objects"]["multi_class_panoptic_quality"] = _or_none(
                    self.agreement.multi_class_panoptic_quality
                )
                result["objects"]["panoptic_quality_by_class"] = [_or_none(value) for value in by_class]
        return result


@dataclass(frozen=True)
class Score:
    """The agreement of one pair.

    Args:
        totals: what adds up over images.
        partition: of the objects, or None where they were not scored.
        hausdorff_95: px, of each class but the background; NaN for a class that is in neither mask, infinity for one
            that is in one of them. None where outlines were not scored.
        boundary_f1: of the same classes; NaN for one that is in neither mask.
        rows: every object, if they are to be listed.
        ignored: px that do not count.
    """

    totals: Totals
    partition: Partition | None = None
    hausdorff_95: tuple[float, ...] | None = None
    boundary_f1: tuple[float, ...] | None = None
    rows: tuple[Row, ...] = ()
    ignored: int = 0

    @property
    def figures(self) -> dict[str, float]:
        """Return the scores by name; besides those of `Totals`, what is defined for one image alone."""
        result = self.totals.figures
        if self.partition is not None:
            result |= {
                "adapted_rand_error": self.partition.adapted_rand_error,
                "variation_of_information": self.partition.variation_of_information,
            }
        if self.hausdorff_95 is not None:
            result |= {f"hausdorff_95_{k}": value for k, value in enumerate(self.hausdorff_95, start=1)}
        if self.boundary_f1 is not None:
            result |= {f"boundary_f1_{k}": value for k, value in enumerate(self.boundary_f1, start=1)}
        return result

    def to_dict(self) -> dict[str, Any]:
        result = self.totals.to_dict()
        if self.ignored:
            result["ignored_pixels"] = self.ignored
        if self.partition is not None:
            part = self.partition
            result["partition"] = {
                "adapted_rand_error": _or_none(part.adapted_rand_error),
                "rand_precision": _or_none(part.rand_precision),
                "rand_recall": _or_none(part.rand_recall),
                "variation_of_information": _or_none(part.variation_of_information),
                "information_merge": _or_none(part.information_merge),
                "information_split": _or_none(part.information_split),
            }
        if self.hausdorff_95 is not None:
            result["hausdorff_95"] = [_or_none(value) for value in self.hausdorff_95]
        if self.boundary_f1 is not None:
            result["boundary_f1"] = [_or_none(value) for value in self.boundary_f1]
        return result


@dataclass(frozen=True)
class Evaluation:
    """The scores of a set: by image, in order of name."""

    scores: dict[str, Score]

    @property
    def pooled(self) -> Totals:
        """All pixels and all objects of the set counted as if they were in one image."""
        return _pool([score.totals for score in self.scores.values()], np.ones(len(self.scores), np.int64))

    @property
    def mean_over_images(self) -> dict[str, float]:
        """Return the mean of each figure over the images in which it is a finite number."""
        return {name: _mean(values) for name, values in self._by_image().items()}

    @property
    def ranked_by(self) -> str:
        """Return the name of the figure that orders the images."""
        return "mean_iou" if self.pooled.counts is None else "mean_ap"

    @property
    def worst_first(self) -> list[str]:
        """Return the images' names, the worst first: by mean AP where objects were scored, else by foreground IoU."""
        figures = {name: score.figures for name, score in self.scores.items()}
        by = self.ranked_by
        return sorted(figures, key=lambda name: (math.isnan(figures[name][by]), figures[name][by], name))

    def intervals(self) -> dict[str, dict[str, tuple[float, float] | None]]:
        """Return 95 % confidence intervals of the pooled figures and of the means, by the bootstrap over images.

        Empty for a single image, which says nothing of the next one.
        """
        if len(self.scores) < 2:
            return {}
        totals = [score.totals for score in self.scores.values()]
        draws = resamplings(len(totals))
        pooled = [_pool(totals, draw).figures for draw in draws]
        means = {}
        for name, values in self._by_image().items():
            finite = np.isfinite(values)
            drawn = draws[:, finite]
            sums, counts = drawn @ values[finite], drawn.sum(axis=1)
            means[name] = interval(np.divide(sums, counts, out=np.full(len(draws), np.nan), where=counts > 0))
        return {
            "pooled": {name: interval(np.array([figures[name] for figures in pooled])) for name in pooled[0]},
            "mean_over_images": means,
        }

    def to_dict(self) -> dict[str, Any]:
        return {
            "pooled": self.pooled.to_dict(),
            "mean_over_images": {name: _or_none(value) for name, value in self.mean_over_images.items()},
            "confidence_95": self.intervals(),
            "worst_first": self.worst_first,
            "images": {name: score.to_dict() for name, score in self.scores.items()},
        }

    def _by_image(self) -> dict[str, NDArray[np.float64]]:
        figures = [score.figures for score in self.scores.values()]
        return {name: np.array([values[name] for values in figures]) for name in figures[0]}


def _pool(totals: Sequence[Totals], times: NDArray[np.int64]) -> Totals:
    """Add totals up, each as often as it was drawn."""
    confusion = np.tensordot(times, np.stack([one.confusion for one in totals]), axes=1)
    counts = [one.counts for one in totals if one.counts is not None]
    if not counts:
        return Totals(confusion, None)
    tp, fp, fn = (
        tuple((times @ np.array([getattr(count, name) for count in counts])).tolist()) for name in ("tp", "fp", "fn")
    )
    iou_sum, seg_sum = (float(times @ [getattr(count, name) for count in counts]) for name in ("iou_sum", "seg_sum"))
    agreements = [one.agreement for one in totals if one.agreement is not None]
    agreement = pool(agreements, times) if len(agreements) == len(totals) else None
    return Totals(confusion, ObjectCounts(counts[0].thresholds, tp, fp, fn, iou_sum, seg_sum), agreement)


def _mean(values: NDArray[np.float64]) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")


def _or_none(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
