"""A run planned by the clock: equal shares of the time, room for the end, and the same after a stop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.runs import RECIPE, make_job, run
from unettile.checkpoint import load_checkpoint
from unettile.errors import Interrupted
from unettile.training import loop
from unettile.training.result import Meter
from unettile.training.schedule import Clock
from unettile.training.state import TrainingFolder


def test_epochs_are_equal_shares_and_the_last_leaves_room_for_the_end() -> None:
    clock = Clock(1000, 4)
    assert not clock.epoch_is_over(0, 0) and clock.used == 0
    clock.read(240)
    assert clock.epoch_is_over(0, 0) and not clock.epoch_is_over(1, 240) and not clock.is_over
    clock.validated(100, 240)  # the end takes three validations, and the last epoch one more
    clock.read(700)
    assert clock.used == 1 and clock.epoch_is_over(3, 500)
    clock.read(599)
    assert not clock.epoch_is_over(3, 500) and not clock.is_over
    clock.read(601)
    assert clock.epoch_is_over(3, 500) and clock.used < 1


def test_a_validation_longer_than_the_time_ends_the_run_at_once() -> None:
    clock = Clock(10, 3)
    clock.validated(100, 1)
    assert clock.used == 1 and clock.epoch_is_over(0, 1) and clock.is_over and clock.expected_steps(7) == 7


def test_validations_take_a_quarter_of_the_time_at_most() -> None:
    clock = Clock(1000, 60)
    steps = seconds = since = done = 0
    while not clock.is_over:
        steps, seconds = steps + 1, seconds + 2
        clock.read(seconds)
        if clock.epoch_is_over(done, since):
            seconds, done = seconds + 20, done + 1
            since = seconds
            clock.validated(20, seconds)
    assert done == 12 and 1000 - 3 * 20 - 4 <= seconds <= 1000 - 3 * 20 + 4
    assert 20 * done <= 0.26 * seconds, "not the 60 that the recipe wants at most"


def test_a_last_validation_that_was_quick_is_not_repeated() -> None:
    clock = Clock(1000, 2)
    clock.validated(30, 500)
    clock.read(880)
    assert clock.epoch_is_over(1, 500) and not clock.is_over
    clock.validated(20, 900)  # so that more time is left than was thought
    assert clock.is_over and clock.used < 1
    later = Clock(1000, 2)
    later.go_on(clock.to_list(), 900)
    assert later.is_over and later.used == clock.used


def test_a_last_validation_that_began_far_too_early_is_followed_by_another() -> None:
    clock = Clock(1000, 2)
    clock.validated(100, 400)  # the machine was busy
    clock.read(601)
    assert clock.epoch_is_over(1, 400) and not clock.is_over
    clock.validated(10, 611)
    assert not clock.is_over and clock.used < 0.7
    clock.read(939)
    assert not clock.epoch_is_over(2, 611)
    clock.read(941)
    assert clock.epoch_is_over(2, 611)
    clock.validated(10, 951)
    assert clock.is_over


def test_the_number_of_steps_is_foretold() -> None:
    clock = Clock(100, 2)
    clock.read(19)
    assert clock.used == pytest.approx(0.2) and clock.expected_steps(50) == 250


def test_a_slow_validation_is_foreseen() -> None:
    clock = Clock(1000, 10, validation_steps=25)
    clock.read(20, 10)  # 2 s a step, so a validation may take 50 s, and the end three of them
    assert clock.used == pytest.approx(20 / (1000 - 150)) and not clock.epoch_is_over(0, 0)
    clock.read(148, 74)
    assert not clock.epoch_is_over(0, 0), "training between two of them takes three times as long"
    clock.read(150, 75)
    assert clock.epoch_is_over(0, 0)
    clock.validated(10, 320)
    clock.read(330, 151)
    assert clock.used == pytest.approx(330 / 950), "what was timed counts"
    slow = Clock(1000, 10, validation_steps=1e6)
    slow.read(249, 3)
    assert not slow.epoch_is_over(0, 0)
    slow.read(251, 3)
    assert slow.epoch_is_over(0, 0)
    later = Clock(1000, 10, validation_steps=1e6)
    later.go_on(slow.to_list(), 251)  # nothing was timed before
    assert later.epoch_is_over(0, 0) and later.used == slow.used


class Ticking(Meter):
    """A meter whose clock moves by a second a step, and stands while the network is validated."""

    ticks = 0.0

    @property
    def seconds(self) -> float:
        return self._before + self.ticks

    def to_list(self) -> list[float]:
        return [self.seconds, 0.0]


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    step = loop._Run._train_step

    def timed(self: loop._Run, *batch: object) -> float:
        assert isinstance(self.meter, Ticking)
        self.meter.ticks += 1
        return step(self, *batch)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "Meter", Ticking)
    monkeypatch.setattr(loop._Run, "_train_step", timed)


@pytest.mark.usefixtures("ticking")
def test_a_run_ends_with_the_time_and_leaves_a_model(data: Path) -> None:
    recipe = replace(RECIPE, run=replace(RECIPE.run, epochs=3, calibrate=True, select="iou"))
    result, _ = run(replace(make_job(data, recipe), clock_seconds=20.0))
    assert [row.step for row in result.rows] == [6, 13, 19], (
        "a twentieth of the time is kept for the end, and more until it is known"
    )
    assert [row.epoch for row in result.rows] == [1, 2, 3]
    assert result.rows[-1].learning_rate < 0.02 * recipe.optimizer.learning_rate < result.rows[0].learning_rate
    checkpoint = load_checkpoint(data / "model.safetensors")
    assert "background_shift" in checkpoint.card and checkpoint.objects_px is not None


@pytest.mark.usefixtures("ticking")
def test_a_stopped_run_goes_on_with_the_time_that_is_left(data: Path) -> None:
    whole, _ = run(replace(make_job(data, name="whole"), clock_seconds=12.0))
    job = replace(make_job(data, name="cut"), clock_seconds=12.0)
    with pytest.raises(Interrupted):
        run(job, lambda step: 2 if step == 5 else None)
    assert TrainingFolder.beside(job.output).has_state
    resumed, _ = run(replace(job, resume=True))
    assert [replace(row, seconds=0) for row in resumed.rows] == [replace(row, seconds=0) for row in whole.rows]
    assert (data / "cut.safetensors").read_bytes() == (data / "whole.safetensors").read_bytes()
