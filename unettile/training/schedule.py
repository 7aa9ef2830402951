"""Optimisers, and what the learning rate and the end of a run follow from: the step, the log or the clock.

A function of the log alone goes on after a stop as if nothing had been.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from unettile.training.parts import OptimizerPart
from unettile.training.recipe import Recipe

PRETRAINED = ("encoder.", "features.")  # names of what `unettile.networks.encoders` fills begin so

RESERVE = 0.05
"""Share of the time that is kept for the end as long as no validation was timed, and at least."""

LAST_SCORES = 3.0
"""Validations that the end takes: that of the calibration, which tries many shifts, and that of the result."""

WORTH = 3.0
"""Training between two validations takes at least as many times as long as one of them."""


def make_optimizer(network: nn.Module, part: OptimizerPart, *, fused: bool = True) -> torch.optim.Optimizer:
    """Return the recipe's optimiser; the learning rate is set anew at each step.

    Args:
        fused: one kernel for a whole step; it takes the scale of fp16 off the gradients itself, too late to clip them.
    """
    parameters = _groups(network, part.encoder)
    rate, decay = part.learning_rate, part.weight_decay
    if part.name == "sgd":
        return torch.optim.SGD(parameters, lr=rate, momentum=part.momentum, weight_decay=decay)
    if part.name == "adam":
        return torch.optim.Adam(parameters, lr=rate, weight_decay=decay, fused=fused)
    return torch.optim.AdamW(parameters, lr=rate, weight_decay=decay, fused=fused)


def set_rate(groups: Iterable[dict[str, Any]], rate: float) -> None:
    """Set the rate of the next step in the groups of an optimiser; that of the encoder is its share of it."""
    for group in groups:
        group["lr"] = rate * group["share"]


def _groups(network: nn.Module, encoder: float) -> list[dict[str, Any]]:
    """Return a network's parameters in groups whose rates are shares of the run's: what may be pretrained, the rest."""
    named = list(network.named_parameters())
    own = [parameter for name, parameter in named if name.startswith(PRETRAINED)]
    rest = [parameter for name, parameter in named if not name.startswith(PRETRAINED)]
    if not own or encoder == 1:
        return [{"params": [parameter for _, parameter in named], "share": 1.0}]
    return [{"params": rest, "share": 1.0}, {"params": own, "share": encoder}]


def learning_rate(
    step: int, recipe: Recipe, validation_losses: Sequence[float] = (), used: float | None = None
) -> float:
    """Return the rate of a step, counted from 0: a linear warm-up, then what the schedule says.

    Args:
        used: share of the run's time that is over, where the clock and not a number of steps ends it.
        validation_losses: of the epochs that have ended, for the schedule `plateau`.
    """
    part = recipe.optimizer
    steps = recipe.run.epochs * recipe.run.steps_per_epoch
    if step < part.warmup_steps:
        return part.learning_rate * (step + 1) / part.warmup_steps
    if part.schedule == "plateau":
        return part.learning_rate * part.factor ** plateaus(validation_losses, part.patience)
    if part.schedule == "constant":
        return part.learning_rate
    progress = used
    if progress is None:
        progress = (step - part.warmup_steps) / max(1, steps - part.warmup_steps)
    return part.learning_rate * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def plateaus(losses: Sequence[float], patience: int) -> int:
    """Return how often the lowest loss has stayed the lowest for `patience` further epochs; each counts afresh.

    >>> plateaus([3, 2, 2, 2, 2, 2, 2], 3), plateaus([3, 2, 2, 1, 1, 1], 3)
    (1, 0)
    """
    lowest, waited, count = math.inf, 0, 0
    for loss in losses:
        waited = 0 if loss < lowest else waited + 1
        lowest = min(lowest, loss)
        if waited == patience:
            count, waited = count + 1, 0
    return count


def out_of_patience(figures: Sequence[float], patience: int) -> bool:
    """Whether the best of the figures, larger is better, lies `patience` or more epochs back; 0 waits for ever.

    >>> out_of_patience([1, 3, 2, 2], 2), out_of_patience([1, 3, 2], 2), out_of_patience([3, 1, 1], 0)
    (True, False, False)
    """
    if not patience or not figures:
        return False
    return len(figures) - 1 - max(range(len(figures)), key=figures.__getitem__) >= patience


class Clock:
    """Which share of a run's time is used, and when it is time for a validation.

    Validations come at equal shares of the time, fewer where they would take more than a quarter of it. The time that
    the end will need after the last one is kept free. Until one was timed, the pace of the steps tells how long it may
    take; a quarter of the time is for training all the same.

    Args:
        seconds: for everything.
        epochs: validations, the last at the end; fewer where there is no time for them, one more where the last began
            early, since those before took longer.
        validation_steps: how many steps take about as long as a validation.
    """

    def __init__(self, seconds: float, epochs: int, validation_steps: float = 0.0) -> None:
        self._seconds, self._epochs, self._validation_steps = seconds, epochs, validation_steps
        self._read = self._took = 0.0
        self._timed = self._over = False

    def read(self, seconds: float, steps: int = 0) -> None:
        """Take note of the time used so far, that of earlier parts of a resumed run included, and of its steps."""
        self._read = seconds
        if steps and not self._timed:
            self._took = self._validation_steps * seconds / steps

    def validated(self, took: float, seconds: float) -> None:
        """Take note of how long a validation took, and of the time used at its end."""
        self._took, self._read, self._timed = took, seconds, True
        self._over = self._read + took >= self._last

    @property
    def used(self) -> float:
        """Share of the time, 0 … 1, that is over; 1 when training must end."""
        return min(1.0, self._read / self._training_seconds)

    @property
    def is_over(self) -> bool:
        """Whether the last validation was the last: for another one there was no time."""
        return self._over

    def epoch_is_over(self, done: int, since: float) -> bool:
        """Whether it is time to validate, after so many validations of which the last ended at `since` seconds."""
        if self._read >= self._last:
            return True
        worth = min(self._read - since, self._last - self._read) >= WORTH * self._took
        return worth and self._read >= (done + 1) / self._epochs * self._training_seconds

    def expected_steps(self, step: int) -> int:
        """Return about how many steps the run will have had."""
        return max(step, round(step / max(self.used, 1e-9)))

    def to_list(self) -> list[float]:
        return [self._took, float(self._over), float(self._timed)]

    def go_on(self, values: list[float], seconds: float) -> None:
        """Go on from what `to_list` gave for an earlier part of the run, which took so long."""
        self._took, self._over, self._read = values[0], bool(values[1]), seconds
        self._timed = values[2:] != [0.0]  # earlier versions kept what was timed alone

    @property
    def _last(self) -> float:
        """When the last validation begins."""
        last = self._training_seconds - self._took
        return last if self._timed else max(last, self._training_seconds / 2)

    @property
    def _training_seconds(self) -> float:
        kept = max(RESERVE * self._seconds, LAST_SCORES * self._took)
        if not self._timed:
            kept = min(kept, self._seconds / 2)
        return max(1e-3, self._seconds - kept)
