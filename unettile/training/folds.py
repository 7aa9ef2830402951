"""Folds: a set in parts, each of which validates a model that is trained on all others; and how these score."""

from __future__ import annotations

import hashlib
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unettile.checkpoint import load_checkpoint
from unettile.errors import InputError, UsageError
from unettile.training.pairs import Pair
from unettile.training.words import PLACE

MOST = 100


@dataclass(frozen=True)
class Fold:
    """One of several parts.

    Args:
        number: from 1.
        count: of all.

    Raises:
        UsageError: no such part.
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        if not 2 <= self.count <= MOST:
            raise UsageError(f"--folds {self.count}: need 2 to {MOST}")
        if not 1 <= self.number <= self.count:
            raise UsageError(f"--fold {self.number}: need 1 to {self.count}, the number of folds")

    @property
    def name(self) -> str:
        """Of its model in the folder of all."""
        return f"fold_{self.number}.safetensors"

    def split(self, pairs: Sequence[Pair]) -> tuple[tuple[Pair, ...], tuple[Pair, ...]]:
        """Return the pairs to train on, and those of this fold, which validate.

        Which fold an image is in depends on the names alone. Planes of a stack, and crops of an image, stay together,
        unless there are fewer stacks and images than folds.

        Raises:
            InputError: fewer pairs than folds.
        """
        if len(pairs) < self.count:
            raise InputError(
                f"{len(pairs)} images cannot be in {self.count} folds: need an image in each; lower --folds"
            )
        wholes = {pair: PLACE.sub("", pair.name.removesuffix(pair.plane)) for pair in pairs}
        if len(set(wholes.values())) < self.count:
            wholes = {pair: pair.name for pair in pairs}
        ranks = sorted(set(wholes.values()), key=lambda key: hashlib.sha256(os.fsencode(key)).hexdigest())
        mine = set(ranks[self.number - 1 :: self.count])
        return (
            tuple(pair for pair in pairs if wholes[pair] not in mine),
            tuple(pair for pair in pairs if wholes[pair] in mine),
        )


@dataclass(frozen=True)
class Spread:
    """Mean, standard deviation, smallest and largest of a score of the folds' models, each on its own fold."""

    mean: float
    deviation: float
    low: float
    high: float


def fold_scores(folder: Path, count: int) -> dict[str, Spread] | None:
    """Return how the models of all folds validate, by score; None as long as a fold has no model.

    Raises:
        InputError: a file that is no model.
    """
    files = [folder / Fold(number, count).name for number in range(1, count + 1)]
    if not all(file.exists() for file in files):
        return None
    cards = [load_checkpoint(file).card.get("scores", {}) for file in files]
    found = {}
    for key in ("iou", "ap", "mpq", "loss"):
        values = [float(card[key]) for card in cards if card.get(key) is not None]
        if len(values) == count:
            found[key] = Spread(statistics.mean(values), statistics.stdev(values), min(values), max(values))
    return found
