"""Samples: a scaled, augmented window, its labels and its weight map, made from pairs of files."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from unettile.box import Box
from unettile.errors import InputError
from unettile.geometry import Geometry
from unettile.images.normalize import Scaling
from unettile.images.slide import open_labels, open_slide
from unettile.labels import carve_gaps, check_labels
from unettile.training.augment import draw_warp, reflect, resample, resample_labels, vary_values
from unettile.training.pairs import Pair
from unettile.training.recipe import Recipe
from unettile.weightmap import reach, weight_map

CACHE_BYTES = 2**29  # decoded images and labels that one process keeps; a larger set is read again when needed


@dataclass(frozen=True)
class Source:
    """A pair that was looked at once: its shape (H, W) and how its values are scaled."""

    pair: Pair
    shape: tuple[int, int]
    scaling: Scaling


@dataclass(frozen=True)
class Loaded:
    """The arrays of a pair: image (H, W, C) in its own dtype, labels (H, W), weights (H, W) float32 or None."""

    image: NDArray[np.generic]
    labels: NDArray[np.integer]
    weights: NDArray[np.float32] | None

    @property
    def nbytes(self) -> int:
        return self.image.nbytes + self.labels.nbytes + (0 if self.weights is None else self.weights.nbytes)


class PairCache:
    """Reads pairs, keeping the latest used up to `limit` bytes."""

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self._limit = limit
        self._bytes = 0
        self._kept: OrderedDict[Pair, Loaded] = OrderedDict()

    def load(self, pair: Pair) -> Loaded:
        if pair in self._kept:
            self._kept.move_to_end(pair)
            return self._kept[pair]
        loaded = load_pair(pair)
        self._kept[pair] = loaded
        self._bytes += loaded.nbytes
        while self._bytes > self._limit and len(self._kept) > 1:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return loaded


def load_pair(pair: Pair) -> Loaded:
    """Read the files of a pair.

    Raises:
        InputError: unreadable files, or labels or weights of another size than the image.
    """
    with open_slide(pair.image) as slide:
        image = slide.read(Box.of_shape(slide.shape))
    with open_labels(pair.labels) as slide:
        if slide.channels != 1:
            raise InputError(f"{pair.labels} has {slide.channels} channels: labels need one, with ids or classes")
        labels = check_labels(slide.read(Box.of_shape(slide.shape))[..., 0], str(pair.labels))
    weights = None
    if pair.weights is not None:
        with open_slide(pair.weights) as slide:
            weights = slide.read(Box.of_shape(slide.shape))[..., 0].astype(np.float32)
    for array, path in ((labels, pair.labels), (weights, pair.weights)):
        if array is not None and array.shape != image.shape[:2]:
            raise InputError(f"{path} has shape {array.shape}, its image has {image.shape[:2]}: they must agree")
    return Loaded(image, labels, weights)


def classes_of(labels: NDArray[np.integer], recipe: Recipe, pair: Pair) -> NDArray[np.int64]:
    """Return class indices for a label array.

    Raises:
        InputError: a class that the recipe does not name.
    """
    if recipe.labels.kind == "instances":
        return (labels > 0).astype(np.int64)
    if labels.size and labels.max() >= recipe.classes:
        raise InputError(
            f"{pair.labels} has class {labels.max()}, the recipe names {recipe.classes}: add to labels.names, or set "
            "labels.kind=instances if these are ids"
        )
    return labels.astype(np.int64)


def to_channels(image: NDArray[np.float32], recipe: Recipe, pair: Pair) -> NDArray[np.float32]:
    """Return an image (C, H, W) with the network's number of channels; grey is repeated if the recipe says so.

    Raises:
        InputError: another number of channels.
    """
    need = recipe.network.in_channels
    if len(image) == 1 and need == 3 and recipe.images.grey_to_rgb:
        return np.repeat(image, 3, axis=0)
    if len(image) != need:
        raise InputError(f"{pair.image} has {len(image)} channels, the network takes {need}: set network.in_channels")
    return image


class Samples(Dataset[tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]]):
    """Random samples, numbered: sample i is a function of the recipe's seed and i, whichever process makes it.

    Item: (window (C, n, n) float32, classes (m, m) int64, weights (m, m) float32), m = n - 2·margin.
    """

    def __init__(
        self, sources: Sequence[Source], recipe: Recipe, geometry: Geometry, class_weights: tuple[float, ...] | None
    ) -> None:
        self._sources = tuple(sources)
        self._recipe = recipe
        self._geometry = geometry
        self._class_weights = class_weights
        self._cache = PairCache()
        # larger images are drawn more often, but not in proportion: many small images show more variety
        areas = np.array([height * width for height, width in (source.shape for source in sources)], np.float64)
        self._odds = np.sqrt(areas) / np.sqrt(areas).sum()

    def __len__(self) -> int:
        run = self._recipe.run
        return run.epochs * run.steps_per_epoch * run.batch

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
        recipe, edge = self._recipe, self._recipe.run.output_edge
        rng = np.random.default_rng((recipe.run.seed, index))
        source = self._sources[rng.choice(len(self._sources), p=self._odds)]
        loaded = self._cache.load(source.pair)
        warp = draw_warp(rng, recipe.augment, self._geometry.input_edge(edge), source.shape)
        image = self._window(loaded, source, reflect(warp.y, source.shape[0]), reflect(warp.x, source.shape[1]))
        image = vary_values(rng, recipe.augment, image)

        beyond = reach(recipe.loss.sigma) + recipe.labels.gap
        near = min(beyond, self._geometry.margin)  # cells just outside the output still count
        inner = warp.centre(edge + 2 * near)
        y, x = reflect(inner.y, source.shape[0]), reflect(inner.x, source.shape[1])
        labels = resample_labels(loaded.labels, y, x)
        middle = slice(near, near + edge)
        if recipe.labels.kind == "instances":
            labels = carve_gaps(labels, recipe.labels.gap)
        classes = classes_of(labels, recipe, source.pair)[middle, middle]
        if loaded.weights is not None:
            weights = resample(loaded.weights[..., None], y, x)[0][middle, middle]
        else:
            weights = self._weights(labels)[middle, middle]
        if self._class_weights is not None and loaded.weights is None:
            balance = np.asarray(self._class_weights, np.float32)
            weights = weights + balance[classes] - 1  # replaces the class term, which is 1
        return np.ascontiguousarray(image), np.ascontiguousarray(classes), np.ascontiguousarray(weights, np.float32)

    def _weights(self, labels: NDArray[np.integer]) -> NDArray[np.float32]:
        loss = self._recipe.loss
        if self._recipe.labels.kind == "instances" and loss.w0 > 0:
            return weight_map(labels, loss.w0, loss.sigma)
        return np.ones(labels.shape, np.float32)

    def _window(
        self, loaded: Loaded, source: Source, y: NDArray[np.float32], x: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Scale and resample the part of the image that the window touches."""
        y0, x0 = int(y.min()), int(x.min())
        part = loaded.image[y0 : int(np.ceil(y.max())) + 1, x0 : int(np.ceil(x.max())) + 1]
        samples = resample(source.scaling.apply(part), y - np.float32(y0), x - np.float32(x0))
        return to_channels(samples, self._recipe, source.pair)
