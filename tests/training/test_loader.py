"""The loader: the samples of every step in order, and nothing that happens to a process that makes them goes unsaid."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import unettile.training.loader
from tests.training.runs import RECIPE, make_job, run
from unettile.errors import Incomplete, InputError
from unettile.training.loader import Share, load_batches
from unettile.training.pairs import find_pairs
from unettile.training.samples import Samples
from unettile.training.survey import survey


@pytest.fixture
def samples(data: Path) -> Samples:
    return Samples(survey(find_pairs(data / "images", data / "labels"), RECIPE), RECIPE, 20, None)


@pytest.fixture(autouse=True)
def two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unettile.training.loader, "count_threads", lambda: 2)


def test_any_number_of_processes_makes_the_same_batches(samples: Samples) -> None:
    alone, two = (list(load_batches(samples, RECIPE, Share(), workers)) for workers in (0, 10**20))
    assert len(alone) == len(two) == RECIPE.run.epochs * RECIPE.run.steps_per_epoch
    for one, other in zip(alone, two, strict=True):
        assert not isinstance(one, InputError) and not isinstance(other, InputError)
        for part, same in zip(one, other, strict=True):
            np.testing.assert_array_equal(part, same)
    first = next(load_batches(samples, RECIPE, Share(first_step=3), 0))
    assert not isinstance(first, InputError) and not isinstance(alone[3], InputError)
    np.testing.assert_array_equal(first[0], alone[3][0])


def test_closing_ends_the_processes(samples: Samples) -> None:
    before = _children()
    batches = load_batches(samples, RECIPE, Share(), 2, endless=True)
    next(batches)
    assert _children() - before
    batches.close()
    assert not _children() - before


def test_a_process_that_is_killed_ends_the_run_in_one_line_and_it_goes_on(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As happens for want of memory, and where shared memory is small."""
    longer = replace(RECIPE, run=replace(RECIPE.run, epochs=1, steps_per_epoch=6))
    expected, _ = run(make_job(data, longer, "whole"))
    job, before = replace(make_job(data, longer), workers=1), _children()

    def kill(step: int) -> None:
        if step == 3:
            for child in _children() - before:
                os.kill(child, signal.SIGKILL)

    with pytest.raises(Incomplete, match=r"was ended from outside, .* --resume, and fewer --workers"):
        run(job, kill)
    deadline = time.monotonic() + 10
    while _children() - before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _children() - before
    result, _ = run(replace(job, resume=True))
    for name, tensor in result.checkpoint.parameters.items():
        np.testing.assert_array_equal(tensor.numpy(), expected.checkpoint.parameters[name].numpy())


def test_no_process_to_be_had(samples: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("concurrent.futures.process.ProcessPoolExecutor.submit", refuse)
    with pytest.raises(Incomplete, match="no process that prepares samples can be started"):
        next(load_batches(samples, RECIPE, Share(), 1))


def test_no_shared_memory_is_used(samples: Samples) -> None:
    shared = Path("/dev/shm")
    if not shared.is_dir():
        pytest.skip("no /dev/shm here")
    before = {entry.name for entry in shared.iterdir() if not entry.name.startswith("sem.")}
    batches = load_batches(samples, RECIPE, Share(), 2, endless=True)
    for _ in range(4):
        next(batches)
    during = {entry.name for entry in shared.iterdir() if not entry.name.startswith("sem.")}
    batches.close()
    assert not {name for name in during - before if name.startswith(("torch_", "psm_"))}


def _children() -> set[int]:
    """Return the processes that this one has started and that live."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = (entry / "stat").read_text("ascii", "replace").rpartition(")")[2].split()[:2]
        except OSError:
            continue
        if int(parent) == os.getpid() and state != "Z":
            found.add(int(entry.name))
    return found
