"""Training on a GPU: every precision learns, a stopped run goes on, and the model is used where it was made."""

from __future__ import annotations

import gc
import json
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.networks.cases import CASES
from tests.training.runs import RECIPE, make_job, run
from tests.training.test_resume import RICH
from unettile import cli
from unettile.devices import choose_precision
from unettile.errors import Interrupted
from unettile.training.job import TrainJob
from unettile.training.parts import LossPart, RunPart
from unettile.training.recipe import NetworkPart, Recipe

pytestmark = [
    pytest.mark.gpu,
    # CUDA has threads of its own; processes that prepare samples do not use it
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

CUDA = torch.device("cuda", 0)
LEARNS = replace(RECIPE, run=replace(RECIPE.run, epochs=6, steps_per_epoch=8))


def on_gpu(data: Path, recipe: Recipe, name: str = "model", precision: str = "fp32", workers: int = 0) -> TrainJob:
    return replace(make_job(data, recipe, name), device=CUDA, precision=precision, workers=workers)


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
def test_every_precision_learns(data: Path, precision: str) -> None:
    """With clipped gradients, batch norm, an average of the parameters, pinned batches of worker processes."""
    recipe = replace(LEARNS, run=replace(LEARNS.run, ema=0.8, accumulate=2))
    result, _ = run(on_gpu(data, recipe, precision=precision, workers=2))
    losses = [row.validation_loss for row in result.rows]
    assert np.isfinite(losses).all() and losses[-1] < losses[0]
    assert result.cost.memory_bytes > 0 and torch.cuda.get_device_name(0) in result.cost.machine
    probabilities = result.judge.predict(result.sources[0]).probabilities
    np.testing.assert_allclose(probabilities.sum(axis=0), 1, atol=1e-3)
    assert all(tensor.device.type == "cpu" for tensor in result.checkpoint.parameters.values())


def test_validations_leave_no_memory_taken(data: Path) -> None:
    """Each has a model, lanes and feature maps of its own: those of eight would be eight times those of two."""
    taken: list[int] = []
    for epochs in (2, 8):
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        recipe = replace(LEARNS, run=replace(LEARNS.run, epochs=epochs, steps_per_epoch=1))
        gc.disable()
        try:
            run(on_gpu(data, recipe, f"{epochs}"))
        finally:
            gc.enable()
        taken.append(torch.cuda.max_memory_allocated())
    assert taken[1] < 1.1 * taken[0]


def test_the_first_loss_is_that_of_a_cpu(data: Path) -> None:
    one = replace(RECIPE, run=replace(RECIPE.run, epochs=1, steps_per_epoch=1))
    (_, there), (_, here) = run(on_gpu(data, one, "there")), run(make_job(data, one, "here"))
    np.testing.assert_allclose(there, here, rtol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_stopped_run_goes_on(data: Path, precision: str) -> None:
    """Where it stopped, to rounding: some gradients of a GPU add up in any order."""
    whole, _ = run(on_gpu(data, RICH, "whole", precision))
    with pytest.raises(Interrupted):
        run(on_gpu(data, RICH, "stopped", precision), lambda step: signal.SIGTERM if step == 3 else None)
    resumed, _ = run(replace(on_gpu(data, RICH, "stopped", precision), resume=True))
    assert [row.step for row in resumed.rows] == [row.step for row in whole.rows]
    for one, other in zip(resumed.rows, whole.rows, strict=True):
        assert one.validation_loss == pytest.approx(other.validation_loss, rel=0.02)


@pytest.mark.parametrize("case", ["unet small", "unet strided", "fcn16s", "resnet34-unet", "unet++", "u2netp"])
def test_every_network_takes_a_step(data: Path, case: str) -> None:
    name, config = CASES[case]
    config = {key: value for key, value in config.items() if key != "classes"}  # the labels say how many
    recipe = Recipe(
        network=NetworkPart(name=name, config=config | {"in_channels": 1}),
        loss=LossPart(cross_entropy=1.0, dice=0.5, focal=0.5),
        run=RunPart(epochs=1, steps_per_epoch=2, batch=2, output_edge=160),
    )
    result, _ = run(on_gpu(data, recipe, precision="bf16"))
    assert np.isfinite(result.rows[-1].validation_loss)


def test_auto_is_bf16_where_the_gpu_has_it() -> None:
    modern = torch.cuda.get_device_capability(CUDA)[0] >= 8
    assert choose_precision("auto", CUDA) == ("bf16" if modern else "fp16")


def test_the_commands(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model is trained, with its report, and segments the images it was trained on."""
    (data / "recipe.toml").write_text(LEARNS.to_toml())
    model = data / "model.safetensors"
    command = ["train", str(data / "images"), str(data / "labels"), "-o", str(model), "--validation", "0.34"]
    assert (
        cli.run([*command, "--recipe", str(data / "recipe.toml"), "--device", "cuda", "--workers", "2", "--json"]) == 0
    )
    assert json.loads(capsys.readouterr().out)
    assert (data / "model.training" / "report.html").is_file()
    assert (
        cli.run(["segment", str(data / "images"), "-o", str(data / "masks"), "-m", str(model), "--device", "cuda"]) == 0
    )
    assert len(list((data / "masks").glob("*.tif"))) == 6
