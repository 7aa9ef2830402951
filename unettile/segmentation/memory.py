"""What a run will need in memory, before it begins."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unettile.images.normalize import WHOLE_PIXELS
from unettile.networks import build_network
from unettile.segmentation.blockreader import CACHE_BYTES
from unettile.segmentation.plan import Plan
from unettile.segmentation.predict import Predictor
from unettile.segmentation.rows import PIECE

LIBRARIES = 400 * 2**20  # bytes: Python, torch and the rest, measured
_SAMPLE_BYTES = 24  # a sampled number, while percentiles are taken: itself, as float64, and sorted
_MAPS_AT_ONCE = 5  # a U-Net's top level: skip, what comes up, both joined (twice as wide), and the next one

_PIECES_AT_ONCE = 14  # of rows, as wide as the top level: the same maps, and skip connections that wait; measured


def estimate_memory(plan: Plan, predictor: Predictor, batch: int) -> int:
    """Return about how many bytes a process of this run needs at its peak, on a GPU those of the GPU included.

    It does not grow with the image: the sample for the scaling; then a block with its margin, a batch of windows and
    the network's feature maps; then what is kept of the blocks while the file is written.
    """
    edge = plan.geometry.input_edge(plan.output_edge)
    channels = predictor.checkpoint.in_channels
    parameters = sum(tensor.numel() for tensor in predictor.checkpoint.parameters.values())
    item = 4 if predictor.precision == "fp32" else 2
    largest = _largest_map(predictor, edge)
    maps = _MAPS_AT_ONCE * item * batch * largest
    rows, columns = (min(plan.block_edge, length) + 2 * plan.geometry.margin for length in plan.shape)
    if predictor.device.type == "cpu":  # as wide as a block, but no higher than the rows that are in work
        in_work = _PIECES_AT_ONCE * PIECE + 2 * plan.geometry.margin
        maps = max(maps, item * min(in_work, rows) * columns * largest // edge**2)
    block = rows * columns * channels * np.dtype(plan.image["dtype"]).itemsize + plan.planes * rows * columns
    windows = 3 * 4 * batch * channels * edge**2
    area = plan.shape[0] * plan.shape[1]
    measuring = _SAMPLE_BYTES * channels * min(WHOLE_PIXELS, area)
    writing = min(CACHE_BYTES, plan.planes * area)
    return int(LIBRARIES + parameters * (4 + item) + max(measuring, maps + 2 * block + windows, maps + writing))


def _largest_map(predictor: Predictor, edge: int) -> int:
    """Return the number of elements of the largest feature map for one window; nothing is computed."""
    checkpoint = predictor.checkpoint
    largest = 0

    def note(module: nn.Module, inputs: Any, output: Tensor) -> None:
        nonlocal largest
        largest = max(largest, output.numel())

    with torch.device("meta"), torch.inference_mode():
        network = build_network(checkpoint.network, checkpoint.config).eval()
        for module in network.modules():
            if not list(module.children()):
                module.register_forward_hook(note)
        network(torch.empty(1, checkpoint.in_channels, edge, edge))
    return largest
