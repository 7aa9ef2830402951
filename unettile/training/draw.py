"""Drawing: which image a sample comes from, which place in it, and so how large the objects are that are seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from unettile.errors import InputError
from unettile.objects.diameters import diameter_percentiles
from unettile.objectsize import ObjectSize
from unettile.training.parts import SamplePart
from unettile.training.recipe import Recipe
from unettile.training.survey import Source

PERCENTILES = 50, 5, 95
ZOOMS = 16  # equal steps into which the range of magnifications is divided


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
            if source.places and any(source.counts):  # only a part of it is labelled
                chosen = _pick(rng, np.cumsum(source.counts))
                return source, self._near(source, chosen, rng)
            y, x = rng.uniform((0, 0), (source.shape[0] - 1, source.shape[1] - 1))
            return source, (float(y), float(x))
        chosen = int(rng.integers(len(self._by_class)))
        source = self._sources[_pick(rng, self._by_class[chosen])]
        return source, self._near(source, self._classes[chosen], rng)

    def _near(self, source: Source, number: int, rng: np.random.Generator) -> tuple[float, float]:
        """Return a place near a pixel of a class."""
        places = source.places[number]
        y, x = places[rng.integers(len(places))] + rng.uniform(-self._spread, self._spread, 2)
        return float(y), float(x)


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


def objects_seen(sources: Sequence[Source], recipe: Recipe) -> ObjectSize | None:
    """Return the sizes of the objects of training images, each as often as it is drawn and as large as it is shown.

    Returns:
        None of labels that are no instances, or that have no object.
    """
    weights = {name: part.weight for name, part in recipe.sources.items()} or None
    odds = image_odds(sources, recipe.samples, weights)
    each = [odd / (source.shape[0] * source.shape[1]) for odd, source in zip(odds, sources, strict=True)]
    areas = np.concatenate([source.areas for source in sources]).astype(np.float64)
    if not len(areas):
        return None
    drawn = np.repeat(each, [len(source.areas) for source in sources])
    low, high = np.log(recipe.augment.zoom)
    zooms = np.exp(low + (high - low) * (np.arange(ZOOMS) + 0.5) / ZOOMS)
    plain = recipe.augment.plain
    shown = [(1.0, plain), *((float(zoom), (1 - plain) / ZOOMS) for zoom in zooms)]
    # an object shown larger fills more of a sample, and as much less of it is in the sample: the share stays
    sizes = np.concatenate([areas * zoom**2 for zoom, _ in shown])
    shares = np.concatenate([drawn * share / zoom**2 for zoom, share in shown])
    kept = shares > 0
    median, smallest, largest = diameter_percentiles(sizes[kept], PERCENTILES, shares[kept])
    return ObjectSize(round(float(median), 1), round(float(smallest), 1), round(float(largest), 1))


def _pick(rng: np.random.Generator, sums: NDArray[np.float64]) -> int:
    return int(np.searchsorted(sums, rng.random() * sums[-1], side="right"))
