"""Drawing: which image a sample comes from, and which place in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from unettile.errors import InputError
from unettile.training.parts import SamplePart
from unettile.training.survey import Source


class Draw:
    """Draws images and places as `[samples]` of a recipe says.

    Args:
        sources: what there is.
        spread: px; a place drawn for its class lies within so much of the sample's centre, in y and in x.
        weights: of the recipe's sources by name, if it has some.

    Raises:
        InputError: a pattern of `weights` that matches no image.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        part: SamplePart,
        spread: float,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        self._sources = tuple(sources)
        self._spread = spread
        odds = image_odds(sources, part, weights)
        self._all = np.cumsum(odds)
        self._by_class: list[NDArray[np.float64]] = []
        if part.balance == "classes":
            has = np.array([[count > 0 for count in source.counts] for source in sources], np.float64)
            self._classes = [int(index) for index in np.flatnonzero(has.any(axis=0))]
            self._by_class = [np.cumsum(odds * has[:, index]) for index in self._classes]

    def __call__(self, rng: np.random.Generator) -> tuple[Source, tuple[float, float]]:
        """Return an image and the centre (y, x) of a sample."""
        if not self._by_class:
            source = self._sources[_pick(rng, self._all)]
            y, x = rng.uniform((0, 0), (source.shape[0] - 1, source.shape[1] - 1))
            return source, (float(y), float(x))
        chosen = int(rng.integers(len(self._by_class)))
        source = self._sources[_pick(rng, self._by_class[chosen])]
        places = source.places[self._classes[chosen]]
        y, x = places[rng.integers(len(places))] + rng.uniform(-self._spread, self._spread, 2)
        return source, (float(y), float(x))


def image_odds(
    sources: Sequence[Source], part: SamplePart, weights: Mapping[str, float] | None = None
) -> NDArray[np.float64]:
    """Return how likely each image is drawn, (n,), of sum 1.

    Args:
        weights: of the recipe's sources by name, which then share the samples so; None for one source.

    Raises:
        InputError: a pattern of `part.weights` that matches no image.
    """
    odds = np.array([float(source.shape[0] * source.shape[1]) for source in sources]) ** part.area
    for pattern, weight in part.weights.items():
        matched = np.array([fnmatchcase(source.pair.name, pattern) for source in sources])
        if not matched.any():
            raise InputError(f"samples.weights: no training image is called {pattern!r}; patterns match names")
        odds[matched] *= weight
    names = np.array([source.pair.source for source in sources])
    kinds = np.array([source.channels for source in sources])
    for name in np.unique(names):  # of each source by itself
        own = names == name
        shares = {kind: odds[own & (kinds == kind)].sum() / odds[own].sum() for kind in np.unique(kinds[own])}
        for kind, share in shares.items():
            odds[own & (kinds == kind)] *= share**-part.kinds
        if weights:
            odds[own] *= weights[str(name)] / odds[own].sum()
    likely: NDArray[np.float64] = odds / odds.sum()
    return likely


def _pick(rng: np.random.Generator, sums: NDArray[np.float64]) -> int:
    return int(np.searchsorted(sums, rng.random() * sums[-1], side="right"))
