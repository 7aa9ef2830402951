"""Softmax in 8 bits, made of correctly rounded operations alone.

A library's exp may round differently in the vectorised middle and in the tail of an array, and from one processor to
the next. Sums, products and quotients of IEEE 754 do not, so exp is built of those: the probability of a pixel then
depends on its logits, not on where in the array it lies.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# exp(x) = 2**n · exp(r), n = round(x / ln 2), |r| ≤ ln 2 / 2; ln 2 in two parts, so that n · high is exact
_LN2_HIGH = 0.693359375
_LN2_LOW = math.log(2) - _LN2_HIGH
_SMALLEST = -87.0  # exp of anything less is below the smallest normal float32, and 0 beside the 1 of the largest
_TERMS = tuple(1 / math.factorial(k) for k in range(7, -1, -1))  # Taylor: the rest is below 1e-8 for |r| ≤ 0.35


def softmax(logits: Tensor) -> Tensor:
    """Return the probabilities (N, K, h, w) float32 of logits (N, K, h, w) float32; within 1e-6 of the true ones."""
    powers = _exp(logits - largest(logits))
    total = powers[:, :1].clone()
    for k in range(1, powers.shape[1]):  # one after the other: torch.sum may take any order
        total += powers[:, k : k + 1]
    return powers.div_(total)


def to_levels(probabilities: Tensor) -> Tensor:
    """Return round(255 · p), halves up, as uint8."""
    return (probabilities * 255).add_(0.5).floor_().to(torch.uint8)


def largest(logits: Tensor) -> Tensor:
    """Return the maximum over the classes, (N, 1, h, w)."""
    best = logits[:, :1]
    for k in range(1, logits.shape[1]):
        best = torch.maximum(best, logits[:, k : k + 1])
    return best


def first_largest(logits: Tensor) -> Tensor:
    """Return the class with the largest logit, (N, h, w) uint8; of equal ones the first."""
    best = logits[:, 0]
    classes = torch.zeros(best.shape, dtype=torch.uint8, device=logits.device)
    for k in range(1, logits.shape[1]):
        challenger = logits[:, k]
        classes.masked_fill_(challenger > best, k)
        best = torch.maximum(best, challenger)
    return classes


def _exp(x: Tensor) -> Tensor:
    """Return exp(x) for x ≤ 0, each step rounded by itself (no fused multiply-add)."""
    x = x.clamp(min=_SMALLEST)
    n = (x * (1 / math.log(2))).add_(0.5).floor_()
    r = x - n * _LN2_HIGH
    r -= n * _LN2_LOW
    result = torch.full_like(r, _TERMS[0])
    for term in _TERMS[1:]:
        result.mul_(r).add_(term)
    return result.mul_((n.to(torch.int32) + 127 << 23).view(torch.float32))
