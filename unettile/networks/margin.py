"""The geometry of a network, from its own steps: how far its output looks, and what its convolutions lose."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import nn

from unettile.geometry import Geometry
from unettile.networks.config import Config
from unettile.networks.graph import Graph
from unettile.networks.record import NotByRows, record

Build = Callable[[Any], nn.Module]
"""Makes a network of a config."""


@cache
def graph_of(build: Build, config: Config) -> Graph:
    """Return the steps of a network, noted on its smallest window."""
    edge = 2 * config.lost + config.base + config.stride
    with torch.device("meta"):
        network = build(config).eval()
    return record(network, (config.in_channels, edge, edge)).graph


def receptive_field_of(build: Build, config: Config) -> int | None:
    """Return the edge, px, of the largest square of the image on which a pixel depends; None for the whole window."""
    try:
        return graph_of(build, config).receptive_field(config.stride)
    except NotByRows:
        return None


def geometry_of(build: Build, config: Config) -> Geometry:
    """Return the geometry of a network whose reach is finite and small enough for a margin.

    Of valid convolutions the margin is what they lose: they look at nothing else. Of padded ones it is how far the
    output looks, rounded up to whole strides.
    """
    graph = graph_of(build, config)
    if not graph.is_padded:
        return Geometry(graph.lost, config.stride, base=config.base)
    return Geometry(-(-graph.reach_beyond(config.stride) // config.stride) * config.stride, config.stride, base=0)
