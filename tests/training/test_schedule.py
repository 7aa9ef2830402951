"""Learning rates and the end of a run, as functions of the step and the log."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from unettile.networks import build_network
from unettile.training.parts import OptimizerPart, RunPart
from unettile.training.recipe import Recipe
from unettile.training.schedule import learning_rate, make_optimizer, out_of_patience, plateaus, set_rate

RECIPE = Recipe(optimizer=OptimizerPart(learning_rate=1e-2, warmup_steps=4), run=RunPart(epochs=10, steps_per_epoch=4))


def test_the_learning_rate_warms_up_and_falls_to_zero() -> None:
    rates = [learning_rate(step, RECIPE) for step in range(40)]
    assert np.argmax(rates) in (3, 4) and max(rates) == pytest.approx(RECIPE.optimizer.learning_rate)
    assert all(np.diff(rates[4:]) < 0) and rates[-1] < 0.01 * max(rates)


def test_by_the_clock_the_rate_follows_the_share_of_the_time_used() -> None:
    rates = [learning_rate(1000, RECIPE, used=used) for used in (0.0, 0.25, 0.5, 0.75, 1.0)]
    assert rates == pytest.approx([1e-2, 1e-2 * (2 + 2**0.5) / 4, 5e-3, 1e-2 * (2 - 2**0.5) / 4, 0.0])
    assert learning_rate(0, RECIPE, used=0.5) == pytest.approx(1e-2 / 4), "the warm-up is counted in steps"


def test_an_encoder_has_its_share_of_the_rate_and_every_parameter_one_group() -> None:
    network = build_network("lite-unet", {"widths": [2, 3]})
    for name in ("adamw", "adam", "sgd"):
        optimizer = make_optimizer(network, replace(RECIPE.optimizer, name=name, encoder=0.25))
        set_rate(optimizer.param_groups, 8e-3)
        rates = {id(parameter): group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
        assert len(rates) == len(list(network.parameters()))
        for parameter_name, parameter in network.named_parameters():
            assert rates[id(parameter)] == pytest.approx(2e-3 if parameter_name.startswith("encoder.") else 8e-3)
    (group,) = make_optimizer(build_network("unet", {"widths": [2, 3]}), RECIPE.optimizer).param_groups
    assert group["share"] == 1


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
