"""Losses: weighted softmax cross entropy (U-Net paper, equation 1), Dice and focal loss, and sums of them.

Networks of one logit z put out (0, z), whose softmax is the sigmoid of z: there is one path for both.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from unettile.training.parts import LossPart

SMOOTH = 1.0  # px, in the Dice loss: a class that is in neither map costs nothing


def training_loss(
    outputs: Tensor | Sequence[Tensor], classes: Tensor, weights: Tensor, part: LossPart, depth: Tensor | None = None
) -> Tensor:
    """Return the recipe's loss of a network's output, or of its main output and side outputs, main first.

    Args:
        outputs: (N, K, H, W) float each; (N, K + 1, H, W) with a depth, the last.
        classes: (N, H, W) int64 in 0 … K - 1.
        weights: (N, H, W) float32, ≥ 0; 0 where a pixel does not count.
        depth: (N, H, W) float32 in 0 … 1, if the network has that output.
    """
    if isinstance(outputs, Tensor):
        return _loss(outputs, classes, weights, part, depth)
    main, *sides = outputs
    total = _loss(main, classes, weights, part, depth)
    for side in sides if part.side_outputs > 0 else ():
        total = total + part.side_outputs * _loss(side, classes, weights, part, depth)
    return total / (1 + part.side_outputs * len(sides))


def weighted_cross_entropy(logits: Tensor, classes: Tensor, weights: Tensor) -> Tensor:
    """Return the mean over pixels of w(x) · (-log p_class(x)).

    The paper sums over pixels; the mean keeps the learning rate independent of the tile's size.

    Args:
        logits: (N, K, H, W) float; computed in float32.
        classes: (N, H, W) int64 in 0 … K - 1.
        weights: (N, H, W) float32, ≥ 0.
    """
    return (F.cross_entropy(logits.float(), classes, reduction="none") * weights).mean()


def focal_loss(logits: Tensor, classes: Tensor, weights: Tensor, gamma: float) -> Tensor:
    """Return the mean over pixels of w(x) · (1 - p_class(x))^gamma · (-log p_class(x)) (Lin et al., ICCV 2017)."""
    surprise = F.cross_entropy(logits.float(), classes, reduction="none")
    return (surprise * (-torch.expm1(-surprise)).clamp(min=0).pow(gamma) * weights).mean()


def dice_loss(logits: Tensor, classes: Tensor, weights: Tensor) -> Tensor:
    """Return 1 - Dice of the probabilities, mean over images and over the classes but the background.

    By image, so that processes that share a batch come to the same mean (Milletari et al., 3DV 2016, without squares).
    Pixels of weight 0 do not count; all others count alike.
    """
    logits = logits.float()
    counted = (weights > 0).to(logits.dtype)[:, None]
    probabilities = logits.softmax(dim=1) * counted  # (N, K, H, W)
    truth = F.one_hot(classes, logits.shape[1]).movedim(-1, 1) * counted
    shared = (probabilities * truth).sum(dim=(2, 3))  # (N, K)
    sizes = probabilities.sum(dim=(2, 3)) + truth.sum(dim=(2, 3))
    return 1 - ((2 * shared + SMOOTH) / (sizes + SMOOTH))[:, 1:].mean()


def depth_loss(logits: Tensor, depth: Tensor, weights: Tensor) -> Tensor:
    """Return the mean over pixels that count of the cross entropy between a depth and its prediction, as fractions.

    Args:
        logits: (N, H, W) float.
        depth: (N, H, W) float32 in 0 … 1.
        weights: (N, H, W) float32; all above 0 count alike.
    """
    surprise = F.binary_cross_entropy_with_logits(logits.float(), depth, reduction="none")
    return (surprise * (weights > 0)).mean()


def _loss(outputs: Tensor, classes: Tensor, weights: Tensor, part: LossPart, depth: Tensor | None) -> Tensor:
    total = outputs.new_zeros((), dtype=torch.float32)
    logits = outputs
    if depth is not None:
        logits = outputs[:, :-1]
        total = total + part.depth * depth_loss(outputs[:, -1], depth, weights)
    if part.cross_entropy > 0:
        total = total + part.cross_entropy * weighted_cross_entropy(logits, classes, weights)
    if part.dice > 0:
        total = total + part.dice * dice_loss(logits, classes, weights)
    if part.focal > 0:
        total = total + part.focal * focal_loss(logits, classes, weights, part.focal_gamma)
    return total
