"""Weighted softmax cross entropy: U-Net paper, equation 1."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def weighted_cross_entropy(logits: Tensor, classes: Tensor, weights: Tensor) -> Tensor:
    """Return the mean over pixels of w(x) · (-log p_class(x)).

    The paper sums over pixels; the mean keeps the learning rate independent of the tile's size.

    Args:
        logits: (N, K, H, W) float; computed in float32.
        classes: (N, H, W) int64 in 0 … K - 1.
        weights: (N, H, W) float32, ≥ 0.
    """
    return (F.cross_entropy(logits.float(), classes, reduction="none") * weights).mean()
