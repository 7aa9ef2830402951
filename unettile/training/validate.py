"""Validation: whole images through the network in one window each, scored by pixel and by object."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from unettile.box import Box
from unettile.geometry import Geometry
from unettile.images.mirror import reflect_indices
from unettile.metrics.objects import average_precision, connected_components, match_counts
from unettile.metrics.pixels import confusion_matrix, iou
from unettile.training.loss import weighted_cross_entropy
from unettile.training.recipe import Recipe
from unettile.training.samples import Loaded, Source, classes_of, load_pair, to_channels

LARGEST = 1540  # px; of a larger image the middle is scored, so that memory stays bounded


@dataclass(frozen=True)
class Scores:
    """Scores over a set of images: mean cross entropy; IoU of each class; AP at IoU 0.5 of objects (None for classes).

    `iou` has one figure a class, pooled over all pixels; `ap` is the mean over images of TP / (TP + FP + FN), as in the
    2018 Data Science Bowl.
    """

    loss: float
    iou: tuple[float, ...]
    ap: float | None

    @property
    def foreground_iou(self) -> float:
        """Mean IoU of the classes but the background."""
        return float(np.nanmean(self.iou[1:]))

    def selected(self, by: str) -> float:
        """Return the figure that chooses the best epoch; larger is better."""
        if by == "loss":
            return -self.loss
        return self.foreground_iou if by == "iou" or self.ap is None else self.ap


def validate(network: nn.Module, geometry: Geometry, sources: Sequence[Source], recipe: Recipe) -> Scores:
    """Score a network (callable on (1, C, H, W), in eval mode, on its own device) on whole images."""
    device = next(network.parameters()).device
    confusion = np.zeros((recipe.classes, recipe.classes), np.int64)
    losses, precisions = [], []
    for source in sources:
        loaded = load_pair(source.pair)
        box = _middle(source.shape)
        window = torch.from_numpy(_window(loaded, source, box, geometry, recipe))[None].to(device)
        labels = loaded.labels[box.slices]
        truth = classes_of(labels, recipe, source.pair)
        with torch.inference_mode():
            logits = network(window.contiguous(memory_format=torch.channels_last))[:, :, : box.height, : box.width]
            target = torch.from_numpy(truth)[None].to(device)
            losses.append(float(weighted_cross_entropy(logits, target, torch.ones_like(target, dtype=torch.float32))))
            predicted = logits.argmax(dim=1)[0].to(torch.uint8).cpu().numpy()
        confusion += confusion_matrix(predicted, truth, recipe.classes)
        if recipe.labels.kind == "instances":
            counts = match_counts(connected_components(predicted > 0), labels, (0.5,))
            precisions.append(average_precision(counts)[0])
    ap = float(np.nanmean(precisions)) if precisions else None
    return Scores(float(np.mean(losses)), tuple(float(value) for value in iou(confusion)), ap)


def _middle(shape: tuple[int, int]) -> Box:
    height, width = (min(edge, LARGEST) for edge in shape)
    y0, x0 = (shape[0] - height) // 2, (shape[1] - width) // 2
    return Box(y0, x0, y0 + height, x0 + width)


def _window(loaded: Loaded, source: Source, box: Box, geometry: Geometry, recipe: Recipe) -> NDArray[np.float32]:
    """Return (C, H, W) float32: `box` with its margin, mirrored at the image's edges, rounded up to a legal window."""
    ends = (_window_end(box.height, geometry), _window_end(box.width, geometry))
    rows = reflect_indices(box.y0 - geometry.margin, box.y0 + ends[0], source.shape[0])
    columns = reflect_indices(box.x0 - geometry.margin, box.x0 + ends[1], source.shape[1])
    values = source.scaling.apply(loaded.image[np.ix_(rows, columns)])
    return to_channels(np.ascontiguousarray(values.transpose(2, 0, 1)), recipe, source.pair)


def _window_end(length: int, geometry: Geometry) -> int:
    return geometry.smallest_output_edge(length) + geometry.margin
