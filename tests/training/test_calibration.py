"""Calibration: what the weights of the loss have shifted is shifted back, by what the validation images say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.runs import RECIPE, make_job, run
from unettile.checkpoint import load_checkpoint
from unettile.errors import InputError
from unettile.training.finish import SHIFTS, best_shift

NONE = len(SHIFTS) // 2


def test_the_best_shift_is_the_middle_of_what_is_good_and_none_where_all_are_alike() -> None:
    assert SHIFTS[NONE] == 0
    assert best_shift([0.5] * len(SHIFTS)) == NONE
    assert best_shift([-np.inf] * len(SHIFTS)) == NONE
    hill = -np.abs(np.array(SHIFTS) + 1)
    assert SHIFTS[best_shift(hill)] == -1
    hill[-2] = 0.1  # one lucky figure far from all good ones
    assert SHIFTS[best_shift(hill)] == -1


def test_a_calibrated_model_is_the_same_model_with_another_background(data: Path) -> None:
    skewed = replace(RECIPE.loss, w0=0.0, class_weights="balanced")  # as if half of all pixels were foreground
    heavy = replace(RECIPE, loss=skewed, run=replace(RECIPE.run, epochs=1, select="iou"))
    plain, _ = run(make_job(data, heavy, "plain"))
    recipe = replace(heavy, run=replace(heavy.run, calibrate=True))
    result, _ = run(make_job(data, recipe, "calibrated"))
    checkpoint = load_checkpoint(data / "calibrated.safetensors")
    shift = checkpoint.card["background_shift"]
    assert shift > 0 and result.best.iou > plain.best.iou
    assert result.validation.iou == pytest.approx(result.best.iou, abs=1e-6) == checkpoint.card["scores"]["iou"]
    window = torch.rand((1, 1, 76, 76))
    with torch.inference_mode():
        change = checkpoint.build()(window) - plain.checkpoint.build()(window)
    torch.testing.assert_close(change[:, 0] - change[:, 1], torch.full_like(change[:, 0], shift), atol=1e-4, rtol=0)


def test_calibration_needs_a_score_of_masks() -> None:
    with pytest.raises(InputError, match="goes by a score of masks"):
        replace(RECIPE, run=replace(RECIPE.run, calibrate=True))
