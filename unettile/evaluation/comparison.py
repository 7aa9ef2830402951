"""Comparison: what is scored of pairs of masks, by which rules, and where every object is listed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from unettile.errors import InputError, UsageError
from unettile.evaluation.evaluate import evaluate
from unettile.evaluation.matches import check_matches, write_matches
from unettile.evaluation.objects import Scoring
from unettile.evaluation.pairs import MaskPair, Meaning
from unettile.evaluation.score import Evaluation

Mask = TypeVar("Mask")


@dataclass(frozen=True)
class Comparison:
    """What is asked of pairs of masks.

    Args:
        meaning: of the ids of the masks.
        distance: largest distance of the middles of two objects that detection takes for one, px.
        tolerance: largest distance of two outlines that agree, px.
        classes: pairs of images of the objects' classes; None where ids know theirs, or have none.
        match: a .csv to write, of every matched, missed and invented object.
        overwrite: replace it if it exists.

    Raises:
        UsageError: options that do not go together, or a number out of range.
        InputError: `match` exists.
    """

    meaning: Meaning
    distance: float = 12.0
    tolerance: float = 2.0
    classes: Sequence[MaskPair] | None = None
    match: Path | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        if not self.meaning.objects and (self.match is not None or self.classes is not None):
            raise UsageError(
                "--match, --prediction-classes and --truth-classes are about objects: give --objects with them"
            )
        self._scoring()
        if self.match is not None:
            check_matches(self.match, overwrite=self.overwrite)

    def score(self, pairs: Sequence[MaskPair], on_pair: Callable[[int], None] = lambda done: None) -> Evaluation:
        """Score every pair, and write the list of their objects, if it is asked for.

        Args:
            on_pair: takes the number of pairs done.

        Raises:
            InputError: see `evaluate`; or a pair without its classes.
        """
        scoring = self._scoring()
        maps = scoring.class_maps
        if maps is not None and len(pairs) > 1 and (alone := [pair.name for pair in pairs if pair.name not in maps]):
            raise InputError(f"{alone[0]} has no classes among those that were given: need equal names")
        evaluation = evaluate(pairs, self.meaning, on_pair, scoring)
        if self.match is not None:
            write_matches(self.match, evaluation)
        return evaluation

    def _scoring(self) -> Scoring:
        maps = None if self.classes is None else {pair.name: pair for pair in self.classes}
        return Scoring(self.distance, self.tolerance, maps, self.match is not None)


def pair_classes(
    prediction: Mask | None, truth: Mask | None, pair: Callable[[Mask, Mask], list[MaskPair]]
) -> list[MaskPair] | None:
    """Return the pairs of images of classes; None for neither.

    Raises:
        UsageError: one without the other.
        InputError: see `pair`.
    """
    if prediction is None and truth is None:
        return None
    if prediction is None or truth is None:
        raise UsageError("--prediction-classes and --truth-classes belong together: give both")
    return pair(prediction, truth)
