"""The moving average of a network's parameters: smoother than the parameters of any step, and often better."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn


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
