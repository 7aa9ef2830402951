"""Learning rates and the end of a run, as functions of the step and the log."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from unettile.training.parts import OptimizerPart, RunPart
from unettile.training.recipe import Recipe
from unettile.training.schedule import learning_rate, out_of_patience, plateaus

RECIPE = Recipe(optimizer=OptimizerPart(learning_rate=1e-2, warmup_steps=4), run=RunPart(epochs=10, steps_per_epoch=4))


def test_the_learning_rate_warms_up_and_falls_to_zero() -> None:
    rates = [learning_rate(step, RECIPE) for step in range(40)]
    assert np.argmax(rates) in (3, 4) and max(rates) == pytest.approx(RECIPE.optimizer.learning_rate)
    assert all(np.diff(rates[4:]) < 0) and rates[-1] < 0.01 * max(rates)


def test_a_constant_rate_stays_and_one_on_plateaus_is_halved() -> None:
    constant = replace(RECIPE, optimizer=replace(RECIPE.optimizer, schedule="constant"))
    assert {learning_rate(step, constant) for step in range(4, 40)} == {1e-2}
    plateau = replace(RECIPE, optimizer=replace(RECIPE.optimizer, schedule="plateau", patience=2))
    assert learning_rate(20, plateau, [1.0, 1.1, 0.9]) == 1e-2
    assert learning_rate(20, plateau, [1.0, 1.1, 1.2]) == pytest.approx(5e-3)
    assert learning_rate(20, plateau, [1.0, 1.1, 1.2, 1.3, 1.4]) == pytest.approx(2.5e-3)


def test_an_improvement_begins_the_wait_anew() -> None:
    assert plateaus([], 3) == 0
    assert plateaus([5, 6, 6, 4, 6, 6], 3) == 0
    assert plateaus([5, 6, 6, 6, 6, 6, 6], 3) == 2
    assert out_of_patience([0.1, 0.5, 0.4, 0.5], 2)  # as good as before is not better
    assert not out_of_patience([0.1, 0.5, 0.4, 0.6], 2)
