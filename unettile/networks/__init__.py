"""The networks that unettile runs, as one tuple; a checkpoint names one of them and carries its config."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from unettile.errors import InputError
from unettile.networks.unet import UNet, UNetConfig


@dataclass(frozen=True)
class Network:
    """An entry of the registry: a name, the class of its config, and what builds the module from it."""

    name: str
    config: type[UNetConfig]
    build: Callable[[UNetConfig], nn.Module]


NETWORKS = (Network("unet", UNetConfig, UNet),)


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


def parse_config(name: str, values: dict[str, Any]) -> UNetConfig:
    """Return the validated config of network `name` from plain values.

    Raises:
        InputError: an unknown key, or a value out of its range.
    """
    try:
        return find_network(name).config(**values)
    except (TypeError, ValueError) as error:
        raise InputError(f"the config of network {name!r} is not valid: {error}") from error


def build_network(name: str, values: dict[str, Any]) -> nn.Module:
    """Build a network with fresh parameters from its plain config; the module has a `geometry`."""
    return find_network(name).build(parse_config(name, values))


def config_values(config: UNetConfig) -> dict[str, Any]:
    """Return a config as plain values that JSON can hold."""
    values = asdict(config)
    values["widths"] = list(config.widths)
    return values
