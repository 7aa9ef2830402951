"""`train` through the command line: planned by the clock, and from the sources of a recipe."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.runs import make_job
from unettile.checkpoint import load_checkpoint
from unettile.cli import run
from unettile.commands.training import _fits
from unettile.training.result import TrainProgress

SMALL = """
[network]
widths = [4, 6, 8]
batch_norm = true
[optimizer]
learning_rate = 1e-2
warmup_steps = 2
[run]
epochs = 2
steps_per_epoch = 3
batch = 2
output_edge = 40
"""
SOURCES = """
[sources.near]
images = "images"
labels = "labels"
held_out = ["[01]"]
[sources.far]
images = "images"
labels = "labels"
weight = 0.5
fraction = 0.34
"""


@pytest.fixture
def recipe(data: Path) -> Path:
    path = data / "small.toml"
    path.write_text(SMALL)
    return path


def train(data: Path, *arguments: object) -> int:
    folders = ("images", "labels") if "--sources" not in arguments else ("all", "all")
    paths = [str(data / folder) for folder in folders]
    given = [str(argument) for argument in arguments if argument != "--sources"]
    return run(["train", *paths, "-o", str(data / "model.safetensors"), "--workers", "0", *given])


def test_a_time_without_epochs_is_planned_into_and_ends_well(
    data: Path, recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = ("--set", "run.steps_per_epoch=100000", "--validation", 0.34)
    code = train(data, "--recipe", recipe, *changes, "--max-time", "6s")
    assert "steps fit into 6 s" in capsys.readouterr().err
    assert code == 0 and load_checkpoint(data / "model.safetensors").objects_px is not None
    rows = list(csv.DictReader((data / "model.training" / "log.csv").read_text().splitlines()))
    assert 1 <= len(rows) <= 3 and float(rows[-1]["seconds"]) > 3  # two, but that the machine may be faster or slower
    assert (data / "model.training" / "report.html").exists()


def test_a_time_with_epochs_is_a_limit(data: Path, recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--recipe", recipe, "--validation", 0.34, "--max-time", "1s", "--epochs", 4000)
    assert train(data, *arguments) == 75
    said = capsys.readouterr().err
    assert "give the same command with --resume" in said and "model.safetensors is the best so far" in said
    assert (data / "model.training" / "report.html").exists()
    assert "validation = 0.34" in (data / "model.training" / "recipe.toml").read_text(), "to be used again"
    assert train(data, *arguments[:-2], "--set", "run.epochs=4000", "--resume") == 75, "however it is given"


def test_the_first_steps_tell_how_far_a_run_will_come(data: Path) -> None:
    now = TrainProgress(10, 1000, 0.5, None, 2.0)
    job = make_job(data)
    assert _fits(job, now) == "1000 steps, about 33 min 00 s besides validation"
    assert _fits(replace(job, clock_seconds=2000.0), now) == "about 1000 steps fit into 33 min 20 s"
    assert _fits(replace(job, max_seconds=600.0), now).startswith(
        "about 310 of 1000 steps fit into 10 min 00 s; the best"
    )
    assert _fits(replace(job, max_seconds=6000.0), now) == _fits(job, now)


def test_one_command_trains_from_all_sources(data: Path, recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe.write_text(SMALL + SOURCES)
    for part in ("images", "labels"):
        shutil.copytree(data / part, data / "all" / part)
    assert train(data, "--sources", "--recipe", recipe, "--json") == 0
    assert json.loads(capsys.readouterr().out)["epoch"] in (1, 2)
    held_out = (data / "model.training" / "validation.txt").read_text().split()
    assert held_out[:2] == ["near/0", "near/1"] and len(held_out) == 4 and held_out[2].startswith("far/")
    made = load_checkpoint(data / "model.safetensors")
    assert made.recipe["sources"]["far"]["weight"] == 0.5 and made.card["images"] == {
        "training": 8,
        "validation": 4,
        "test": 0,
    }
    assert train(data, "--sources", "--recipe", recipe, "--validation", 0.5, "--overwrite") == 2
    assert "[sources], which say what is held out" in capsys.readouterr().err
    assert train(data, "--recipe", recipe, "--set", "sources={}", "--validation", 0.34, "--overwrite") == 0
