"""Training of a model from images and their labels, as `unettile train` does it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from unettile.checkpoint import Checkpoint, load_checkpoint
from unettile.devices import choose_device, choose_precision, keep_freed_memory
from unettile.errors import UsageError
from unettile.face.image import ImageLike, source_of
from unettile.face.model import Model
from unettile.models import find_model
from unettile.report.page import write_report
from unettile.training.job import TrainJob, check_output, split
from unettile.training.loop import train as run
from unettile.training.pairs import Pair, find_pairs
from unettile.training.recipe import read_recipe
from unettile.training.result import TrainProgress

Images = str | os.PathLike[str] | Sequence[ImageLike]
"""A folder, whose files pair by name, or a list of images, which pair by their order."""


def train(
    images: Images,
    labels: Images,
    output: str | os.PathLike[str],
    *,
    recipe: str | os.PathLike[str] = "nuclei",
    changes: Mapping[str, Any] | None = None,
    start: str | os.PathLike[str] | Model | None = None,
    weights: Images | None = None,
    validation: float | None = None,
    validation_images: Images | None = None,
    validation_labels: Images | None = None,
    epochs: int | None = None,
    max_time: float | None = None,
    resume: bool = False,
    device: str = "auto",
    precision: str = "auto",
    workers: int = 1,
    overwrite: bool = False,
    progress: Callable[[TrainProgress], None] | None = None,
) -> Model:
    """Train a network on images and labels, write the best epoch as a checkpoint, and return it loaded.

    Beside `output` a folder `<name>.training` holds a report, the log, and what is needed to go on after a stop.

    Args:
        images: a folder, or a list of images, each an array (H, W) or (H, W, C) or the path of a file. Lazy arrays are
            read piece by piece, in each worker.
        labels: the same of instance ids or classes, (H, W) whole numbers, as the recipe says.
        output: the checkpoint, .safetensors.
        recipe: a shipped recipe's name, or the path of a TOML file.
        changes: keys of the recipe to change, such as {"run.batch": 4, "network.widths": [16, 32, 64]}.
        start: a model whose parameters the network begins with, by name, file, or loaded.
        weights: weight maps, (H, W) float, instead of those made on the fly.
        validation: part of the images held out; None for the recipe's.
        validation_images, validation_labels: images to validate on instead.
        epochs: instead of the recipe's.
        max_time: seconds after which to stop and save.
        resume: go on with an unfinished run, or begin one. Images in a list must be the same, in the same order.
        device: auto, cpu, cuda or cuda:N.
        precision: auto, fp32, bf16 or fp16; parameters stay float32.
        workers: processes that prepare samples; 0 for none beside this one.
        overwrite: replace `output` if it exists.
        progress: takes a `TrainProgress` every few steps, and with `row` after each epoch.

    Returns:
        The model; `checkpoint.card["scores"]` has how it validates.

    Raises:
        InputError: images, labels or a recipe that cannot be used, or an output that exists.
        UsageError: options that do not go together.
        Incomplete: `max_time` is over; the run is saved.

    An example stands in docs/python.md: even a short training takes a minute.
    """
    keep_freed_memory()
    chosen = choose_device(device)
    changed = [f"{key}={json.dumps(value)}" for key, value in (changes or {}).items()]
    read = read_recipe(os.fspath(recipe), (*changed, *([f"run.epochs={epochs}"] if epochs else ())))
    held_out: tuple[Pair, ...] | float = read.split.validation if validation is None else validation
    if validation_images is not None and validation_labels is not None and validation is None:
        held_out = _pairs(validation_images, validation_labels, None, "validation ")
    elif validation_images is not None or validation_labels is not None:
        raise UsageError("validation is a fraction, or both validation_images and validation_labels: give the one")
    file = Path(output)
    check_output(file, overwrite=overwrite, resume=resume)
    data = split(_pairs(images, labels, weights, ""), held_out, read.split.test)
    job = TrainJob(
        data.training,
        data.validation,
        test=data.test,
        recipe=read,
        output=file,
        device=chosen,
        precision=choose_precision(precision, chosen),
        workers=workers,
        max_seconds=max_time,
        resume=resume,
        start=_checkpoint(start),
    )
    result = run(job, progress or (lambda now: None), lambda: None)
    if result.first:
        write_report(result, job.recipe, result.folder / "report.html")
    return Model(load_checkpoint(file), device)


def _checkpoint(start: str | os.PathLike[str] | Model | None) -> Checkpoint | None:
    if start is None or isinstance(start, Model):
        return None if start is None else start.checkpoint
    return load_checkpoint(find_model(os.fspath(start)))


def _pairs(images: Images, labels: Images, weights: Images | None, kind: str) -> tuple[Pair, ...]:
    """Return the pairs of folders, or of lists; those of a list are named by their place in it.

    Raises:
        UsageError: a folder and a list, or lists of different lengths.
        InputError: files that do not pair.
    """
    given = [images, labels, *([] if weights is None else [weights])]
    folders = [Path(one) for one in given if isinstance(one, str | os.PathLike)]
    if len(folders) == len(given):
        return find_pairs(*folders)
    lists = [one for one in given if not isinstance(one, str | os.PathLike)]
    if folders or len({len(one) for one in lists}) > 1:
        raise UsageError("images and labels are folders, or lists of the same length: give both as one or the other")
    names = ("image", "labels", "weights")
    sources = [
        [source_of(image, f"{kind}{name} {number:04}") for number, image in enumerate(one)]
        for name, one in zip(names, lists, strict=False)
    ]
    return tuple(Pair(*parts) for parts in zip(*sources, strict=True))
