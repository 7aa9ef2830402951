"""The loader: batches of samples, made ahead of the step that needs them."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch.utils.data import DataLoader

from unettile.training.recipe import Recipe
from unettile.training.samples import Samples, collate


@dataclass(frozen=True)
class Share:
    """What one process of a run is to see: which process of how many it is, and the first step."""

    rank: int = 0
    world: int = 1
    first_step: int = 0


def make_loader(
    samples: Samples, recipe: Recipe, share: Share, workers: int, *, pin: bool = False, endless: bool = False
) -> DataLoader[Any]:
    """Return a loader of (windows, classes, weights, depths), or of the InputError that met a sample.

    Sample numbers depend on the step alone, so that a resumed or distributed run sees the same ones.

    Args:
        workers: processes that make samples; 0 makes them in this one.
        pin: put batches where a GPU fetches them faster.
        endless: until it is closed, not for the recipe's steps.
    """
    run = recipe.run
    each = run.batch // share.world
    steps = count(share.first_step) if endless else range(share.first_step, run.epochs * run.steps_per_epoch)
    numbers = _Numbers(
        list(range(step * run.batch + share.rank * each, step * run.batch + (share.rank + 1) * each)) for step in steps
    )
    return DataLoader(
        samples,
        batch_sampler=numbers,
        num_workers=workers,
        collate_fn=collate,
        generator=torch.Generator(),  # else the loader draws from the generator that dropout uses
        worker_init_fn=_begin_worker,
        pin_memory=pin,
    )


class _Numbers:
    """Numbers of the samples of each batch, made when asked for: of a run by the clock nobody knows how many."""

    def __init__(self, batches: Iterator[list[int]]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[list[int]]:
        return self._batches


def _begin_worker(worker: int) -> None:
    """Let a worker ignore signals sent to the whole job, which the training process answers, and use one thread."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
