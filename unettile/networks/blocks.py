"""Blocks that several networks are built of."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from unettile.geometry import Geometry
from unettile.networks.config import Config


class Registered(nn.Module):
    """A network of the registry: it says what its config says of its shape.

    Args:
        config: of the network's own class.
    """

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    @property
    def geometry(self) -> Geometry:
        """What `segment` needs."""
        return self.config.geometry

    @property
    def lost(self) -> int:
        """How many px the output is smaller than the window, on each side."""
        return self.config.lost


def crop_to(skip: Tensor, shape: torch.Size) -> Tensor:
    """Return the centre of `skip` (N, C, H, W) with the last two axes of `shape`."""
    top = (skip.shape[2] - shape[2]) // 2
    left = (skip.shape[3] - shape[3]) // 2
    return skip[:, :, top : top + shape[2], left : left + shape[3]]


def class_logits(logits: Tensor) -> Tensor:
    """Return one logit a class, (N, K, h, w): of a single logit z the pair (0, z), whose softmax is its sigmoid."""
    if logits.shape[1] > 1:
        return logits
    return torch.cat([torch.zeros_like(logits), logits], dim=1)


def check_window(x: Tensor, config: Config) -> None:
    """Refuse windows (N, C, H, W) that a network does not take.

    Raises:
        ValueError: a wrong number of channels, or an edge off the network's grid.
    """
    if x.ndim != 4 or x.shape[1] != config.in_channels:
        raise ValueError(f"need images (N, {config.in_channels}, H, W), got shape {tuple(x.shape)}")
    least = 2 * config.lost + config.base
    for edge in x.shape[2:]:
        if edge < max(1, least) or (edge - least) % config.stride:
            raise ValueError(
                f"a window edge of {int(edge)} px does not fit the network: need {least} + {config.stride}k"
            )


def he_init(network: nn.Module) -> None:
    """Draw the weights of all convolutions from a Gaussian of standard deviation √(2/N), N inputs a neuron, biases 0.

    U-Net paper, section 3, after He et al. 2015. Weights on the meta device have no values: there torch would load its
    whole compiler for nothing, which takes a second.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and not module.weight.is_meta:
            taps = math.prod(module.kernel_size)
            if isinstance(module, nn.ConvTranspose2d):
                taps = max(1, taps // math.prod(module.stride))  # those that feed one output pixel
            inputs = module.in_channels // module.groups
            nn.init.normal_(module.weight, std=math.sqrt(2 / (inputs * taps)))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
