"""What a run needs before its first step: processes and devices, and the parameters to begin with."""

from __future__ import annotations

import logging
import os
from datetime import timedelta

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import nn

from unettile.checkpoint import Checkpoint
from unettile.errors import InputError, UsageError
from unettile.geometry import Geometry
from unettile.networks import config_values, parse_config
from unettile.training.recipe import Recipe

FREE_KEYS = (
    "dropout",
    "block_dropout",
    "classes",
)  # of a network's config: all but the last layer fits whatever they say
FABRIC_PRECISION = {"fp32": "32-true", "tf32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
PATIENCE = timedelta(hours=12)  # the first process may survey or write for long while others wait


def make_fabric(device: torch.device, precision: str) -> Fabric:
    """Return Fabric for this process; several are started by `torchrun`, whose variables alone say how many."""
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it has advice for users of Fabric
    if device.type == "cuda":
        _choose_kernels(precision)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    devices: int | list[int] = local
    if device.type == "cuda" and world == 1:
        devices = [device.index or 0]
    fabric = Fabric(
        accelerator=device.type,
        devices=devices,
        num_nodes=max(1, world // local),
        strategy=DDPStrategy(timeout=PATIENCE) if world > 1 else "auto",
        precision=FABRIC_PRECISION[precision],  # type: ignore[arg-type]
        # named, or Fabric would take ranks from a batch system's variables, which say nothing of this process
        plugins=TorchElasticEnvironment() if world > 1 else LightningEnvironment(),
    )
    fabric.launch()
    return fabric


def _choose_kernels(precision: str) -> None:
    """Let float32 be float32 unless it is to be tf32, and take kernels that add up in one order, the same each time."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


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
