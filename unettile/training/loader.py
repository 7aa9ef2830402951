"""The loader: batches of samples, made ahead of the step that needs them, by processes of their own.

Batches come through pipes: no shared memory is needed, of which containers have little. A process that prepares samples
ends with the one that trains, whatever ends that.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor

from unettile.errors import Incomplete, InputError
from unettile.limits import count_threads
from unettile.training.recipe import Recipe
from unettile.training.samples import Arrays, Samples, collate

AHEAD = 2  # batches that each process has in work, or ready

_ON_PARENT_DEATH = 1  # PR_SET_PDEATHSIG of linux/prctl.h


@dataclass(frozen=True)
class Share:
    """What one process of a run is to see: which process of how many it is, and the first step."""

    rank: int = 0
    world: int = 1
    first_step: int = 0


def load_batches(
    samples: Samples, recipe: Recipe, share: Share, workers: int, *, endless: bool = False
) -> Generator[Arrays | InputError, None, None]:
    """Yield (windows, classes, weights, depths) of each step, or the InputError that met a sample.

    Sample numbers depend on the step alone, so that a resumed or distributed run sees the same ones. Close it, or what
    prepares samples goes on.

    Args:
        workers: processes that make samples, at most as many as the job has processors; 0 makes them in this one.
        endless: until it is closed, not for the recipe's steps.

    Raises:
        Incomplete: a process that makes samples was ended, or cannot be started.
    """
    run = recipe.run
    each = run.batch // share.world
    steps = count(share.first_step) if endless else range(share.first_step, run.epochs * run.steps_per_epoch)
    starts = (step * run.batch + share.rank * each for step in steps)
    batches = (range(start, start + each) for start in starts)
    workers = min(workers, count_threads())
    if workers == 0:
        for numbers in batches:
            yield _make(samples, numbers)
        return
    with ProcessPoolExecutor(workers, initializer=_begin_worker, initargs=(samples, os.getpid())) as pool:
        try:
            yield from _in_order(pool, batches, AHEAD * workers)
        except BrokenProcessPool as error:
            raise Incomplete(
                "a process that prepares samples was ended from outside, as happens for want of memory: give the same"
                " command with --resume, and fewer --workers"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def placed(batch: Arrays, device: torch.device) -> tuple[Tensor, ...]:
    """Return a batch on a device."""
    tensors = [torch.from_numpy(part) for part in batch]
    if device.type == "cuda":  # from pinned memory a GPU fetches beside its work
        tensors = [tensor.pin_memory() for tensor in tensors]
    return tuple(tensor.to(device, non_blocking=True) for tensor in tensors)


def _in_order(pool: ProcessPoolExecutor, batches: Iterator[range], ahead: int) -> Iterator[Arrays | InputError]:
    waiting: deque[Future[Arrays | InputError]] = deque()
    for numbers in batches:
        try:
            waiting.append(pool.submit(_make_here, numbers))
        except OSError as error:
            raise Incomplete(
                f"no process that prepares samples can be started ({(error.strerror or str(error)).lower()}): give the"
                " same command with --resume, and --workers 0"
            ) from error
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _make(samples: Samples, numbers: range) -> Arrays | InputError:
    return collate([samples[number] for number in numbers])


_samples: Samples | None = None  # of a process that prepares them


def _make_here(numbers: range) -> Arrays | InputError:
    assert _samples is not None
    return _make(_samples, numbers)


def _begin_worker(samples: Samples, parent: int) -> None:
    """Let a process ignore signals sent to the whole job, which the training process answers, and use one thread."""
    global _samples
    _samples = samples
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    with suppress(OSError, AttributeError):  # Linux alone
        ctypes.CDLL(None).prctl(_ON_PARENT_DEATH, signal.SIGKILL)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)  # it ended before it could be watched
    torch.set_num_threads(1)
