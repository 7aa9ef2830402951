"""Probable: a network of ours as packages have it: scaled windows in, probabilities of the classes out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from unettile.networks import build_network


class ProbableNetwork(nn.Module):
    """A network with a softmax after it; a depth, if it has one, is left out.

    Args:
        name: in the registry.
        config: of it, as plain values.
        classes: how many of its outputs are classes.
    """

    def __init__(self, name: str, config: dict[str, Any], classes: int) -> None:
        super().__init__()
        self.network = build_network(name, config)
        self.classes = classes

    @classmethod
    def of(cls, network: nn.Module, classes: int) -> ProbableNetwork:
        """Return a network that is there already, so extended."""
        made = cls.__new__(cls)
        nn.Module.__init__(made)
        made.network, made.classes = network, classes
        return made

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)
        return torch.softmax(logits[:, : self.classes], dim=1)
