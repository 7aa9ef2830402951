"""The network of a run: built, begun with the parameters of another, and averaged over the steps."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import torch
from torch import Tensor, nn

from unettile.checkpoint import Checkpoint
from unettile.errors import InputError, UsageError
from unettile.geometry import Geometry
from unettile.networks import build_network, config_values, parse_config
from unettile.networks.encoders import load_encoder
from unettile.training.recipe import Recipe

FREE_KEYS = (
    "dropout",
    "block_dropout",
    "classes",
)  # of a network's config: all but the last layer fits whatever they say


def make_network(recipe: Recipe, start: Checkpoint | None, *, fresh: bool) -> tuple[nn.Module, Geometry, int]:
    """Return a recipe's network, its geometry, and the px that its output is smaller than the window on each side.

    Args:
        start: a model whose parameters it begins with.
        fresh: it takes the encoder's parameters, if the recipe names some; not where a state is loaded afterwards.

    Raises:
        InputError: another network, or no such parameters.
        UsageError: a window that does not fit.
    """
    network = build_network(recipe.network.name, recipe.network_config())
    if start is not None:
        start_from(network, start, recipe)
    elif recipe.network.encoder_parameters and fresh:
        load_encoder(network, Path(recipe.network.encoder_parameters))
    assert isinstance(network.geometry, Geometry) and isinstance(network.lost, int)
    check_window(network.geometry, network.lost, recipe.run.output_edge)
    return network, network.geometry, network.lost


def check_window(geometry: Geometry, lost: int, output_edge: int) -> None:
    """Refuse a window that the network cannot be trained on: a padded network takes any multiple of its stride.

    Raises:
        UsageError: names the nearest that fit.
    """
    if lost:
        geometry.check_output_edge(output_edge)
    elif output_edge % geometry.stride:
        below = output_edge // geometry.stride * geometry.stride
        near = " or ".join(str(edge) for edge in (below, below + geometry.stride) if edge)
        raise UsageError(
            f"run.output_edge {output_edge} does not fit this network: need a multiple of {geometry.stride}; use {near}"
        )


def start_from(network: nn.Module, start: Checkpoint, recipe: Recipe) -> None:
    """Load the parameters of a model into a network of the same config; dropout and the outputs may differ.

    Where the model has other outputs, their layer keeps the parameters it was made with.

    Raises:
        InputError: another network.
    """
    if start.network != recipe.network.name:
        raise InputError(f"--from has another network: name is {start.network}, the recipe's {recipe.network.name}")
    need, got = recipe.network_config(), config_values(parse_config(start.network, start.config))
    for key in need:
        if need[key] != got[key] and key not in FREE_KEYS:
            raise InputError(f"--from has another network: {key} is {got[key]}, the recipe's {need[key]}")
    own = network.state_dict()
    fitting = {name: tensor for name, tensor in start.parameters.items() if tensor.shape == own[name].shape}
    network.load_state_dict(own | fitting)


class Average:
    """Keeps average ← decay · average + (1 - decay) · state, after each step.

    Everything that is a fraction is averaged, the statistics of batch norm too, since they belong to the parameters
    that made them; counters are copied. In the first steps the decay is (1 + step) / (10 + step), if that is less, so
    that the random parameters at the start are soon forgotten.

    Args:
        network: whose state is averaged.
        decay: in (0, 1).
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = deepcopy(network).eval().requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Take in the state after a step, counted from 1."""
        decay = min(self._decay, (1 + step) / (10 + step))
        averages, states = self._fractions(self.network), self._fractions(network)
        torch._foreach_lerp_(averages, states, 1 - decay)
        for kept, state in zip(self.network.buffers(), network.buffers(), strict=True):
            if not kept.is_floating_point():
                kept.copy_(state)

    @staticmethod
    def _fractions(network: nn.Module) -> list[Tensor]:
        return [tensor for tensor in (*network.parameters(), *network.buffers()) if tensor.is_floating_point()]
