"""Narrow networks of random parameters, and pixels for them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from unettile.checkpoint import Checkpoint, ClassInfo
from unettile.images.normalize import Normalization
from unettile.networks import config_values
from unettile.networks.unet import UNet, UNetConfig

NARROW = (2, 3, 4, 5, 6)


def make_checkpoint(channels: int = 1, classes: int = 2, widths: tuple[int, ...] = NARROW, seed: int = 0) -> Checkpoint:
    """Return a U-Net of random parameters, its classes about as likely as each other."""
    torch.manual_seed(seed)
    network = UNet(UNetConfig(channels, classes, widths))
    with torch.no_grad():  # a mask of one class would hide a misplaced tile
        network.head.bias -= network(torch.rand(1, channels, 252, 252)).mean(dim=(0, 2, 3))
    infos = tuple(ClassInfo(f"class {k}", (k, 0, 0)) for k in range(classes))
    parameters = dict(network.state_dict())
    config = config_values(network.config)
    return Checkpoint("unet", config, network.geometry, Normalization(), infos, parameters, sha256="0" * 64)


def make_pixels(height: int, width: int, channels: int = 1, seed: int = 0) -> NDArray[np.uint8]:
    """Return noise on a slope, (H, W) or (H, W, C)."""
    pixels = np.random.default_rng(seed).integers(0, 128, (height, width, channels))
    pixels += np.linspace(0, 127, width).astype(int)[:, None]
    return pixels.astype(np.uint8)[..., 0] if channels == 1 else pixels.astype(np.uint8)
