"""Validation: images as `segment` would segment them, scored by pixel and by object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from operator import add

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unettile.box import Box
from unettile.checkpoint import Checkpoint
from unettile.inference.kinds import make_planes
from unettile.inference.predict import Predictor
from unettile.inference.whole import compute_box
from unettile.metrics.objects import ObjectCounts, average_precision, match_counts
from unettile.metrics.pixels import confusion_matrix, iou
from unettile.objects.byrules import find_in_array, foreground_of
from unettile.training.kinds import UNKNOWN, ObjectKinds
from unettile.training.kindscores import KindCounts, kind_counts, pooled
from unettile.training.losses import weighted_cross_entropy
from unettile.training.reader import OpenPair
from unettile.training.recipe import Recipe
from unettile.training.survey import Source
from unettile.training.targets import target_of

PASSES = 3.0  # of a training step over a window, of which a validation takes one
LARGEST = 1540  # px; of a larger image the middle is scored, so that memory stays bounded


@dataclass(frozen=True)
class ImageScore:
    """How one image was segmented.

    Args:
        name: of the image.
        loss: mean cross entropy over its pixels.
        confusion: (K, K) pixels, rows are the true class.
        foreground: of instances, (2, 2) pixels: class 1 against all others, rows are the truth before gaps were carved;
            of several kinds, what the recipe's rules take for an object of any.
        objects: of instances, what the recipe's rules make of the prediction, against the instances at IoU 0.5.
        kinds: of instances of several kinds, the same by kind.
    """

    name: str
    loss: float
    confusion: NDArray[np.int64]
    foreground: NDArray[np.int64] | None
    objects: ObjectCounts | None
    kinds: KindCounts | None = None

    @property
    def foreground_iou(self) -> float:
        """Mean IoU of the classes but the background; NaN where there is nothing of them, neither true nor found."""
        if self.foreground is not None:
            return float(iou(self.foreground)[1])
        return _mean(iou(self.confusion)[1:])


@dataclass(frozen=True)
class Scores:
    """Scores over a set of images.

    Args:
        loss: mean cross entropy over images.
        iou: mean IoU of the classes but the background, all pixels pooled; of instances, that of all objects together.
        ap: of instances, AP at IoU 0.5, TP / (TP + FP + FN), mean over images, as in the 2018 Data Science Bowl.
        confusion: (K, K) pixels, rows are the true class.
        images: each by itself.
        kinds: of instances of several kinds, the objects of all images pooled; else None.
    """

    loss: float
    iou: float
    ap: float | None
    confusion: NDArray[np.int64]
    images: tuple[ImageScore, ...]
    kinds: KindCounts | None = None

    @property
    def mpq(self) -> float | None:
        """Multi-class panoptic quality of the kinds; None where there are none."""
        return None if self.kinds is None else self.kinds.mpq

    @classmethod
    def of(cls, images: Sequence[ImageScore]) -> Scores:
        """Return the scores of a set of scored images."""
        confusion = reduce(add, [image.confusion for image in images])
        foregrounds = [image.foreground for image in images if image.foreground is not None]
        score = iou(reduce(add, foregrounds))[1:] if foregrounds else iou(confusion)[1:]
        precisions = [average_precision(image.objects)[0] for image in images if image.objects is not None]
        return cls(
            float(np.mean([image.loss for image in images])),
            _mean(score),
            float(np.mean(precisions)) if precisions else None,
            confusion,
            tuple(images),
            pooled([image.kinds for image in images if image.kinds is not None]),
        )


@dataclass(frozen=True)
class Predicted:
    """What a network makes of an image, or of its middle.

    Args:
        box: the part of the image.
        probabilities: (K, h, w) float32.
    """

    box: Box
    probabilities: NDArray[np.float32]

    @property
    def classes(self) -> NDArray[np.uint8]:
        largest: NDArray[np.uint8] = self.probabilities.argmax(axis=0).astype(np.uint8)
        return largest


class Judge:
    """Scores a model on images, by what an engine makes of them in float32.

    Args:
        model: as it is when the first image is scored.
        device: as torch names it.
    """

    def __init__(self, model: Checkpoint, recipe: Recipe, device: str = "cpu") -> None:
        self._model, self._recipe, self._device = model, recipe, device

    @cached_property
    def _predictor(self) -> Predictor:
        # training goes on with the same memory
        parameters = {name: tensor.detach().clone() for name, tensor in self._model.parameters.items()}
        return Predictor(replace(self._model, parameters=parameters), self._device, "fp32")

    def score(self, source: Source, shifts: Sequence[float] = (0.0,)) -> list[ImageScore]:
        """Return the scores of one image, once for each number that is added to the logit of class 0."""
        with OpenPair(source.pair, self._recipe.labels) as opened:
            box = middle(source.shape)
            outputs = self._outputs(source, opened, box)
            labels, kinds = opened.ids(box), opened.kinds
        scores = []
        for shift in shifts:
            shifted = outputs.clone()
            shifted[:, 0] += shift
            scores.append(self._compare(source, shifted, labels, kinds))
        return scores

    def _compare(
        self, source: Source, outputs: Tensor, labels: NDArray[np.integer], kinds: ObjectKinds | None
    ) -> ImageScore:
        classes, part = self._recipe.classes, self._recipe.labels
        target = target_of(labels, part, str(source.pair.labels), kinds=kinds)
        counted = np.ones(labels.shape, np.bool_) if target.counted is None else target.counted
        share = torch.from_numpy(counted.astype(np.float32) * (counted.size / max(1, int(counted.sum()))))[None]
        loss = weighted_cross_entropy(outputs[:, :classes], torch.from_numpy(target.classes)[None], share, part.kinds)
        predicted = make_planes(("classes",), classes)(outputs)[0, 0].numpy()
        known = counted & (target.classes != UNKNOWN)
        confusion = confusion_matrix(predicted[known], target.classes[known], classes)
        foreground = objects = by_kind = None
        if target.instances is not None:
            found = self._foreground(outputs, predicted) & counted
            true = np.where(counted, labels, 0)
            foreground = confusion_matrix(found[counted].astype(np.uint8), (true[counted] > 0).astype(np.uint8), 2)
            ids, numbers = self._objects(outputs, counted)
            objects = match_counts(ids, true, (0.5,))
            by_kind = None if kinds is None else kind_counts(ids, numbers, true, kinds, part.kinds)
        return ImageScore(source.pair.full_name, float(loss), confusion, foreground, objects, by_kind)

    def _foreground(self, outputs: Tensor, predicted: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Return which pixels (h, w) are an object's, before the rules look at what they make together.

        Args:
            predicted: likeliest class of each.
        """
        count, rules = self._recipe.labels.kinds, self._recipe.objects
        if not (count and rules.threshold):
            likeliest: NDArray[np.bool_] = (predicted >= 1) & (predicted <= max(1, count))
            return likeliest
        mask = self._planes("probabilities", outputs)
        return foreground_of(mask, replace(rules, fill_holes=0), self._recipe.labels.class_names)

    def rest(self) -> None:
        """Let go of the memory that is kept for the next image."""
        if "_predictor" in self.__dict__:  # there may have been no image
            self._predictor.rest()

    def predict(self, source: Source) -> Predicted:
        """Return the probabilities of one image."""
        with OpenPair(source.pair, self._recipe.labels) as opened:
            box = middle(source.shape)
            outputs = self._outputs(source, opened, box)
        return Predicted(box, self._predictor.shares(outputs)[0])

    def _objects(self, outputs: Tensor, counted: NDArray[np.bool_]) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
        """Return ids (h, w) and classes of the objects that the recipe's rules make of outputs, as `segment` would."""
        rules, labels = self._recipe.objects, self._recipe.labels
        mask = self._planes("probabilities" if rules.threshold else "classes", outputs) * counted[:, :, None]
        depth = self._planes("depth", outputs) if labels.depth else None
        chances = self._planes("probabilities", outputs) * counted[:, :, None] if rules.rim else None
        return find_in_array(mask, depth, rules, labels.class_names, chances)

    def _planes(self, kind: str, outputs: Tensor) -> NDArray[np.uint8]:
        """Return the planes (h, w, P) of a kind of output."""
        made: NDArray[np.uint8] = make_planes((kind,), self._recipe.classes)(outputs)[0].permute(1, 2, 0).numpy()
        return made

    def _outputs(self, source: Source, opened: OpenPair, box: Box) -> Tensor:
        """Return the logits (1, K, h, w) float32 of a part of the image, of the classes and then of the depth."""
        planes = compute_box(opened.image, box, self._predictor, source.scaling, ("logits",))
        return torch.from_numpy(np.ascontiguousarray(planes))[None]


def validation_steps(sources: Sequence[Source], recipe: Recipe) -> float:
    """Return how many training steps take about as long as scoring images.

    A step passes over its windows three times, once there and, for two gradients, twice back.
    """
    pixels = sum(middle(source.shape).area for source in sources)
    return pixels / (recipe.run.batch * recipe.run.output_edge**2) / PASSES


def middle(shape: tuple[int, int]) -> Box:
    """Return the box that is scored of an image of that shape."""
    height, width = (min(edge, LARGEST) for edge in shape)
    y0, x0 = (shape[0] - height) // 2, (shape[1] - width) // 2
    return Box(y0, x0, y0 + height, x0 + width)


def _mean(values: NDArray[np.float64]) -> float:
    """Return the mean of the values that are numbers, or NaN if none is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
