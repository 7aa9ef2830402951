"""Losses: weighted softmax cross entropy (U-Net paper, equation 1), Dice and focal loss, and sums of them.

Networks of one logit z put out (0, z), whose softmax is the sigmoid of z: there is one path for both.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from unettile.training.kinds import UNKNOWN
from unettile.training.parts import LossPart

SMOOTH = 1.0  # px, in the Dice loss: a class that is in neither map costs nothing


def training_loss(
    outputs: Tensor | Sequence[Tensor],
    classes: Tensor,
    weights: Tensor,
    part: LossPart,
    depth: Tensor | None = None,
    kinds: int = 0,
) -> Tensor:
    """Return the recipe's loss of a network's output, or of its main output and side outputs, main first.

    Args:
        outputs: (N, K, H, W) float each; (N, K + 1, H, W) with a depth, the last.
        classes: (N, H, W) int64 in 0 … K - 1, or UNKNOWN.
        weights: (N, H, W) float32, ≥ 0; 0 where a pixel does not count.
        depth: (N, H, W) float32 in 0 … 1, if the network has that output.
        kinds: how many classes after the first are kinds of objects; a pixel of the class UNKNOWN is of any of them.
    """
    if isinstance(outputs, Tensor):
        return _loss(outputs, classes, weights, part, depth, kinds)
    main, *sides = outputs
    total = _loss(main, classes, weights, part, depth, kinds)
    for side in sides if part.side_outputs > 0 else ():
        total = total + part.side_outputs * _loss(side, classes, weights, part, depth, kinds)
    return total / (1 + part.side_outputs * len(sides))


def weighted_cross_entropy(logits: Tensor, classes: Tensor, weights: Tensor, kinds: int = 0) -> Tensor:
    """Return the mean over pixels of w(x) · (-log p_class(x)), p of the class UNKNOWN the sum over all kinds.

    The paper sums over pixels; the mean keeps the learning rate independent of the tile's size.

    Args:
        logits: (N, K, H, W) float; computed in float32.
        classes: (N, H, W) int64 in 0 … K - 1, or UNKNOWN.
        weights: (N, H, W) float32, ≥ 0.
        kinds: classes after the first that are kinds of objects; without some no pixel may be UNKNOWN.
    """
    return (_surprise(logits.float(), classes, kinds) * weights).mean()


def focal_loss(logits: Tensor, classes: Tensor, weights: Tensor, gamma: float, kinds: int = 0) -> Tensor:
    """Return the mean over pixels of w(x) · (1 - p_class(x))^gamma · (-log p_class(x)) (Lin et al., ICCV 2017)."""
    surprise = _surprise(logits.float(), classes, kinds)
    return (surprise * (-torch.expm1(-surprise)).clamp(min=0).pow(gamma) * weights).mean()


def dice_loss(logits: Tensor, classes: Tensor, weights: Tensor, kinds: int = 0) -> Tensor:
    """Return 1 - Dice of the probabilities, mean over images and over the classes but the background.

    By image, so that processes that share a batch come to the same mean (Milletari et al., 3DV 2016, without squares).
    Pixels of weight 0 do not count; all others count alike. Of kinds of objects, all together are one class more, and
    the pixels of the class UNKNOWN are of that one alone.
    """
    logits = logits.float()
    counted = (weights > 0).to(logits.dtype)[:, None]
    if not kinds:
        probabilities = logits.softmax(dim=1) * counted  # (N, K, H, W)
        truth = F.one_hot(classes, logits.shape[1]).movedim(-1, 1) * counted
        return 1 - _dice(probabilities, truth)[:, 1:].mean()
    unknown = (classes == UNKNOWN)[:, None]
    shares, true = logits.softmax(dim=1), F.one_hot(classes.clamp(min=0), logits.shape[1]).movedim(-1, 1)
    inside, objects = (part[:, 1 : kinds + 1].sum(dim=1, keepdim=True) for part in (shares, true))
    known = counted * ~unknown
    together = _dice(inside * counted, torch.where(unknown, 1, objects) * counted)
    return 1 - torch.cat((_dice(shares * known, true * known)[:, 1:], together), dim=1).mean()


def _dice(probabilities: Tensor, truth: Tensor) -> Tensor:
    """Return the Dice (N, K) of maps (N, K, H, W)."""
    shared = (probabilities * truth).sum(dim=(2, 3))  # (N, K)
    sizes = probabilities.sum(dim=(2, 3)) + truth.sum(dim=(2, 3))
    return (2 * shared + SMOOTH) / (sizes + SMOOTH)


def _surprise(logits: Tensor, classes: Tensor, kinds: int) -> Tensor:
    """Return -log p_class (N, H, W); of the class UNKNOWN, p is the sum of the probabilities of all kinds."""
    if not kinds:
        return F.cross_entropy(logits, classes, reduction="none")
    known = F.cross_entropy(logits, classes, reduction="none", ignore_index=UNKNOWN)
    object_at_all = logits.logsumexp(dim=1) - logits[:, 1 : kinds + 1].logsumexp(dim=1)
    return torch.where(classes == UNKNOWN, object_at_all, known)


def depth_loss(logits: Tensor, depth: Tensor, weights: Tensor) -> Tensor:
    """Return the mean over pixels that count of the cross entropy between a depth and its prediction, as fractions.

    Args:
        logits: (N, H, W) float.
        depth: (N, H, W) float32 in 0 … 1.
        weights: (N, H, W) float32; all above 0 count alike.
    """
    surprise = F.binary_cross_entropy_with_logits(logits.float(), depth, reduction="none")
    return (surprise * (weights > 0)).mean()


def _loss(
    outputs: Tensor, classes: Tensor, weights: Tensor, part: LossPart, depth: Tensor | None, kinds: int
) -> Tensor:
    total = outputs.new_zeros((), dtype=torch.float32)
    logits = outputs
    if depth is not None:
        logits = outputs[:, :-1]
        total = total + part.depth * depth_loss(outputs[:, -1], depth, weights)
    if part.cross_entropy > 0:
        total = total + part.cross_entropy * weighted_cross_entropy(logits, classes, weights, kinds)
    if part.dice > 0:
        total = total + part.dice * dice_loss(logits, classes, weights, kinds)
    if part.focal > 0:
        total = total + part.focal * focal_loss(logits, classes, weights, part.focal_gamma, kinds)
    return total
