"""Runs that stop, are killed, or are shared by processes give what one run that goes through would have given."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import torch

from tests.networks.cases import CASES, Case
from tests.training.runs import RECIPE, make_job, run
from unettile.checkpoint import load_checkpoint
from unettile.errors import Incomplete, InputError, Interrupted
from unettile.geometry import Geometry
from unettile.networks import build_network
from unettile.training import loop
from unettile.training.job import is_finished, make_room
from unettile.training.loop import train
from unettile.training.parts import ImagePart, LossPart, OptimizerPart
from unettile.training.recipe import NetworkPart
from unettile.training.result import TrainResult
from unettile.training.state import LogRow, TrainingFolder, _digest

# everything that a run carries from step to step: dropout, two moments, an average, a rate that follows from the log
RICH = replace(
    RECIPE,
    network=NetworkPart(config=RECIPE.network.config | {"dropout": 0.3}),
    loss=LossPart(dice=0.5, focal=0.5),
    optimizer=OptimizerPart(name="adam", learning_rate=1e-2, warmup_steps=2, schedule="plateau", patience=1),
    run=replace(RECIPE.run, epochs=4, steps_per_epoch=2, batch=4, accumulate=2, ema=0.8),
)


class Killed(BaseException):
    """Ends a run without a word, as SIGKILL does."""


def edge_of(name: str, config: dict[str, Any]) -> int:
    """Return the edge (px) of a small crop that the network trains on: what comes out of it."""
    network = build_network(name, config | {"classes": 2})
    geometry, lost = network.geometry, network.lost
    assert isinstance(geometry, Geometry)
    return geometry.smallest_output_edge(33) if lost else max(64, geometry.stride)


def same_rows(one: TrainResult, other: TrainResult) -> bool:
    return [replace(row, seconds=0) for row in one.rows] == [replace(row, seconds=0) for row in other.rows]


@pytest.mark.parametrize("at", [1, 5])
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(data: Path, at: int) -> None:
    whole, _ = run(make_job(data, RICH, "whole"))
    with pytest.raises(Interrupted) as stopped:
        run(make_job(data, RICH, "stopped"), lambda step: signal.SIGTERM if step == at else None)
    assert stopped.value.exit_code == 143
    assert load_checkpoint(data / "stopped.safetensors").card["unfinished"] == f"{max(1, at // 2)} of 4 epochs"
    with pytest.raises(InputError, match="--resume"):
        run(make_job(data, RICH, "stopped"))
    resumed, _ = run(replace(make_job(data, RICH, "stopped"), resume=True))
    assert resumed.checkpoint.sha256 == whole.checkpoint.sha256
    assert same_rows(resumed, whole)
    assert whole.rows[-1].learning_rate < 1e-2 or list(whole.rows) == sorted(
        whole.rows, key=lambda r: -r.validation_loss
    )


def test_a_run_that_was_killed_again_and_again_equals_an_uninterrupted_one(data: Path) -> None:
    whole, _ = run(make_job(data, RICH, "whole"))

    def kill(step: int) -> int | None:
        if step == 3:
            raise Killed
        return None

    for _ in range(2):  # epochs have two steps: each attempt gets one further
        with pytest.raises(Killed):
            run(replace(make_job(data, RICH, "killed"), resume=True), kill)
    resumed, _ = run(replace(make_job(data, RICH, "killed"), resume=True))
    assert resumed.checkpoint.sha256 == whole.checkpoint.sha256 and same_rows(resumed, whole)


# measuring how inexact a u2net is takes it ten times as long as the others, and u2netp is the same code
EACH = [pytest.param(c, marks=[pytest.mark.slow] if key == "u2net" else [], id=key) for key, c in CASES.items()]


@pytest.mark.parametrize("case", EACH)
def test_every_network_goes_on_where_it_was_stopped(data: Path, case: Case) -> None:
    """Side outputs, batch norm's statistics and dropout of each kind are all in what a stop saves."""
    name, config = case
    two = {key: value for key, value in config.items() if key != "classes"}
    recipe = replace(
        RECIPE,
        network=NetworkPart(name, config=two),
        images=ImagePart(grey_to_rgb=True),
        run=replace(RECIPE.run, epochs=1, steps_per_epoch=3, output_edge=edge_of(name, two)),
    )
    whole, _ = run(make_job(data, recipe, "whole"))
    with pytest.raises(Interrupted):
        run(make_job(data, recipe, "stopped"), lambda step: signal.SIGTERM if step == 2 else None)
    resumed, _ = run(replace(make_job(data, recipe, "stopped"), resume=True))
    assert resumed.checkpoint.sha256 == whole.checkpoint.sha256 and same_rows(resumed, whole)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_sigkill_at_random_moments_changes_nothing(data: Path) -> None:
    (data / "recipe.toml").write_text(replace(RICH, run=replace(RICH.run, epochs=12)).to_toml())

    def command(name: str) -> list[str]:
        files = [str(data / "images"), str(data / "labels"), "-o", str(data / f"{name}.safetensors")]
        options = ["--recipe", str(data / "recipe.toml"), "--resume", "--overwrite", "--validation", "0.34"]
        return [sys.executable, "-m", "unettile", "train", *files, *options, "--precision", "fp32"]

    began = time.monotonic()
    assert subprocess.run(command("whole"), capture_output=True).returncode == 0
    seconds = time.monotonic() - began
    rng, kills = np.random.default_rng(0), 0
    for attempt in range(40):
        patience = seconds * float(rng.uniform(0.1, 0.5)) * 1.1**attempt  # in the end enough, however busy the machine
        with subprocess.Popen(command("killed"), stderr=subprocess.DEVNULL, process_group=0) as process:
            try:
                code = process.wait(timeout=patience)
                assert code == 0
                break
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                kills += 1
    assert kills > 0
    assert (data / "killed.safetensors").read_bytes() == (data / "whole.safetensors").read_bytes()


def test_sigusr1_saves_and_asks_to_be_run_again(data: Path) -> None:
    with pytest.raises(Incomplete, match="SIGUSR1 came after step 2: the run is saved"):
        run(make_job(data), lambda step: signal.SIGUSR1 if step == 2 else None)
    assert TrainingFolder.beside(data / "model.safetensors").has_state


def test_a_time_limit_saves_and_says_how_to_go_on(data: Path) -> None:
    with pytest.raises(Incomplete, match="after step 1: the run is saved; give the same command with --resume"):
        run(replace(make_job(data), max_seconds=0))
    assert TrainingFolder.beside(data / "model.safetensors").has_state
    assert "background_shift" not in load_checkpoint(data / "model.safetensors").card, "the recipe does not calibrate"


def test_resuming_with_another_recipe_or_a_damaged_state_is_refused(data: Path) -> None:
    with pytest.raises(Incomplete):
        run(replace(make_job(data), max_seconds=0))
    changed = replace(RECIPE, run=replace(RECIPE.run, seed=7))
    with pytest.raises(InputError, match=r"recipe.run.seed was 0, is 7"):
        run(replace(make_job(data, changed), resume=True))
    state = data / "model.training" / "state.pt"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(InputError, match="is damaged"):
        run(replace(make_job(data), resume=True))


@pytest.fixture
def stopped(data: Path) -> Path:
    """A run that was stopped after its first step."""
    with pytest.raises(Incomplete):
        run(replace(make_job(data), max_seconds=0))
    return data


@pytest.mark.parametrize("part", ["images", "labels"])
def test_changed_files_of_the_same_names_are_noticed(stopped: Path, part: str) -> None:
    pixels = imagecodecs.imread(stopped / part / "0.png")
    pixels[0, 0] ^= 1
    (stopped / part / "0.png").write_bytes(imagecodecs.png_encode(pixels))
    with pytest.raises(InputError, match="the image 0 or its labels have changed since it began"):
        run(replace(make_job(stopped), resume=True))


def test_a_flipped_bit_in_the_state_is_noticed(stopped: Path) -> None:
    file = stopped / "model.training" / "state.pt"
    whole = bytearray(file.read_bytes())
    rng = np.random.default_rng(0)
    wrong = None
    for place in rng.integers(0, len(whole), 60).tolist():
        flipped = bytearray(whole)
        flipped[place] ^= 1 << int(rng.integers(8))
        file.write_bytes(flipped)
        folder = TrainingFolder.beside(stopped / "model.safetensors")
        try:
            loaded = folder.load(json.loads((folder.path / "plan.json").read_text()))
        except InputError as error:
            wrong = str(error)
        else:  # between the records of the archive lie bytes that mean nothing
            state = torch.load(io.BytesIO(whole), weights_only=True)
            assert _digest(loaded) == state["content"]
    assert wrong is not None and "is damaged; start afresh with --overwrite" in wrong and "\n" not in wrong


def test_parts_of_two_trainings_are_told_apart(stopped: Path) -> None:
    other = make_job(stopped, replace(RECIPE, run=replace(RECIPE.run, seed=7)), "other")
    with pytest.raises(Incomplete):
        run(replace(other, max_seconds=0))
    mine, theirs = stopped / "model.training", stopped / "other.training"
    (mine / "plan.json").write_bytes((theirs / "plan.json").read_bytes())
    with pytest.raises(InputError, match=r"state\.pt is of another training than plan\.json beside it"):
        run(replace(make_job(stopped, other.recipe), resume=True))


def test_the_best_epoch_of_another_training_is_no_result(data: Path) -> None:
    run(make_job(data))
    run(make_job(data, replace(RECIPE, run=replace(RECIPE.run, seed=7)), "other"))
    (data / "model.training" / "best.safetensors").write_bytes((data / "other.training/best.safetensors").read_bytes())
    (data / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"best\.safetensors is of another training than its folder"):
        run(replace(make_job(data), resume=True))


def test_a_second_training_into_one_model_is_refused_while_the_first_goes_on(data: Path) -> None:
    refused: list[str] = []

    def second(step: int) -> int | None:
        if step == 2:
            with pytest.raises(InputError, match="is in use by another training") as error:
                run(replace(make_job(data), resume=True))
            refused.append(str(error.value))
            with pytest.raises(InputError, match="is in use"):
                make_room(data / "model.safetensors")
        return None

    result, _ = run(make_job(data), second)
    assert f"process {os.getpid()} on" in refused[0] and "\n" not in refused[0]
    assert result.checkpoint.card["scores"]["loss"] == result.best.validation_loss


CALIBRATED = replace(RECIPE, run=replace(RECIPE.run, select="iou", calibrate=True))


@pytest.mark.parametrize("at", [2, 6])
def test_a_run_that_is_stopped_leaves_a_model_and_its_report(data: Path, at: int) -> None:
    """Before the first epoch ends that of the moment, then the best epoch so far."""
    reports: list[TrainResult] = []
    job = make_job(data, CALIBRATED)
    with pytest.raises(Interrupted, match=r"--resume; .*model\.safetensors is the best so far, of epoch 1"):
        train(job, lambda now: None, stop_at(at), reports.append)
    (left,) = reports
    model = load_checkpoint(job.output)
    assert model.sha256 == left.checkpoint.sha256 and model.card["epoch"] == 1
    assert "background_shift" in model.card and model.card["unfinished"] == "1 of 2 epochs"
    assert not is_finished(job)
    train(replace(job, resume=True), lambda now: None, lambda: None, reports.append)
    assert len(reports) == 2 and "unfinished" not in load_checkpoint(job.output).card


@pytest.mark.parametrize("last", [False, True])
def test_which_epoch_is_kept(data: Path, monkeypatch: pytest.MonkeyPatch, last: bool) -> None:
    """Where the first is the best: that one, or the last all the same; calibration shifts the one that is kept."""
    monkeypatch.setattr(LogRow, "figure", lambda row, select: -row.epoch)
    recipe = replace(CALIBRATED, run=replace(CALIBRATED.run, last=last))
    result, _ = run(make_job(data, recipe))
    assert len(result.rows) == 2
    kept = 2 if last else 1
    assert load_checkpoint(data / "model.safetensors").card["epoch"] == result.best.epoch == kept


def stop_at(step: int) -> Callable[[], int | None]:
    count = 0

    def should_stop() -> int | None:
        nonlocal count
        count += 1
        return signal.SIGTERM if count == step else None

    return should_stop


def test_a_run_that_fails_leaves_the_best_so_far(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step, count = loop._Run._train_step, 0

    def failing(self: loop._Run, *batch: Any) -> float:
        nonlocal count
        count += 1
        return step(self, *batch) if count < 6 else float("nan")

    monkeypatch.setattr(loop._Run, "_train_step", failing)
    with pytest.raises(InputError, match=r"the loss is nan at step 5: lower .*; .* is the best so far, of epoch 1$"):
        run(make_job(data))
    assert load_checkpoint(data / "model.safetensors").card["unfinished"] == "1 of 2 epochs"


def test_a_run_that_fails_at_once_leaves_nothing(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop._Run, "_train_step", lambda self, *batch: float("nan"))
    with pytest.raises(InputError, match=r"check inputs$"):
        run(make_job(data))
    assert not (data / "model.safetensors").exists()


def test_two_processes_follow_the_curve_of_one(data: Path) -> None:
    """The same global batch, shared by two processes with gloo: equal up to the order of float32 sums.

    Batch norm and dropout are left out: on CPUs each process has its own statistics and drops its own.
    """
    recipe = replace(RICH, network=NetworkPart(config={"widths": [4, 6, 8]}))
    one, _ = run(make_job(data, recipe, "one"))
    (data / "job.json").write_text(json.dumps(recipe.to_dict()))
    script = Path(__file__).with_name("two_processes.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([*command, str(data)], env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in data.glob("parted-*")) == ["parted-0", "parted-1"]
    two = [line.split(",") for line in (data / "two.training" / "log.csv").read_text().splitlines()[1:]]
    for column, name in ((2, "training_loss"), (3, "validation_loss"), (4, "iou")):
        assert [float(row[column]) for row in two] == pytest.approx([getattr(row, name) for row in one.rows], rel=1e-3)


def test_ranks_come_from_the_launcher_alone(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch job that asked for several tasks is not a distributed run; nor does an srun on the PATH matter."""
    for name, value in {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "2", "SLURM_LOCALID": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("shutil.which", lambda name, *rest: f"/usr/bin/{name}")
    result, losses = run(make_job(data))
    assert result.best is not None and len(losses) > 0


@pytest.mark.parametrize("name", ["plan.json", "state.pt"])
def test_what_is_no_file_or_nests_without_end_is_damage(stopped: Path, name: str) -> None:
    file = stopped / "model.training" / name
    for damage in (lambda: os.mkfifo(file), lambda: file.write_text("[" * 100_000)):
        file.unlink()
        damage()
        with pytest.raises(InputError, match=rf"cannot resume: .*{name} is damaged; start afresh with --overwrite"):
            run(replace(make_job(stopped), resume=True))
