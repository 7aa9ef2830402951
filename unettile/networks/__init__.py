"""The networks that unettile runs, as one tuple; a checkpoint names one of them and carries its config.

What a network promises, and `tests/contracts/test_networks.py` holds each of them to:

- `network(windows)` maps float windows (N, C, H, W) to logits (N, K, h, w), one a class, class 0 the background. A head
  of one logit z (the sigmoid of two classes) puts out (0, z): cross entropy, softmax and the largest logit are then
  those of the sigmoid, and class 1 wins where z > 0, which is where p > 0.5. So K ≥ 2 always.
- In eval mode it returns that tensor. In training mode a network with side outputs returns a list of such tensors, all
  of one shape: the logits first, then the side outputs, which a loss may weigh in.
- `network.geometry` is what `segment` needs (see `unettile.geometry`): only output pixels `margin` px and more inside
  the window are free of what padding does at its border. `network.lost` is how many px the output is smaller than the
  window on each side: the margin where nothing is padded (h = H - 2·margin), 0 where convolutions are padded (h = H).
  Windows that train a padded network may be any multiple of the stride; they need no margin.
- A window that does not fit is refused with a ValueError.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from unettile.errors import InputError
from unettile.networks import deeplab, fcn, lite_unet, resnet_unet, u2net, unet, unet_plus_plus
from unettile.networks.config import Config, config_values, did_you_mean, with_values

__all__ = ["NETWORKS", "Network", "build_network", "config_values", "find_network", "parse_config"]


@dataclass(frozen=True)
class Network:
    """An entry of the registry.

    Args:
        name: in recipes and checkpoints.
        presets: configs by name; the first is the default.
        build: makes the module, with fresh parameters, from a config of the presets' class.
    """

    name: str
    presets: dict[str, Config]
    build: Callable[[Any], nn.Module]

    @property
    def default(self) -> Config:
        return next(iter(self.presets.values()))


NETWORKS = (
    Network("unet", dict(unet.PRESETS), unet.UNet),
    Network("fcn32s", dict(fcn.PRESETS_32), fcn.FCN),
    Network("fcn16s", dict(fcn.PRESETS_16), fcn.FCN),
    Network("fcn8s", dict(fcn.PRESETS_8), fcn.FCN),
    Network("resnet34-unet", dict(resnet_unet.PRESETS), resnet_unet.ResNetUNet),
    Network("lite-unet", dict(lite_unet.PRESETS), lite_unet.LiteUNet),
    Network("deeplabv3+", dict(deeplab.PRESETS), deeplab.DeepLab),
    Network("unet++", dict(unet_plus_plus.PRESETS), unet_plus_plus.UNetPlusPlus),
    Network("u2net", dict(u2net.FULL), u2net.U2Net),
    Network("u2netp", dict(u2net.SMALL), u2net.U2Net),
)


def find_network(name: str) -> Network:
    """Return the entry of that name.

    Raises:
        InputError: names the known networks.
    """
    for network in NETWORKS:
        if network.name == name:
            return network
    known = ", ".join(network.name for network in NETWORKS)
    raise InputError(f"network {name!r} is not known: need one of {known}; a newer unettile may know it")


def parse_config(name: str, values: dict[str, Any]) -> Config:
    """Return the validated config of network `name` from plain values; `preset` names what the others change.

    Raises:
        InputError: an unknown key or preset (the nearest known one is named), or a value out of its range.
    """
    network = find_network(name)
    own = dict(values)
    preset = own.pop("preset", None)
    if preset is not None and preset not in network.presets:
        raise InputError(f"network {name!r} has no preset {preset!r}{did_you_mean(str(preset), network.presets)}")
    try:
        return with_values(network.default if preset is None else network.presets[preset], own)
    except ValueError as error:
        raise InputError(f"the config of network {name!r} is not valid: {error}") from error


def build_network(name: str, values: dict[str, Any]) -> nn.Module:
    """Build a network with fresh parameters from its plain config."""
    module: nn.Module = find_network(name).build(parse_config(name, values))
    return module
