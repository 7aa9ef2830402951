"""From what a user gives to a job: pairs found, held out and checked, the destination free."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from unettile.errors import InputError, UsageError
from unettile.training.loop import TrainJob
from unettile.training.pairs import find_pairs, hold_out
from unettile.training.recipe import Recipe
from unettile.training.state import TrainingFolder


def prepare_job(
    recipe: Recipe,
    training: tuple[Path, Path, Path | None],
    fraction: float | None,
    validation: tuple[Path | None, Path | None],
    output: Path,
    device: torch.device,
    precision: str,
    workers: int,
    max_seconds: float | None,
    resume: bool,
    overwrite: bool,
) -> TrainJob:
    """Return a job that is ready to run.

    Args:
        training: directories of images, labels and (or None) weight maps.
        fraction: of the training images, to hold out; None if `validation` gives directories.
        validation: directories of images and labels, or (None, None).

    Raises:
        InputError: files that do not pair, or a destination that exists or cannot be written.
        UsageError: both or neither way of validating, or an output of another ending.
    """
    if output.suffix != ".safetensors":
        raise UsageError(f"-o {output} has the wrong ending: a checkpoint is a .safetensors file")
    if not output.parent.is_dir() or not os.access(output.parent, os.W_OK):
        raise InputError(f"cannot write {output}: its directory does not exist or is not writable; create it first")
    if output.exists() and not overwrite:
        raise InputError(f"{output} exists: choose another name, or give --overwrite")
    pairs = find_pairs(*training)
    images, labels = validation
    if (images is None) != (labels is None) or (images is None) == (fraction is None):
        raise UsageError("validation needs a fraction, or both --validation-images and --validation-labels")
    if images is not None and labels is not None:
        held_out = find_pairs(images, labels)
    else:
        pairs, held_out = hold_out(pairs, fraction or 0.0)
    folder = TrainingFolder.beside(output)
    if overwrite and not resume:
        folder.clear()
    return TrainJob(pairs, held_out, recipe, output, device, precision, workers, max_seconds, resume)
