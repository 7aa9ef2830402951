"""Request: what a user asks of a training, checked and turned into a job."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic

from unettile.checkpoint import Checkpoint, load_checkpoint
from unettile.devices import choose_device, choose_precision
from unettile.errors import UsageError
from unettile.images.view import FIRST, View
from unettile.limits import count_threads
from unettile.models import find_model
from unettile.protection import protect
from unettile.training.auto import Means, choose_recipe
from unettile.training.facts import find_facts
from unettile.training.folds import Fold
from unettile.training.job import Data, TrainJob, check_output, find_sources, make_room, split
from unettile.training.kinds import settle_foreground
from unettile.training.meaning import (
    find_meaning,
    name_classes,
    settle_ignored,
    settle_values,
    with_classes,
    with_kinds,
)
from unettile.training.pairs import Images, Pair, pair_up
from unettile.training.recipe import Recipe
from unettile.training.recipefile import read_recipe, recipe_from_dict, with_changes
from unettile.training.state import TrainingFolder
from unettile.training.survey import settle_diameter
from unettile.training.views import choose_views
from unettile.training.words import early_words

AUTO = "auto"
"""The recipe that is chosen for the images and the job."""


@dataclass(frozen=True)
class TrainRequest:
    """What a user asks for; the fields are the options of `unettile train`.

    Args:
        images, labels: folders, or lists.
        output: the checkpoint.
        recipe: its name, or a file; AUTO chooses one.
        changes: of the recipe, KEY=VALUE.
        start: a model whose parameters the network begins with.
        weights: weight maps of the images.
        validation: fraction to hold out; None for the recipe's.
        validation_images, validation_labels: to validate on instead.
        test: fraction to score once, at the end; None for the recipe's.
        epochs: instead of the recipe's.
        max_seconds: stop and save after so long; without a number of epochs the schedule ends by then.
        device, precision: by name.
        view: which plane, level and channels of the images; of a stack, for which it chooses none, every plane.
        fold: the part of the images that validates, instead of a fraction.
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
    test: float | None = None
    fold: Fold | None = None

    def in_folds(self, count: int, only: int | None = None) -> Iterator[TrainRequest]:
        """Yield the request of each fold, whose model lies in the folder `output`.

        Each has its share of what is left of the time when it is asked for; with a number of epochs all that is left.

        Args:
            only: number of the one that is wanted.

        Raises:
            UsageError: no such fold, or options that say otherwise what is held out.
        """
        numbers = range(1, count + 1) if only is None else (only,)
        folds = [Fold(number, count) for number in numbers]
        if self.validation is not None or self.validation_images is not None or self.validation_labels is not None:
            raise UsageError("--folds says what is held out: leave --validation… out")
        began = monotonic()
        for place, fold in enumerate(folds):
            seconds = self.max_seconds
            if seconds is not None:
                left = max(1.0, seconds - (monotonic() - began))
                seconds = left if self.epochs else left / (len(folds) - place)
            yield replace(self, output=self.output / fold.name, fold=fold, max_seconds=seconds)

    def job(self) -> TrainJob:
        """Return the job; nothing is written, but with `overwrite` what an earlier run left is cleared.

        Raises:
            UsageError: options that do not go together.
            InputError: images, labels, a recipe or an output that is refused.
        """
        chosen = choose_device(self.device)
        given = (self.images, self.labels, self.weights, self.validation_images, self.validation_labels)
        files = [one for one in given if isinstance(one, Path)]
        own = [] if self.recipe == AUTO else [Path(self.recipe)]
        folder = TrainingFolder.beside(self.output)
        protect([*files, *own], [self.output, folder.path])
        check_output(self.output, overwrite=self.overwrite, resume=self.resume)
        reasons: tuple[str, ...] = ()
        if self.recipe == AUTO and self.resume and folder.has_state:  # chosen when it began
            recipe = read_recipe(str(folder.recipe), self._changes)
        else:
            recipe, reasons = self.choose()
        settled, reasons = ((), reasons) if self.recipe == AUTO else (reasons, ())
        if self.validation is not None or self.test is not None:  # so that the recipe of the run says it
            held = {"validation": self.validation, "test": self.test}
            values = recipe.to_dict()
            values["split"] |= {key: share for key, share in held.items() if share is not None}
            recipe = recipe_from_dict(values)
        held_out = self._held_out(recipe)
        if self.overwrite and not self.resume:
            make_room(self.output)
        data = self._data(recipe, held_out)
        if self.fold is not None and reasons:
            told = f"validation: fold {self.fold.number} of {self.fold.count}, {len(data.validation)} images"
            reasons = tuple(told if one.startswith("validation:") else one for one in reasons)
        part, note = settle_values(data.training, recipe.labels)
        part, ignored = settle_ignored((*data.training, *data.validation, *data.test), part)
        recipe = settle_diameter(data.training, replace(recipe, labels=part))
        fresh = not (self.resume and folder.has_state)
        words = early_words(data, recipe) if fresh else ()
        counts_epochs = any(key.startswith("run.epochs=") for key in self._changes)
        start = self.start
        if start is None and recipe.network.start:
            start = load_checkpoint(find_model(recipe.network.start))
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
            start=start,
            reasons=reasons,
            notes=(*settled, *(said for said in (note, ignored) if said is not None), *words),
        )

    def choose(self) -> tuple[Recipe, tuple[str, ...]]:
        """Return the recipe, and what was chosen for the images and the job, with the reason, a line each.

        Raises:
            InputError: a recipe that is refused, or images and labels that none can be chosen for.
        """
        if self.recipe != AUTO:
            return self._settled(read_recipe(self.recipe, self._changes))
        asked = {change.partition("=")[0].strip(): change for change in self._changes}
        told = [change for key, change in asked.items() if key.startswith("labels.")]
        if "labels.names" in asked and "labels.kind" not in asked:
            told.append('labels.kind="classes"')
        labels = recipe_from_dict(with_changes({}, tuple(told))).labels
        kind = labels.kind if asked.keys() & {"labels.kind", "labels.names"} else None
        pairs = choose_views(pair_up(self.images, self.labels, self.weights), self.view, 0)
        if kind == "classes":
            labels = replace(labels, kind=kind, names=labels.names if "labels.names" in asked else name_classes(pairs))
        meaning = find_meaning(with_classes(pairs, labels) if kind else pairs, settle_ignored(pairs, labels)[0], kind)
        if "labels.names" not in asked:
            meaning = with_kinds(pairs, meaning)
        pairs = with_classes(pairs, meaning.part)
        device = choose_device(self.device).type
        seconds = None if "run.epochs" in asked else self.max_seconds
        plan = choose_recipe(find_facts(pairs, meaning), meaning, Means(device, count_threads(), seconds))
        values = plan.recipe.to_dict()
        if self.start is not None or any(key.startswith("network.") or "." not in key for key in asked):
            values["network"].pop("start", None)  # another network, or other parameters
        recipe, said = self._settled(recipe_from_dict(with_changes(values, self._changes)))
        return recipe, (*plan.reasons, *said)

    def _settled(self, recipe: Recipe) -> tuple[Recipe, tuple[str, ...]]:
        """Return the recipe with the foreground of kinds, unless another was asked for, and what to tell of it."""
        if any(change.partition("=")[0].strip() == "objects.threshold" for change in self._changes):
            return recipe, ()
        recipe, note = settle_foreground(recipe)
        return recipe, () if note is None else (note,)

    @property
    def _changes(self) -> tuple[str, ...]:
        return (*self.changes, *([f"run.epochs={self.epochs}"] if self.epochs else ()))

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
            if self.fold is not None:
                kept = split(pairs, 0.0, recipe.split.test)
                training, validation = self.fold.split(kept.training)
                return Data(training, validation, kept.test)
            return split(pairs, held_out, recipe.split.test)
        if self.validation is not None or isinstance(held_out, tuple) or self.weights is not None or self.fold:
            raise UsageError(
                "the recipe has [sources], which say what is held out: leave --validation…, --folds and --weights out"
            )
        if not isinstance(self.images, Path) or not isinstance(self.labels, Path):
            raise UsageError("the recipe has [sources], which are folders: give folders of images and labels")
        return find_sources(self.images, self.labels, recipe.sources, lambda pairs: self._chosen(pairs, recipe))

    def _chosen(self, pairs: Sequence[Pair], recipe: Recipe) -> tuple[Pair, ...]:
        """Return the pairs of 2-D images that the view chooses."""
        return choose_views(with_classes(pairs, recipe.labels), self.view, recipe.in_channels)
