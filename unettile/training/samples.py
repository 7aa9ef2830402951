"""Samples: a scaled, augmented window, its labels and its weight map, made from pairs of files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.errors import InputError
from unettile.images.normalize import Scaling
from unettile.training.augment import (
    Warp,
    draw_plain_warp,
    draw_warp,
    reflect,
    resample,
    resample_labels,
    resample_map,
    vary_values,
)
from unettile.training.draw import Draw
from unettile.training.kinds import UNKNOWN
from unettile.training.pairs import Pair
from unettile.training.reader import OpenPair, PairReader
from unettile.training.recipe import Recipe
from unettile.training.survey import Source
from unettile.training.targets import normalized_depth, target_margin, target_of
from unettile.weightmap import reach

Sample = tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]


Arrays = tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]
"""A batch of samples: windows (N, C, n, n), classes, weights and depths (N, m, m)."""


class Samples:
    """Random samples, numbered: sample i is a function of the recipe's seed and i, whichever process makes it.

    Item: (window (C, n, n) float32, classes (m, m) int64, weights (m, m) float32, depth (m, m) float32, or (0, 0) if
    none is learnt), m = n - 2·lost; or why there is none, for a worker's exception would reach the training process as
    another.

    Args:
        lost: px that the network's output is smaller than its window, on each side.
        class_weights: w_c of each class, or None for 1.
    """

    def __init__(
        self, sources: Sequence[Source], recipe: Recipe, lost: int, class_weights: tuple[float, ...] | None
    ) -> None:
        self._recipe = recipe
        self._balance = None if class_weights is None else _by_class(class_weights, recipe.labels.kinds)
        weights = {name: part.weight for name, part in recipe.sources.items()}
        self._draw = Draw(sources, recipe.samples, recipe.run.output_edge / 4, weights)
        self._reader = PairReader(recipe.labels)
        gap = max(recipe.labels.gap, recipe.labels.border)
        self._lost = lost
        self._near = max(reach(recipe.loss.sigma) + gap, target_margin(recipe.labels))  # cells outside that count

    def __len__(self) -> int:
        run = self._recipe.run
        return run.epochs * run.steps_per_epoch * run.batch

    def __getitem__(self, index: int) -> Sample | InputError:
        rng = np.random.default_rng((self._recipe.run.seed, index))
        source, centre = self._draw(rng)
        edge = self._recipe.run.output_edge + 2 * max(self._lost, self._near)
        augment = self._recipe.augment
        plain = augment.plain > 0 and rng.random() < augment.plain
        warp = (draw_plain_warp if plain else draw_warp)(rng, augment, edge, centre)
        try:
            opened = self._reader.get(source.pair)
            image = self._window(None if plain else rng, opened, source.scaling, warp)
            return (image, *self._truth(opened, warp))
        except InputError as error:
            return error

    def close(self) -> None:
        """Close the files that this process has open."""
        self._reader.close()

    def _window(
        self, rng: np.random.Generator | None, opened: OpenPair, scaling: Scaling, warp: Warp
    ) -> NDArray[np.float32]:
        """Return the window that the network sees, its values varied if there is an `rng`."""
        recipe = self._recipe
        box, y, x = _touched(warp.centre(recipe.run.output_edge + 2 * self._lost), opened.shape)
        image = resample(opened.image.read(box), y, x, scaling)
        if rng is not None:
            if recipe.images.signed:
                image = image * np.float32(0.5) + np.float32(0.5)
            image = vary_values(rng, recipe.augment, image)
            if recipe.images.signed:
                image = image * np.float32(2) - np.float32(1)
        return to_channels(image, recipe, opened.pair)

    def _truth(
        self, opened: OpenPair, warp: Warp
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
        recipe, edge, near = self._recipe, self._recipe.run.output_edge, self._near
        box, y, x = _touched(warp.centre(edge + 2 * near), opened.shape)
        labels = resample_labels(opened.ids(box), y, x)
        target = target_of(labels, recipe.labels, str(opened.pair.labels), recipe.loss.sigma, opened.kinds)
        middle = np.s_[near : near + edge, near : near + edge]
        classes = np.ascontiguousarray(target.classes[middle])
        made_before = opened.weights(box)
        if made_before is not None:
            weights = resample_map(made_before, y, x)[middle]
        else:
            weights = target.weights(recipe.loss.w0, recipe.loss.sigma)[middle]
            if self._balance is not None:
                weights = weights + self._balance[classes] - 1  # replaces the class term, which is 1
        if target.counted is not None:
            weights = np.where(target.counted[middle], weights, 0)
        depth = normalized_depth(labels)[middle] if recipe.labels.depth else np.empty((0, 0), np.float32)
        return classes, np.ascontiguousarray(weights, np.float32), np.ascontiguousarray(depth)


def _by_class(weights: Sequence[float], kinds: int) -> NDArray[np.float32]:
    """Return the weight of each class, and last, where the index UNKNOWN finds it, that of objects of unknown kind.

    It is what a pixel of an object has on average: as a class's share in the loss is its pixels times their weight, and
    the same for all, that is the harmonic mean of the weights of the kinds.
    """
    assert UNKNOWN == -1
    some = np.array([weight for weight in weights[1 : kinds + 1] if weight > 0])
    return np.array([*weights, some.size / (1 / some).sum() if some.size else 0.0], np.float32)


def to_channels(image: NDArray[np.float32], recipe: Recipe, pair: Pair) -> NDArray[np.float32]:
    """Return an image (C, H, W) with the network's number of channels; grey is repeated if the recipe says so.

    Raises:
        InputError: another number of channels.
    """
    need = recipe.in_channels
    if len(image) == 1 and need == 3 and recipe.images.grey_to_rgb:
        return np.repeat(image, 3, axis=0)
    if len(image) != need:
        raise InputError(f"{pair.image} has {len(image)} channels, the network takes {need}: set network.in_channels")
    return image


def collate(samples: list[Sample | InputError]) -> Arrays | InputError:
    """Return windows (N, C, n, n), classes, weights and depths (N, m, m) of samples, or why one could not be made."""
    made: list[Sample] = []
    for sample in samples:
        if isinstance(sample, InputError):
            return sample
        made.append(sample)
    windows, classes, weights, depths = (np.stack(arrays) for arrays in zip(*made, strict=True))
    return windows, classes, weights, depths


def _touched(warp: Warp, shape: tuple[int, int]) -> tuple[Box, NDArray[np.float32], NDArray[np.float32]]:
    """Return the box of an image that a warp reads, and the warp's coordinates within that box."""
    y, x = reflect(warp.y, shape[0]), reflect(warp.x, shape[1])
    y0, x0 = int(y.min()), int(x.min())
    box = Box(y0, x0, min(int(y.max()) + 2, shape[0]), min(int(x.max()) + 2, shape[1]))
    return box, y - np.float32(y0), x - np.float32(x0)
