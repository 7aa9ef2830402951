"""Blocks that several networks are built of."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class DoubleConv(nn.Sequential):
    """Two 3×3 valid convolutions, each followed by (batch norm and) ReLU; loses 2 px on each side."""

    def __init__(self, in_channels: int, out_channels: int, *, batch_norm: bool) -> None:
        layers: list[nn.Module] = []
        for channels in (in_channels, out_channels):
            layers.append(nn.Conv2d(channels, out_channels, kernel_size=3, bias=not batch_norm))
            if batch_norm:
                layers.append(nn.BatchNorm2d(out_channels))
            layers.append(nn.ReLU(inplace=True))
        super().__init__(*layers)


def crop_to(skip: Tensor, shape: torch.Size) -> Tensor:
    """Return the centre of `skip` (N, C, H, W) with the last two axes of `shape`."""
    top = (skip.shape[2] - shape[2]) // 2
    left = (skip.shape[3] - shape[3]) // 2
    return skip[:, :, top : top + shape[2], left : left + shape[3]]


def he_init(network: nn.Module) -> None:
    """Draw the weights of all convolutions from a Gaussian of standard deviation √(2/N), N inputs a neuron, biases 0.

    U-Net paper, section 3, after He et al. 2015.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            # a transposed 2x2 convolution of stride 2 feeds each output pixel from one tap only
            taps = 1 if isinstance(module, nn.ConvTranspose2d) else math.prod(module.kernel_size)
            nn.init.normal_(module.weight, std=math.sqrt(2 / (module.in_channels * taps)))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
