"""A training job: pairs found and held out, the destination checked."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from unettile.checkpoint import Checkpoint
from unettile.errors import InputError, UsageError
from unettile.training.pairs import Pair, find_pairs, hold_out
from unettile.training.recipe import Recipe
from unettile.training.state import TrainingFolder


@dataclass(frozen=True)
class TrainJob:
    """What to train on what, and where to.

    Args:
        output: the final checkpoint; `<stem>.training/` beside it holds the rest.
        device: a torch device, already chosen.
        precision: fp32, bf16 or fp16; parameters stay float32.
        workers: processes that make samples; 0 makes them in the training process.
        max_seconds: stop, resumable, after so long; None for no limit.
        resume: go on with what the training folder holds.
        start: a model whose parameters the network begins with, instead of random ones.
    """

    training: tuple[Pair, ...]
    validation: tuple[Pair, ...]
    recipe: Recipe
    output: Path
    device: torch.device
    precision: str
    workers: int = 1
    max_seconds: float | None = None
    resume: bool = False
    start: Checkpoint | None = None


@dataclass(frozen=True)
class Folders:
    """Directories whose files pair by stem: images, labels and, where they were computed before, weight maps."""

    images: Path
    labels: Path
    weights: Path | None = None


def find_data(training: Folders, validation: Folders | float) -> tuple[tuple[Pair, ...], tuple[Pair, ...]]:
    """Return training and validation pairs.

    Args:
        validation: directories of their own, or the fraction of the training images to hold out.

    Raises:
        InputError: files that do not pair, or a fraction that leaves nothing.
    """
    pairs = find_pairs(training.images, training.labels, training.weights)
    if isinstance(validation, float):
        return hold_out(pairs, validation)
    return pairs, find_pairs(validation.images, validation.labels)


def check_output(output: Path, *, overwrite: bool, resume: bool) -> None:
    """Refuse a destination before any work; with `overwrite`, clear what an earlier run left, unless to resume it.

    Raises:
        UsageError: an ending other than .safetensors.
        InputError: an output that exists, or cannot be written.
    """
    if output.suffix != ".safetensors":
        raise UsageError(f"-o {output} has the wrong ending: a checkpoint is a .safetensors file")
    if not output.parent.is_dir() or not os.access(output.parent, os.W_OK):
        raise InputError(f"cannot write {output}: its directory does not exist or is not writable; create it first")
    if output.exists() and not overwrite:
        raise InputError(f"{output} exists: choose another name, or give --overwrite")
    if overwrite and not resume:
        TrainingFolder.beside(output).clear()
