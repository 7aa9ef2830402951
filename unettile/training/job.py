"""A training job: pairs found and held out, the destination checked, and whether it is done already."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch

from unettile.checkpoint import Checkpoint, load_checkpoint
from unettile.errors import InputError, UsageError
from unettile.images.view import FIRST
from unettile.training.pairs import Pair, find_pairs, hold_out, ranked
from unettile.training.parts import SourcePart
from unettile.training.recipe import Recipe
from unettile.training.state import TrainingFolder, digest_of
from unettile.training.survey import content_of, set_digest

PLAN = "training_plan"
"""Key of a model's card that has the digest of the plan it was made by."""

UNFINISHED = "unfinished"
"""Key of the card of a model that a run left when it was stopped: how far it had come."""

TRAINED_ON = "trained_on"
"""Key of a model's card that describes the images it was trained on."""


@dataclass(frozen=True)
class TrainJob:
    """What to train on what, and where to.

    Args:
        output: the final checkpoint; `<stem>.training/` beside it holds the rest.
        device: a torch device, already chosen.
        precision: fp32, bf16 or fp16; parameters stay float32.
        workers: processes that make samples; 0 makes them in the training process.
        max_seconds: stop, resumable, after so long; None for no limit.
        clock_seconds: plan the whole run into so long, instead of a number of steps; None for the recipe's steps.
        resume: go on with what the training folder holds.
        test: images to score once, at the end.
        start: a model whose parameters the network begins with, instead of random ones.
        reasons: what was chosen for the recipe, and why, a line each; nothing of a recipe that was given.
        notes: what else to tell the user before the first step, a line each.
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
    clock_seconds: float | None = None
    resume: bool = False
    start: Checkpoint | None = None
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

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


def split(pairs: tuple[Pair, ...], validation: tuple[Pair, ...] | float, test: float = 0.0) -> Data:
    """Return the pairs of each part.

    Args:
        validation: pairs of their own, or the fraction of the pairs to hold out; 0 scores those that are trained on.
        test: the fraction to hold out besides.

    Raises:
        InputError: fractions that leave a part empty.
    """
    if isinstance(validation, float):
        training, validating, testing = hold_out(pairs, validation, test)
        return Data(training, validating or training, testing)
    if not test:
        return Data(pairs, validation)
    kept, tested, _ = hold_out(pairs, test)
    return Data(kept, validation, tested)


def find_sources(
    images: Path,
    labels: Path,
    sources: Mapping[str, SourcePart],
    choose: Callable[[Sequence[Pair]], tuple[Pair, ...]] = tuple,
) -> Data:
    """Return the pairs of a recipe's sources to train and to validate on; what else they hold out is left alone.

    Args:
        images, labels: the directories that the sources' own are below.
        choose: gives the pairs of 2-D images of the pairs of files.

    Raises:
        InputError: files that do not pair, a pattern that matches none, or parts without an image.
    """
    training: list[Pair] = []
    validation: list[Pair] = []
    for name, part in sources.items():
        found = choose(find_pairs(images / part.images, labels / part.labels))
        pairs = [replace(pair, source=name) for pair in found]
        for pattern in part.held_out:
            if not any(fnmatchcase(pair.name, pattern) for pair in pairs):
                raise InputError(f"sources.{name}.held_out: no image is called {pattern!r}; patterns match names")
        apart = [pair for pair in pairs if any(fnmatchcase(pair.name, pattern) for pattern in part.held_out)]
        rest = [pair for pair in pairs if pair not in apart]
        if part.fraction:
            rest, chosen, _ = map(list, hold_out(rest, part.fraction))
            apart += chosen
        training += rest
        validation += ranked(apart)[: part.validate or None]
    if not training or not validation:
        raise InputError(
            f"the sources have {len(training)} images to train and {len(validation)} to validate on: need some of each;"
            " change held_out or fraction of [sources]"
        )
    return Data(tuple(training), tuple(validation))


def check_output(output: Path, *, overwrite: bool, resume: bool) -> None:
    """Refuse a destination before any work.

    Raises:
        UsageError: an ending other than .safetensors.
        InputError: an output that exists, unless to resume it, or that cannot be written.
    """
    if output.suffix != ".safetensors":
        raise UsageError(f"-o {output} has the wrong ending: a checkpoint is a .safetensors file")
    if not output.parent.is_dir() or not os.access(output.parent, os.W_OK):
        raise InputError(f"cannot write {output}: its directory does not exist or is not writable; create it first")
    if output.exists() and not overwrite and not resume:
        raise InputError(
            f"{output} exists: choose another name, give --overwrite, or --resume where only its report is missing"
        )


def make_room(output: Path) -> None:
    """Clear what an earlier run left beside a model that is to be overwritten.

    Raises:
        InputError: it is not over: another process trains there.
    """
    folder = TrainingFolder.beside(output)
    if folder.path.is_dir():
        with folder.held():
            folder.clear()


def plan_digest(job: TrainJob) -> str:
    """Return the SHA-256 of all that a run which is resumed must share with the one that was stopped."""
    run = job.recipe.run
    if not run.steps_per_epoch:  # as many as the images fill
        run = replace(run, steps_per_epoch=-(-len(job.training) // run.batch))
    return digest_of(replace(job, recipe=replace(job.recipe, run=run)).plan())


def is_finished(job: TrainJob) -> bool:
    """Whether the model of a job is there, and its report, so that nothing is left to do.

    A process that is killed once the model has its name leaves no report: given again, with `resume`, the job makes it.

    Raises:
        InputError: another model is there, of another plan or of images or labels that have changed since.
    """
    if not job.output.exists():
        return False
    try:
        card = load_checkpoint(job.output).card
    except InputError:
        card = {}
    seen = card.get(TRAINED_ON)
    now = set_digest(content_of(pair, job.recipe) for pair in job.training)
    if card.get(PLAN) != plan_digest(job) or not isinstance(seen, dict) or seen.get("sha256") != now:
        raise InputError(
            f"{job.output} exists and is no result of this training: choose another name, or give --overwrite"
        )
    folder = TrainingFolder.beside(job.output)
    return UNFINISHED not in card and (folder.report.exists() or not folder.has_state)


def check_best(job: TrainJob, best: Checkpoint) -> None:
    """Refuse the best epoch in a training folder if another training put it there.

    Raises:
        InputError: it did.
    """
    if best.card.get(PLAN) != plan_digest(job):
        file = TrainingFolder.beside(job.output).best
        raise InputError(f"{file} is of another training than its folder: start afresh with --overwrite")


def _names_digest(pairs: Sequence[Pair]) -> dict[str, Any]:
    views = ["" if pair.view == FIRST else f" {json.dumps(pair.view.to_dict())}" for pair in pairs]
    names = "\n".join(sorted(f"{pair.full_name}{view}" for pair, view in zip(pairs, views, strict=True)))
    return {"images": len(pairs), "names": hashlib.sha256(os.fsencode(names)).hexdigest()}
