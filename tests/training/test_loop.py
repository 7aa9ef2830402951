"""Training runs: they learn, repeat, stop and go on, and refuse what cannot be meant."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import torch

from unettile.checkpoint import load_checkpoint
from unettile.errors import Incomplete, InputError, Interrupted, UsageError
from unettile.training.job import TrainJob
from unettile.training.loop import TrainProgress, TrainResult, train
from unettile.training.pairs import Pair, find_pairs, hold_out
from unettile.training.parts import AugmentPart, LabelPart, OptimizerPart, RunPart
from unettile.training.recipe import NetworkPart, Recipe
from unettile.training.schedule import learning_rate
from unettile.training.state import TrainingFolder

RECIPE = Recipe(
    network=NetworkPart(config={"widths": [4, 6, 8], "batch_norm": True}),
    augment=AugmentPart(elastic_std=2.0),
    optimizer=OptimizerPart(learning_rate=1e-2, warmup_steps=2),
    run=RunPart(epochs=2, steps_per_epoch=4, batch=2, output_edge=40, select="loss"),
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six images of bright discs on a dark, noisy ground, with their instance ids; two discs touch."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:70, :90]
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    for index in range(6):
        labels = np.zeros((70, 90), np.uint8)
        centres = [(20, 20), (20, 41), *rng.uniform((45, 10), (60, 80), (2, 2))]
        for number, (cy, cx) in enumerate(centres, start=1):
            labels[(y - cy) ** 2 + (x - cx) ** 2 < 10.6**2] = number
        image = np.clip(40 + 120 * (labels > 0) + rng.normal(0, 15, labels.shape), 0, 255).astype(np.uint8)
        (tmp_path / "images" / f"{index}.png").write_bytes(imagecodecs.png_encode(image))
        (tmp_path / "labels" / f"{index}.png").write_bytes(imagecodecs.png_encode(labels))
    return tmp_path


def _job(data: Path, recipe: Recipe = RECIPE, name: str = "model") -> TrainJob:
    training, validation, _ = hold_out(find_pairs(data / "images", data / "labels"), 0.34)
    return TrainJob(training, validation, recipe, data / f"{name}.safetensors", torch.device("cpu"), "fp32", workers=0)


def _train(job: TrainJob, stop: Callable[[int], int | None] = lambda step: None) -> tuple[TrainResult, list[float]]:
    losses: list[float] = []
    steps = 0

    def should_stop() -> int | None:
        nonlocal steps
        steps += 1
        return stop(steps)

    def note(progress: TrainProgress) -> None:
        losses.append(progress.loss)

    return train(job, note, should_stop), losses


def test_training_lowers_the_loss_and_leaves_what_it_says(data: Path) -> None:
    recipe = replace(RECIPE, run=replace(RECIPE.run, epochs=4, steps_per_epoch=15))
    result, _ = _train(_job(data, recipe))
    rows = result.rows
    assert [row.epoch for row in rows] == [1, 2, 3, 4]
    assert rows[-1].training_loss < 0.5 * rows[0].training_loss
    assert rows[-1].validation_loss < rows[0].validation_loss and rows[-1].iou > 0.85
    assert result.best == min(rows, key=lambda row: row.validation_loss)
    checkpoint = load_checkpoint(data / "model.safetensors")
    assert checkpoint.recipe == recipe.to_dict()
    assert checkpoint.card["epoch"] == result.best.epoch
    log = (result.folder / "log.csv").read_text().splitlines()
    assert len(log) == 5 and log[0].startswith("epoch,step,training_loss")
    assert (result.folder / "validation.txt").read_text().split() == [p.name for p in _job(data).validation]


def test_a_seed_repeats_a_run_whatever_the_number_of_workers(data: Path) -> None:
    first, losses = _train(_job(data, name="a"))
    again, same = _train(replace(_job(data, name="b"), workers=2))
    assert losses == same
    assert first.checkpoint.sha256 == again.checkpoint.sha256
    other, _ = _train(_job(data, replace(RECIPE, run=replace(RECIPE.run, seed=1)), name="c"))
    assert other.checkpoint.sha256 != first.checkpoint.sha256


@pytest.mark.parametrize("at", [1, 4, 6])
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(data: Path, at: int) -> None:
    recipe = replace(RECIPE, network=NetworkPart(config=RECIPE.network.config | {"dropout": 0.3}))
    whole, _ = _train(_job(data, recipe, "whole"))
    with pytest.raises(Interrupted) as stopped:
        _train(_job(data, recipe, "stopped"), lambda step: signal.SIGTERM if step == at else None)
    assert stopped.value.exit_code == 143
    assert not (data / "stopped.safetensors").exists()
    with pytest.raises(InputError, match="--resume"):
        _train(_job(data, recipe, "stopped"))
    resumed, _ = _train(replace(_job(data, recipe, "stopped"), resume=True))
    assert resumed.checkpoint.sha256 == whole.checkpoint.sha256
    assert [replace(row, seconds=0) for row in resumed.rows] == [replace(row, seconds=0) for row in whole.rows]


def test_a_time_limit_saves_and_says_how_to_go_on(data: Path) -> None:
    with pytest.raises(Incomplete, match="after step 1: the run is saved; give the same command with --resume"):
        _train(replace(_job(data), max_seconds=0))
    assert TrainingFolder.beside(data / "model.safetensors").has_state
    assert not (data / "model.safetensors").exists()


def test_resuming_with_another_recipe_or_a_damaged_state_is_refused(data: Path) -> None:
    with pytest.raises(Incomplete):
        _train(replace(_job(data), max_seconds=0))
    changed = replace(RECIPE, run=replace(RECIPE.run, seed=7))
    with pytest.raises(InputError, match=r"recipe.run.seed was 0, is 7"):
        _train(replace(_job(data, changed), resume=True))
    state = data / "model.training" / "state.pt"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(InputError, match="is damaged"):
        _train(replace(_job(data), resume=True))


def test_classes_balanced_weights_and_precomputed_weight_maps(data: Path) -> None:
    three = replace(
        RECIPE,
        labels=LabelPart(kind="classes", names=("background", "a", "b", "c", "d")),
        loss=replace(RECIPE.loss, class_weights="balanced"),
        run=replace(RECIPE.run, epochs=1, select="iou"),
    )
    result, _ = _train(_job(data, three, "classes"))
    assert len(result.checkpoint.classes) == 5 and result.best.ap is None
    with pytest.raises(InputError, match="has class 4, the recipe names 2"):
        _train(_job(data, replace(three, labels=LabelPart(kind="classes")), "few"))

    (data / "maps").mkdir()
    for index in range(6):
        flat = np.full((70, 90), 1, np.uint8)
        (data / "maps" / f"{index}.png").write_bytes(imagecodecs.png_encode(flat))
    job = _job(data, replace(RECIPE, loss=replace(RECIPE.loss, w0=0.0)), "on_the_fly")
    pairs = {p.name: p for p in find_pairs(data / "images", data / "labels", data / "maps")}
    from_maps = replace(job, training=tuple(pairs[p.name] for p in job.training), output=data / "maps.safetensors")
    assert _train(job)[1] == pytest.approx(_train(from_maps)[1], rel=1e-5)


def test_a_run_can_begin_with_the_parameters_of_a_model(data: Path) -> None:
    first, _ = _train(_job(data, name="first"))
    tiny = replace(RECIPE.optimizer, learning_rate=1e-9)
    job = replace(_job(data, replace(RECIPE, optimizer=tiny), "next"), start=first.checkpoint)
    result, _ = _train(job)
    torch.testing.assert_close(result.checkpoint.parameters["head.weight"], first.checkpoint.parameters["head.weight"])
    wide = replace(RECIPE, network=NetworkPart(config=RECIPE.network.config | {"widths": [4, 6, 9]}))
    with pytest.raises(InputError, match=r"widths is \[4, 6, 8\], the recipe's \[4, 6, 9\]"):
        _train(replace(_job(data, wide, "wide"), start=first.checkpoint))


def test_files_that_do_not_pair_are_refused(data: Path) -> None:
    (data / "labels" / "3.png").rename(data / "labels" / "x.png")
    with pytest.raises(InputError, match=r"1 files have no label image of the same name: 3"):
        find_pairs(data / "images", data / "labels")
    (data / "images" / "3.png").unlink()
    with pytest.raises(InputError, match=r"\(label images\) have no image of the same name: x"):
        find_pairs(data / "images", data / "labels")


def test_labels_of_another_shape_or_without_objects_are_refused(data: Path) -> None:
    path = data / "labels" / "0.png"
    path.write_bytes(imagecodecs.png_encode(np.ones((5, 5), np.uint8)))
    with pytest.raises(InputError, match=r"0.png has shape \(5, 5\), its image has \(70, 90\)"):
        _train(_job(data))
    for index in range(6):
        (data / "labels" / f"{index}.png").write_bytes(imagecodecs.png_encode(np.zeros((70, 90), np.uint8)))
    with pytest.raises(InputError, match="background only"):
        _train(_job(data, name="other"))


def test_the_held_out_images_depend_on_names_alone() -> None:
    pairs = [Pair(Path(f"{i}.png"), Path(f"{i}.png")) for i in range(50)]
    _, held_out, _ = hold_out(pairs, 0.2)
    assert len(held_out) == 10
    assert set(hold_out(pairs[::-1], 0.2)[1]) == set(held_out)
    for fraction in (0.0, 1.0, 0.001):
        with pytest.raises(InputError, match="--validation"):
            hold_out(pairs, fraction)


def test_an_output_edge_that_does_not_fit_and_a_wrong_number_of_channels(data: Path) -> None:
    with pytest.raises(UsageError, match="tile edge 41 does not fit"):
        _train(_job(data, replace(RECIPE, run=replace(RECIPE.run, output_edge=41))))
    with pytest.raises(InputError, match=r"set network.in_channels=1"):
        _train(_job(data, replace(RECIPE, network=NetworkPart(config=RECIPE.network.config | {"in_channels": 2})), "b"))


def test_the_learning_rate_warms_up_and_falls_to_zero() -> None:
    recipe = replace(RECIPE, optimizer=replace(RECIPE.optimizer, warmup_steps=4), run=replace(RECIPE.run, epochs=10))
    rates = [learning_rate(step, recipe) for step in range(40)]
    assert np.argmax(rates) in (3, 4) and max(rates) == pytest.approx(recipe.optimizer.learning_rate)
    assert all(np.diff(rates[4:]) < 0) and rates[-1] < 0.01 * max(rates)


def test_two_processes_follow_the_curve_of_one(data: Path) -> None:
    """The same global batch, shared by two processes with gloo: equal up to the order of float32 sums."""
    recipe = replace(RECIPE, network=NetworkPart(config={"widths": [4, 6, 8]}))  # its statistics are per process
    one, _ = _train(_job(data, recipe, "one"))
    (data / "job.json").write_text(json.dumps(recipe.to_dict()))
    script = Path(__file__).with_name("two_processes.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=29611", str(script)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([*command, str(data)], env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    two = [line.split(",") for line in (data / "two.training" / "log.csv").read_text().splitlines()[1:]]
    assert [float(row[3]) for row in two] == pytest.approx([row.validation_loss for row in one.rows], rel=1e-3)


def test_ranks_come_from_the_launcher_alone(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch job that asked for several tasks is not a distributed run; nor does an srun on the PATH matter."""
    for name, value in {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "2", "SLURM_LOCALID": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("shutil.which", lambda name, *rest: f"/usr/bin/{name}")
    result, losses = _train(_job(data))
    assert result.best is not None and len(losses) > 0
