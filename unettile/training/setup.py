"""What a run needs before its first step: devices, sources, class weights, optimiser and learning rate."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from torch import nn

from unettile.checkpoint import Checkpoint
from unettile.errors import InputError
from unettile.images.normalize import Normalization
from unettile.images.slide import open_slide
from unettile.networks import config_values, parse_config
from unettile.training.pairs import Pair
from unettile.training.recipe import Recipe
from unettile.training.samples import Source, classes_of, load_pair
from unettile.weightmap import balanced_weights

FREE_KEYS = ("dropout", "block_dropout")  # of a network's config: parameters fit whatever they say
FABRIC_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def learning_rate(step: int, recipe: Recipe) -> float:
    """Return the rate of a step, counted from 0: a linear warm-up, then a cosine to zero at the end of the run."""
    part = recipe.optimizer
    steps = recipe.run.epochs * recipe.run.steps_per_epoch
    if step < part.warmup_steps:
        return part.learning_rate * (step + 1) / part.warmup_steps
    progress = (step - part.warmup_steps) / max(1, steps - part.warmup_steps)
    return part.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def make_fabric(device: torch.device, precision: str) -> Fabric:
    """Return Fabric for this process; several are started by `torchrun`, whose variables alone say how many."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", world))
    devices: int | list[int] = local
    if device.type == "cuda" and world == 1:
        devices = [device.index or 0]
    fabric = Fabric(
        accelerator=device.type,
        devices=devices,
        num_nodes=max(1, world // local),
        strategy="ddp" if world > 1 else "auto",
        precision=FABRIC_PRECISION[precision],  # type: ignore[arg-type]
        # named, or Fabric would take ranks from a batch system's variables, which say nothing of this process
        plugins=TorchElasticEnvironment() if world > 1 else LightningEnvironment(),
    )
    fabric.launch()
    return fabric


def look_at(pairs: Sequence[Pair], recipe: Recipe) -> tuple[Source, ...]:
    """Open each image once: its shape and scaling."""
    images = recipe.images
    normalization = Normalization(images.low_percentile, images.high_percentile, images.per_channel)
    sources = []
    for pair in pairs:
        with open_slide(pair.image) as slide:
            if slide.channels != recipe.network.in_channels and not (slide.channels == 1 and images.grey_to_rgb):
                raise InputError(
                    f"{pair.image} has {slide.channels} channels, the recipe's network takes "
                    f"{recipe.network.in_channels}: set network.in_channels={slide.channels}"
                )
            sources.append(Source(pair, slide.shape, normalization.measure(slide)))
    return tuple(sources)


def class_weights(sources: Sequence[Source], recipe: Recipe) -> tuple[float, ...] | None:
    """Return balanced weights over all training labels, or None for weights of 1."""
    counts = np.zeros(recipe.classes, np.int64)
    for source in sources:  # also the moment at which unusable labels are refused, before the first step
        classes = classes_of(load_pair(source.pair).labels, recipe, source.pair)
        counts += np.bincount(classes.ravel(), minlength=recipe.classes)
    if not counts[1:].any():
        raise InputError("the training labels are background only: need at least one labelled pixel")
    return balanced_weights([int(count) for count in counts]) if recipe.loss.class_weights == "balanced" else None


def start_from(network: nn.Module, start: Checkpoint, recipe: Recipe) -> None:
    """Load the parameters of a model into a network of the same config; dropout may differ.

    Raises:
        InputError: another network.
    """
    if start.network != recipe.network.name:
        raise InputError(f"--from has another network: name is {start.network}, the recipe's {recipe.network.name}")
    need, got = recipe.network_config(), config_values(parse_config(start.network, start.config))
    for key in need:
        if need[key] != got[key] and key not in FREE_KEYS:
            raise InputError(f"--from has another network: {key} is {got[key]}, the recipe's {need[key]}")
    network.load_state_dict(start.parameters)


def make_optimizer(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """Return the recipe's optimiser; the learning rate is set anew at each step."""
    part = recipe.optimizer
    if part.name == "sgd":
        return torch.optim.SGD(
            network.parameters(), lr=part.learning_rate, momentum=part.momentum, weight_decay=part.weight_decay
        )
    return torch.optim.AdamW(network.parameters(), lr=part.learning_rate, weight_decay=part.weight_decay, fused=True)
