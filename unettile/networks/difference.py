"""Difference: how far the tiles of one network disagree, measured on a picture of noise."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unettile.geometry import Geometry

_REGION = 64  # px of the output that are compared


def measure_difference(network: Callable[[Tensor], Tensor], geometry: Geometry, channels: int) -> float:
    """Return the largest change of a probability when pixels are computed in a window, and in a larger one.

    The picture is noise of all wavelengths between 0 and 1, the same on every machine. Both windows lie on the
    network's stride; the larger one has half a margin more on each side, at least 64 px.

    Args:
        network: maps (1, C, n, n) float32 to logits (1, K, m, m), in eval mode.
        channels: C.

    Raises:
        ValueError: what the network makes of it is NaN or infinite.
    """
    stride = geometry.stride
    more = -(-max(_REGION, geometry.margin // 2) // stride) * stride
    edge = geometry.input_edge(geometry.smallest_output_edge(_REGION))
    picture = torch.from_numpy(_noise(edge + 2 * more, channels))[None]
    with torch.inference_mode():
        large = _middle(network(picture), picture.shape[-1], geometry, more)
        small = _middle(network(picture[:, :, more : more + edge, more : more + edge]), edge, geometry, 0)
    difference = float((large.softmax(dim=1) - small.softmax(dim=1)).abs().max())
    if not math.isfinite(difference):
        raise ValueError("what it makes of intensities between 0 and 1 is NaN or infinite")
    return difference


def _middle(logits: Tensor, edge: int, geometry: Geometry, more: int) -> Tensor:
    start = geometry.margin - (edge - logits.shape[-1]) // 2 + more
    return logits[:, :, start : start + _REGION, start : start + _REGION].float()


def _noise(edge: int, channels: int) -> NDArray[np.float32]:
    """Return (C, edge, edge) float32 in [0, 1]: random grids, each twice as coarse as the one before, summed."""
    rng = np.random.default_rng(0)
    total = np.zeros((channels, edge, edge), np.float32)
    cell = 1
    while cell <= edge:
        count = -(-edge // cell)
        grid = rng.random((channels, count, count), np.float32)
        total += np.repeat(np.repeat(grid, cell, 1), cell, 2)[:, :edge, :edge]
        cell *= 2
    total -= total.min()
    total /= total.max()
    return total
