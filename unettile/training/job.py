"""A training job: pairs found and held out, the destination checked."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
        test: images to score once, at the end.
        start: a model whose parameters the network begins with, instead of random ones.
    """

    training: tuple[Pair, ...]
    validation: tuple[Pair, ...]
    recipe: Recipe
    output: Path
    device: torch.device
    precision: str
    test: tuple[Pair, ...] = ()
    workers: int = 1
    max_seconds: float | None = None
    resume: bool = False
    start: Checkpoint | None = None

    def plan(self) -> dict[str, Any]:
        """Return, as JSON, what a run that is resumed must share with the one that was stopped."""
        return {
            "recipe": self.recipe.to_dict(),
            "precision": self.precision,
            "start": self.start.sha256 if self.start else None,
            "training": _names_digest(self.training),
            "validation": _names_digest(self.validation),
            "test": _names_digest(self.test),
        }


@dataclass(frozen=True)
class Data:
    """Pairs to train, to validate and to test on."""

    training: tuple[Pair, ...]
    validation: tuple[Pair, ...]
    test: tuple[Pair, ...] = ()


@dataclass(frozen=True)
class Folders:
    """Directories whose files pair by stem: images, labels and, where they were computed before, weight maps."""

    images: Path
    labels: Path
    weights: Path | None = None


def find_data(training: Folders, validation: Folders | float, test: float = 0.0) -> Data:
    """Return the pairs of each part.

    Args:
        validation: directories of their own, or the fraction of the training images to hold out.
        test: the fraction to hold out besides.

    Raises:
        InputError: files that do not pair, or fractions that leave a part empty.
    """
    pairs = find_pairs(training.images, training.labels, training.weights)
    if isinstance(validation, float):
        return Data(*hold_out(pairs, validation, test))
    validating = find_pairs(validation.images, validation.labels)
    if not test:
        return Data(pairs, validating)
    kept, tested, _ = hold_out(pairs, test)
    return Data(kept, validating, tested)


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


def _names_digest(pairs: Sequence[Pair]) -> dict[str, Any]:
    names = "\n".join(sorted(pair.name for pair in pairs))
    return {"images": len(pairs), "names": hashlib.sha256(os.fsencode(names)).hexdigest()}
