"""Smooth random fields: values on a coarse grid, and bicubic interpolation between them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F


def draw_field(rng: np.random.Generator, shape: tuple[int, int], points: int, std: float) -> NDArray[np.float32]:
    """Draw a field (H, W) through `points` × `points` Gaussian values of that standard deviation, mean 0."""
    coarse = rng.normal(0, std, (points, points)).astype(np.float32)
    field = _bicubic(shape[0], points) @ coarse @ _bicubic(shape[1], points).T
    return field.astype(np.float32, copy=False)


@lru_cache(maxsize=64)
def _bicubic(edge: int, points: int) -> NDArray[np.float32]:
    """Return the weights (edge, points) by which bicubic interpolation mixes values on a line of points."""
    lines = torch.eye(points)[None, None]
    mixed = F.interpolate(lines, (edge, points), mode="bicubic", align_corners=True)
    weights: NDArray[np.float32] = mixed[0, 0].numpy()
    return weights
