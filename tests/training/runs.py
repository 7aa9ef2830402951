"""Small training runs for the tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from unettile.training.job import TrainJob
from unettile.training.loop import train
from unettile.training.pairs import find_pairs, hold_out
from unettile.training.parts import AugmentPart, OptimizerPart, RunPart
from unettile.training.recipe import NetworkPart, Recipe
from unettile.training.result import TrainProgress, TrainResult

RECIPE = Recipe(
    network=NetworkPart(config={"widths": [4, 6, 8], "batch_norm": True}),
    augment=AugmentPart(elastic_std=2.0),
    optimizer=OptimizerPart(learning_rate=1e-2, warmup_steps=2),
    run=RunPart(epochs=2, steps_per_epoch=4, batch=2, output_edge=40, select="loss"),
)


def make_job(data: Path, recipe: Recipe = RECIPE, name: str = "model") -> TrainJob:
    training, validation, _ = hold_out(find_pairs(data / "images", data / "labels"), 0.34)
    return TrainJob(training, validation, recipe, data / f"{name}.safetensors", torch.device("cpu"), "fp32", workers=0)


def run(job: TrainJob, stop: Callable[[int], int | None] = lambda step: None) -> tuple[TrainResult, list[float]]:
    losses: list[float] = []
    steps = 0

    def should_stop() -> int | None:
        nonlocal steps
        steps += 1
        return stop(steps)

    def note(progress: TrainProgress) -> None:
        losses.append(progress.loss)

    return train(job, note, should_stop), losses
