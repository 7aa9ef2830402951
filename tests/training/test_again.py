"""`train` given again: what is finished stays, what is missing is made, and another model is not taken for this one."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.runs import RECIPE
from unettile.checkpoint import load_checkpoint, save_checkpoint
from unettile.cli import run


def command(data: Path, *options: str) -> list[str]:
    recipe = data / "recipe.toml"
    recipe.write_text(replace(RECIPE, run=replace(RECIPE.run, epochs=1, steps_per_epoch=0)).to_toml())
    words = ["train", str(data / "images"), str(data / "labels"), "-o", str(data / "m.safetensors")]
    return [*words, "--recipe", str(recipe), "--validation", "0.34", "--workers", "0", "--device", "cpu", *options]


def test_a_finished_model_stays_and_a_lost_report_is_made(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, report = data / "m.safetensors", data / "m.training" / "report.html"
    assert run(command(data)) == 0
    whole, page = model.read_bytes(), report.read_bytes()
    assert run(command(data)) == 3
    assert "--resume" in capsys.readouterr().err
    assert run(command(data, "--resume", "--json")) == 0
    told = capsys.readouterr()
    assert told.err == f"{model} is finished already: nothing to do\n"
    assert json.loads(told.out) == {"status": "skipped", "output": str(model)}

    report.unlink()  # as a kill between the model and its report leaves it
    assert run(command(data, "--resume")) == 0
    assert model.read_bytes() == whole and len(report.read_bytes()) > 0.9 * len(page)
    for path in (data / "m.training").iterdir():
        path.unlink()
    assert run(command(data, "--resume")) == 0, "the model vouches for itself, without its folder"
    assert not report.exists() and model.read_bytes() == whole

    capsys.readouterr()
    for options in (("--epochs", "2"), ("--precision", "bf16"), ("--validation", "0.2"), ("--set", "run.seed=9")):
        assert run(command(data, "--resume", "--precision", "fp32", *options)) == 3
        assert "m.safetensors exists and is no result of this training" in capsys.readouterr().err
    save_checkpoint(replace(load_checkpoint(model), card={}), model)
    assert run(command(data, "--resume")) == 3
    model.write_bytes(b"another's")
    assert run(command(data, "--resume")) == 3
    assert model.read_bytes() == b"another's"


def test_what_stops_it_names_resume(
    data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from unettile.training import loop

    step = loop._Run._train_step

    def stop(self: loop._Run, *arguments: object) -> float:
        signal.raise_signal(signal.SIGINT)
        return step(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(loop._Run, "_train_step", stop)
    assert run(command(data, "--epochs", "3")) == 130
    assert capsys.readouterr().err.splitlines()[-1].endswith("give the same command with --resume to go on")
    assert run(command(data, "--epochs", "3", "--resume")) == 130
    last = capsys.readouterr().err.splitlines()[-1]
    assert "the same command" in last and last.endswith("m.safetensors is the best so far, of epoch 1")
