"""Training of a model from images and their labels, as `unettile train` does it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from unettile.atomic import remove_leftovers
from unettile.checkpoint import Checkpoint, load_checkpoint
from unettile.devices import keep_freed_memory
from unettile.duration import seconds_of
from unettile.ensemble import load_models
from unettile.errors import UsageError
from unettile.face.advice import advise
from unettile.face.image import Channel, ImageLike, source_of, view_of
from unettile.face.model import Model
from unettile.images.slide import ImageSource
from unettile.models import find_model
from unettile.report.page import write_report
from unettile.training.job import is_finished
from unettile.training.loop import train as run
from unettile.training.pairs import note_labels, note_pairs
from unettile.training.request import TrainRequest
from unettile.training.result import TrainProgress, TrainResult
from unettile.training.views import note_views

Images = str | os.PathLike[str] | Sequence[ImageLike]
"""A folder, whose files pair by name, or a list of images, which pair by their order."""


def train(
    images: Images,
    labels: Images,
    output: str | os.PathLike[str],
    *,
    recipe: str | os.PathLike[str] = "auto",
    changes: Mapping[str, Any] | None = None,
    start: str | os.PathLike[str] | Model | None = None,
    weights: Images | None = None,
    level: int | None = None,
    series: int | None = None,
    channel: Channel | None = None,
    z: int | None = None,
    time: int | None = None,
    validation: float | None = None,
    validation_images: Images | None = None,
    validation_labels: Images | None = None,
    test: float | None = None,
    folds: int | None = None,
    fold: int | None = None,
    epochs: int | None = None,
    max_time: float | str | None = None,
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
        recipe: "auto", which looks at the images and chooses, a shipped recipe's name, or the path of a TOML file.
        changes: keys of the recipe to change, such as {"run.batch": 4, "network.widths": [16, 32, 64]}.
        start: a model whose parameters the network begins with, by name, file, or loaded.
        weights: weight maps, (H, W) float, instead of those made on the fly.
        level, series, channel, z, time: which image of the files; of a stack, for which they choose none, every plane.
        validation: part of the images held out; None for the recipe's.
        validation_images, validation_labels: images to validate on instead.
        test: part of the images to score once, at the end; None for the recipe's.
        folds: train so many models, each of which validates on another part of the images, into a folder `output`; as
            one model they are the mean of their probabilities.
        fold: of these, train that one alone, from 1.
        epochs: instead of the recipe's.
        max_time: seconds, or a text such as "2h", after which to stop and save. Without `epochs` the schedule ends by
            then.
        resume: go on with an unfinished run, or begin one; a finished one stays. Images in a list must be the same, in
            the same order.
        device: auto, cpu, cuda or cuda:N.
        precision: auto, fp32, bf16 or fp16; parameters stay float32.
        workers: processes that prepare samples; 0 for none beside this one.
        overwrite: replace `output` if it exists.
        progress: takes a `TrainProgress` every few steps, and with `row` after each epoch.

    Returns:
        The model, that of all folds together; `checkpoint.card["scores"]` has how it validates.

    Raises:
        InputError: images, labels or a recipe that cannot be used, or an output that exists.
        UsageError: options that do not go together.
        Incomplete: `max_time` is over; the run is saved.

    Warns:
        Advice: labels whose ids do not look like those of objects.

    An example stands in docs/python.md: even a short training takes a minute.
    """
    keep_freed_memory()
    request = TrainRequest(
        _images(images),
        _images(labels),
        Path(output),
        os.fspath(recipe),
        tuple(f"{key}={json.dumps(value)}" for key, value in (changes or {}).items()),
        _checkpoint(start),
        None if weights is None else _images(weights),
        validation,
        None if validation_images is None else _images(validation_images),
        None if validation_labels is None else _images(validation_labels),
        epochs,
        seconds_of(max_time),
        resume,
        device,
        precision,
        workers,
        overwrite,
        view_of(series, level, None, channel, z, time),
        test,
    )
    if folds is None:
        if fold is not None:
            raise UsageError(f"fold {fold} is one of several: give folds, too")
        return Model(load_checkpoint(_train(request, progress)), device)
    made = []
    for one in request.in_folds(folds, fold):
        request.output.mkdir(parents=True, exist_ok=True)
        made.append(str(_train(one, progress)))
    return Model(load_models(made), device)


def _train(request: TrainRequest, progress: Callable[[TrainProgress], None] | None) -> Path:
    """Train what is asked for, and return the file."""
    job = request.job()
    seen = (*job.training, *job.validation)
    labels = note_labels(seen, job.recipe.labels.kind)
    for note in (*job.notes, note_pairs(seen), *note_views(seen, request.view), labels):
        if note is not None:
            advise(note)
    if not (request.resume and not request.overwrite and is_finished(job)):
        remove_leftovers(request.output)
        run(job, progress or (lambda now: None), lambda: None, lambda made: write_report(made, job.recipe, _page(made)))
    return request.output


def _page(result: TrainResult) -> Path:
    return result.folder / "report.html"


def _checkpoint(start: str | os.PathLike[str] | Model | None) -> Checkpoint | None:
    if start is None or isinstance(start, Model):
        return None if start is None else start.checkpoint
    return load_checkpoint(find_model(os.fspath(start)))


def _images(images: Images) -> Path | list[ImageSource]:
    """Return a folder, or the images of a list as they are opened."""
    if isinstance(images, str | os.PathLike):
        return Path(images)
    return [source_of(image) for image in images]
