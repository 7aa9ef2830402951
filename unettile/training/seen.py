"""Seen: how large the objects are that the network sees while it is trained."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unettile.objects.diameters import diameter_percentiles
from unettile.objectsize import ObjectSize
from unettile.training.draw import image_odds
from unettile.training.recipe import Recipe
from unettile.training.survey import Source

PERCENTILES = 50, 5, 95
ZOOMS = 16  # equal steps into which the range of magnifications is divided


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
