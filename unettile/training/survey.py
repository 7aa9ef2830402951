"""Survey: every pair is looked at once before the first step, and what training needs to know of it is noted."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.errors import InputError
from unettile.images.normalize import Scaling
from unettile.objects.diameters import diameter_percentiles, object_areas, zoom_to
from unettile.training.kinds import UNKNOWN
from unettile.training.pairs import Pair
from unettile.training.reader import HELD_BYTES, OpenPair
from unettile.training.recipe import Recipe
from unettile.training.targets import target_margin, target_of
from unettile.weightmap import balanced_weights

PIECE = 1024  # px; labels are looked at piece by piece
PIECES = 256  # of a larger label image as many are looked at, spread evenly
AUTO_DIAMETERS = 16.0, 32.0  # px: a network of a few levels sees such objects whole
PLACES = 512  # pixels of each class that are noted for an image


@dataclass(frozen=True, eq=False)
class Source:
    """A pair that was looked at.

    Args:
        shape: (H, W).
        channels: of the image.
        scaling: how its values are scaled.
        counts: pixels of each class among those looked at; of objects of unknown kind none.
        places: for each class, (n, 2) int32: up to 512 of its pixels, (y, x); only where samples are balanced, or some
            pixels are to be ignored.
        areas: px of each object, if labels are instances; at the size at which the pair is read.
        objects: how many there are; None of labels that are classes, or too large to be looked at whole.
        pixel_size_um: mean edge of a pixel at that size; None if the image does not say.
        content: digest of the image, its labels and its weight map, sampled where they are large.
        kinds: how many objects are of each kind, those of unknown kind first; none where all are alike.
    """

    pair: Pair
    shape: tuple[int, int]
    channels: int
    scaling: Scaling
    counts: tuple[int, ...]
    places: tuple[NDArray[np.int32], ...]
    areas: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    objects: int | None = None
    pixel_size_um: float | None = None
    content: str = ""
    kinds: tuple[int, ...] = ()


def survey(pairs: Sequence[Pair], recipe: Recipe) -> tuple[Source, ...]:
    """Open each pair, refusing what cannot be trained on.

    Raises:
        InputError: unreadable files, labels that do not fit, or another number of channels than the network takes.
    """
    return tuple(_look_at(pair, recipe) for pair in pairs)


def settle_diameter(pairs: Sequence[Pair], recipe: Recipe) -> Recipe:
    """Return the recipe with a figure for `labels.diameter = "auto"`: the median over images, within AUTO_DIAMETERS."""
    if recipe.labels.diameter != "auto":
        return recipe
    areas = [found for found in (_areas(pair, recipe) for pair in pairs) if len(found)]
    medians = [diameter_percentiles(found, [50])[0] for found in areas]
    figure = float(np.clip(np.median(medians), *AUTO_DIAMETERS)) if medians else 0.0
    return replace(recipe, labels=replace(recipe.labels, diameter=round(figure, 1)))


def class_weights(sources: Sequence[Source], recipe: Recipe) -> tuple[float, ...] | None:
    """Return balanced weights over all training labels, or None for weights of 1.

    Raises:
        InputError: there is nothing but background.
    """
    counts = np.sum([source.counts for source in sources], axis=0)
    kinds = recipe.labels.names[1:]
    if recipe.labels.kinds and not counts[1 : len(kinds) + 1].any() and any(source.objects for source in sources):
        raise InputError(
            f"no object of the training labels is of a known kind: need some of {', '.join(kinds)[:100]}, as classes of"
            " drawn regions, as ids that unettile wrote, or in a table NAME.csv of id and class beside each label image"
        )
    if not counts[1:].any():
        raise InputError("the training labels are background only: need at least one labelled pixel")
    return balanced_weights([int(count) for count in counts]) if recipe.loss.class_weights == "balanced" else None


def _look_at(pair: Pair, recipe: Recipe) -> Source:
    areas = _areas(pair, recipe)
    if recipe.labels.diameter:
        assert isinstance(recipe.labels.diameter, float), "settled before"
        pair = replace(pair, zoom=zoom_to(recipe.labels.diameter, areas))
        areas = np.maximum(1, (areas * pair.zoom**2).round()).astype(np.int64)
    with OpenPair(pair, recipe.labels) as opened:
        image = opened.image
        need = recipe.in_channels
        if image.channels != need and not (image.channels == 1 and recipe.images.grey_to_rgb and need == 3):
            hint = " and images.grey_to_rgb=true" if image.channels == 1 and need == 3 else f"={image.channels}"
            raise InputError(
                f"{pair.image} has {image.channels} channels, the recipe's network takes {need}: set "
                f"{'network.in_channels' if hint.startswith('=') else 'network.in_channels=3'}{hint}"
                f"{', or choose with --channel' if image.channels > need else ''}"
            )
        scaling = recipe.normalization.measure(image)
        counts, places = _look_at_labels(opened, recipe)
        size = image.pixel_size_um
        return Source(
            pair,
            opened.shape,
            image.channels,
            scaling,
            counts,
            places,
            areas,
            _count_objects(opened, recipe, areas),
            None if size is None else (size[0] + size[1]) / 2,
            opened.content(),
            _count_kinds(opened, recipe),
        )


def set_digest(contents: Iterable[str]) -> str:
    """Return the SHA-256 of a set of pairs by the `Source.content` of each; their order and names do not matter."""
    return hashlib.sha256("\n".join(sorted(contents)).encode()).hexdigest()


def content_of(pair: Pair, recipe: Recipe) -> str:
    """Return a pair's `Source.content`.

    Raises:
        InputError: it cannot be read.
    """
    with OpenPair(pair, recipe.labels) as opened:
        return opened.content()


def _count_objects(opened: OpenPair, recipe: Recipe, areas: NDArray[np.int64]) -> int | None:
    if recipe.labels.kind == "instances":
        return len(areas)
    if recipe.labels.kind == "classes" or opened.nbytes > HELD_BYTES:
        return None
    return int(opened.ids(Box.of_shape(opened.shape)).max(initial=0))  # components are numbered from 1


def _count_kinds(opened: OpenPair, recipe: Recipe) -> tuple[int, ...]:
    if opened.kinds is None:
        return ()
    pieces = Box.of_shape(opened.shape).pieces(PIECE, PIECES)
    ids = np.unique(np.concatenate([np.unique(_counted(opened.ids(box), recipe.labels.ignore)) for box in pieces]))
    kinds = opened.kinds.of(ids[ids > 0])
    counts = np.bincount(kinds[kinds > 0], minlength=recipe.labels.kinds + 1)
    counts[0] = int((kinds == UNKNOWN).sum())
    return tuple(int(count) for count in counts)


def _look_at_labels(opened: OpenPair, recipe: Recipe) -> tuple[tuple[int, ...], tuple[NDArray[np.int32], ...]]:
    seed = int.from_bytes(hashlib.sha256(os.fsencode(opened.pair.name)).digest()[:8], "big")
    rng = np.random.default_rng(seed)
    whole, margin = Box.of_shape(opened.shape), target_margin(recipe.labels)
    counts = np.zeros(recipe.classes, np.int64)
    balance, partial = recipe.samples.balance == "classes", False
    noted = range(recipe.classes) if balance or recipe.labels.ignore >= 0 else ()
    found: list[list[tuple[NDArray[np.float64], NDArray[np.int32]]]] = [[] for _ in range(recipe.classes)]
    for box in Box.of_shape(opened.shape).pieces(PIECE, PIECES):
        near = box.expand(margin).intersect(whole)
        target = target_of(opened.ids(near), recipe.labels, str(opened.pair.labels), kinds=opened.kinds)
        counted = target.classes if target.counted is None else np.where(target.counted, target.classes, -1)
        classes = counted[box.relative_to(near).slices]
        counts += np.bincount(classes[classes >= 0].ravel(), minlength=recipe.classes)
        partial |= target.counted is not None and not target.counted[box.relative_to(near).slices].all()
        for index in noted:
            flat = np.flatnonzero(classes == index)
            keys = rng.random(len(flat))  # the pixels of the smallest keys are a fair choice over all pieces
            chosen = np.argsort(keys)[:PLACES]
            y, x = np.unravel_index(flat[chosen], classes.shape)
            found[index].append((keys[chosen], np.stack([y + box.y0, x + box.x0], axis=1).astype(np.int32)))
    places = []
    for parts in found if balance or partial else ():
        keys = np.concatenate([part[0] for part in parts])
        places.append(np.concatenate([part[1] for part in parts])[np.argsort(keys)[:PLACES]])
    return tuple(int(count) for count in counts), tuple(places)


def _areas(pair: Pair, recipe: Recipe) -> NDArray[np.int64]:
    """Return the px of each object of a pair, none of labels that are no instances."""
    if recipe.labels.kind != "instances":
        return np.empty(0, np.int64)
    with OpenPair(pair, recipe.labels) as opened:
        return object_areas(
            _counted(opened.ids(box), recipe.labels.ignore) for box in Box.of_shape(opened.shape).pieces(PIECE, PIECES)
        )


def _counted(ids: NDArray[np.integer], ignore: int) -> NDArray[np.integer]:
    return ids[ids != ignore] if ignore > 0 else ids
