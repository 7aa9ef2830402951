"""Request: what a user asks of a training, checked and turned into a job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unettile.checkpoint import Checkpoint
from unettile.devices import choose_device, choose_precision
from unettile.errors import UsageError
from unettile.images.view import FIRST, View
from unettile.protection import protect
from unettile.training.job import Data, TrainJob, check_output, find_sources, split
from unettile.training.pairs import Images, Pair, pair_up
from unettile.training.recipe import Recipe
from unettile.training.recipefile import read_recipe
from unettile.training.state import TrainingFolder
from unettile.training.views import choose_views


@dataclass(frozen=True)
class TrainRequest:
    """What a user asks for; the fields are the options of `unettile train`.

    Args:
        images, labels: folders, or lists.
        output: the checkpoint.
        recipe: its name, or a file.
        changes: of the recipe, KEY=VALUE.
        start: a model whose parameters the network begins with.
        weights: weight maps of the images.
        validation: fraction to hold out; None for the recipe's.
        validation_images, validation_labels: to validate on instead.
        epochs: instead of the recipe's.
        max_seconds: stop and save after so long; without a number of epochs the schedule ends by then.
        device, precision: by name.
        view: which plane, level and channels of the images; of a stack, for which it chooses none, every plane.
    """

    images: Images
    labels: Images
    output: Path
    recipe: str
    changes: tuple[str, ...] = ()
    start: Checkpoint | None = None
    weights: Images | None = None
    validation: float | None = None
    validation_images: Images | None = None
    validation_labels: Images | None = None
    epochs: int | None = None
    max_seconds: float | None = None
    resume: bool = False
    device: str = "auto"
    precision: str = "auto"
    workers: int = 1
    overwrite: bool = False
    view: View = FIRST

    def job(self) -> TrainJob:
        """Return the job; nothing is written, but with `overwrite` what an earlier run left is cleared.

        Raises:
            UsageError: options that do not go together.
            InputError: images, labels, a recipe or an output that is refused.
        """
        chosen = choose_device(self.device)
        changes = (*self.changes, *([f"run.epochs={self.epochs}"] if self.epochs else ()))
        recipe = read_recipe(self.recipe, changes)
        given = (self.images, self.labels, self.weights, self.validation_images, self.validation_labels)
        files = [one for one in given if isinstance(one, Path)]
        protect([*files, Path(self.recipe)], [self.output, TrainingFolder.beside(self.output).path])
        held_out = self._held_out(recipe)
        check_output(self.output, overwrite=self.overwrite, resume=self.resume)
        data = self._data(recipe, held_out)
        counts_epochs = any(key.startswith("run.epochs=") for key in changes)
        return TrainJob(
            data.training,
            data.validation,
            test=data.test,
            recipe=recipe,
            output=self.output,
            device=chosen,
            precision=choose_precision(self.precision, chosen),
            workers=self.workers,
            max_seconds=self.max_seconds if counts_epochs else None,
            clock_seconds=None if counts_epochs else self.max_seconds,
            resume=self.resume,
            start=self.start,
        )

    def _held_out(self, recipe: Recipe) -> tuple[Pair, ...] | float:
        """Return the pairs to validate on, or the fraction to hold out."""
        if self.validation_images is not None and self.validation_labels is not None and self.validation is None:
            return self._chosen(pair_up(self.validation_images, self.validation_labels, kind="validation "), recipe)
        if self.validation_images is not None or self.validation_labels is not None:
            raise UsageError(
                "validation needs --validation FRACTION, or both --validation-images and --validation-labels"
            )
        return recipe.split.validation if self.validation is None else self.validation

    def _data(self, recipe: Recipe, held_out: tuple[Pair, ...] | float) -> Data:
        if not recipe.sources:
            pairs = self._chosen(pair_up(self.images, self.labels, self.weights), recipe)
            return split(pairs, held_out, recipe.split.test)
        if self.validation is not None or isinstance(held_out, tuple) or self.weights is not None:
            raise UsageError(
                "the recipe has [sources], which say what is held out: leave --validation… and --weights out"
            )
        if not isinstance(self.images, Path) or not isinstance(self.labels, Path):
            raise UsageError("the recipe has [sources], which are folders: give folders of images and labels")
        return find_sources(self.images, self.labels, recipe.sources, lambda pairs: self._chosen(pairs, recipe))

    def _chosen(self, pairs: Sequence[Pair], recipe: Recipe) -> tuple[Pair, ...]:
        """Return the pairs of 2-D images that the view chooses."""
        return choose_views(pairs, self.view, recipe.in_channels)
