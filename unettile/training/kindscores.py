"""Scores of kinds: objects that were found against true ones, kind by kind.

A true object whose kind is not known has no say, and neither has what was found in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.metrics.aggregate import FN, FP, TP, Agreement, class_counts
from unettile.metrics.overlaps import count_overlaps
from unettile.metrics.pairings import pair_objects
from unettile.training.kinds import UNKNOWN, ObjectKinds


@dataclass(frozen=True)
class KindCounts:
    """What scores of kinds are made of; adding two pools their objects.

    Args:
        table: (K, 4) of the kinds 1, 2, …: matched, invented and missed at an IoU above 0.5, and the matched ones' IoU.
        matched: objects that match a true one of a known kind, whatever kind they are found to be.
        right: how many of these are found to be of its kind.
    """

    table: NDArray[np.float64]
    matched: int
    right: int

    def __add__(self, other: KindCounts) -> KindCounts:
        return KindCounts(self.table + other.table, self.matched + other.matched, self.right + other.right)

    @property
    def panoptic_quality(self) -> NDArray[np.float64]:
        """Of the kinds 1, 2, …; NaN of a kind without objects, true or found."""
        return Agreement(0, 0, (0, 0, 0), self.table).panoptic_by_class

    @property
    def mpq(self) -> float | None:
        """The multi-class panoptic quality: the mean over the kinds that have objects; None where none has."""
        found = Agreement(0, 0, (0, 0, 0), self.table).multi_class_panoptic_quality
        return None if np.isnan(found) else found

    @property
    def f1(self) -> NDArray[np.float64]:
        """2 TP / (2 TP + FP + FN) of the kinds 1, 2, …; NaN of a kind without objects."""
        twice = 2 * self.table[:, TP]
        whole = twice + self.table[:, FP] + self.table[:, FN]
        found = np.full(len(whole), np.nan)
        np.divide(twice, whole, out=found, where=whole > 0)
        return found

    @property
    def true(self) -> NDArray[np.int64]:
        """How many true objects the kinds 1, 2, … have."""
        return (self.table[:, TP] + self.table[:, FN]).astype(np.int64)

    @property
    def accuracy(self) -> float | None:
        """The share of the matched objects whose kind is right; None where none is matched."""
        return self.right / self.matched if self.matched else None

    def to_card(self, names: Sequence[str]) -> dict[str, Any]:
        """Return the figures as JSON has them, those of kinds without objects left out.

        Args:
            names: of the kinds 1, 2, …
        """
        each = {
            name: {"pq": round(float(quality), 6), "f1": round(float(f1), 6), "objects": int(count)}
            for name, quality, f1, count in zip(names, self.panoptic_quality, self.f1, self.true, strict=True)
            if not np.isnan(quality)
        }
        right = {} if self.accuracy is None else {"right_kind": round(self.accuracy, 6)}
        return {"mpq": self.mpq, **right, "kinds": each}


def kind_counts(
    found: NDArray[np.integer], classes: NDArray[np.integer], true: NDArray[np.integer], kinds: ObjectKinds, count: int
) -> KindCounts:
    """Return the counts of one image.

    Args:
        found: (H, W) ids 1 … N.
        classes: (N,) of them.
        true: (H, W) ids.
        kinds: of the true ids.
        count: of the kinds.
    """
    overlaps = count_overlaps(found, true)
    ids = np.unique(overlaps.truth)
    truth = dict(zip(ids.tolist(), kinds.of(ids).tolist(), strict=True))
    prediction = dict(enumerate(classes.tolist(), start=1))
    pairs = [pair for pair in pair_objects(overlaps) if pair.result == "matched" and truth[pair.truth] != UNKNOWN]
    right = sum(truth[pair.truth] == prediction[pair.prediction] for pair in pairs)
    return KindCounts(class_counts(overlaps, prediction, truth, count), len(pairs), right)


def pooled(parts: Sequence[KindCounts]) -> KindCounts | None:
    """Return the counts of several images together; None of none."""
    return reduce(add, parts) if parts else None
