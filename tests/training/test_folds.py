"""Folds: which images are in which, a model for each, how all score, and the same after a stop."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from unettile.checkpoint import load_checkpoint
from unettile.cli import run
from unettile.errors import InputError, UsageError
from unettile.images.arrays import ArrayImage
from unettile.training.folds import Fold, fold_scores
from unettile.training.pairs import Pair
from unettile.training.request import TrainRequest

BRIEF = ["--recipe", "adam", "--set", "labels.kind=instances", "--set", 'labels.names=["background","cell"]', "--quiet",
         "--set", "network.widths=[4,6,8]", "--set", "run.output_edge=40", "--set", "run.batch=2", "--epochs", "1",
         "--set", "run.steps_per_epoch=2", "--workers", "0", "--test", "0", "--precision", "fp32"]  # fmt: skip


def pairs_of(*names: str, plane: str = "") -> tuple[Pair, ...]:
    image = np.zeros((8, 8), np.uint8)
    return tuple(Pair(ArrayImage(image, name=name), ArrayImage(image), plane=plane) for name in names)


def test_every_image_validates_once_whatever_their_order() -> None:
    pairs = pairs_of(*(f"image {number}" for number in range(11)))
    parts = [Fold(number, 4).split(pairs) for number in range(1, 5)]
    validating = [pair for _, validation in parts for pair in validation]
    assert len(validating) == 11 and set(validating) == set(pairs)
    assert sorted(len(validation) for _, validation in parts) == [2, 3, 3, 3]
    for number, (training, validation) in enumerate(parts, 1):
        assert set(training) == set(pairs) - set(validation)
        turned = Fold(number, 4).split(pairs[::-1])
        assert set(turned[1]) == set(validation)


def test_planes_and_crops_of_an_image_stay_together() -> None:
    crops = pairs_of(*(f"{name}_x{x}_y0" for name in "abc" for x in range(4)))
    for number in range(1, 4):
        assert len({pair.name[0] for pair in Fold(number, 3).split(crops)[1]}) == 1
    planes = tuple(replace(pair, plane=f" z{z}") for pair in pairs_of("one", "two") for z in range(5))
    assert len({pair.name.split()[0] for pair in Fold(2, 2).split(planes)[1]}) == 1
    assert [len(Fold(number, 4).split(crops)[1]) for number in range(1, 5)] == [3, 3, 3, 3], "fewer images than folds"


@pytest.mark.parametrize(
    ("number", "count", "message"),
    [(1, 1, r"--folds 1: need 2 to 100"), (0, 3, r"--fold 0: need 1 to 3"), (4, 3, r"--fold 4: need 1 to 3")],
)
def test_a_fold_that_is_none_is_refused(number: int, count: int, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Fold(number, count)


def test_fewer_images_than_folds_are_refused() -> None:
    with pytest.raises(InputError, match=r"2 images cannot be in 3 folds: need an image in each"):
        Fold(1, 3).split(pairs_of("a", "b"))


def test_the_time_is_shared_among_the_folds_that_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("unettile.training.request.monotonic", lambda: now)
    request = TrainRequest(Path("images"), Path("labels"), Path("out"), "auto", max_seconds=900.0)
    shares = []
    for one in request.in_folds(3):
        shares.append(one.max_seconds)
        now += 360.0
    assert shares == [300.0, 270.0, 180.0]
    assert [one.max_seconds for one in replace(request, epochs=2).in_folds(3, 2)] == [900.0]
    with pytest.raises(UsageError, match="--folds says what is held out"):
        next(iter(replace(request, validation=0.2).in_folds(3)))


def test_folds_are_trained_scored_and_one_model(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = data / "models"
    command = ["train", str(data / "images"), str(data / "labels"), "-o", str(folder), "--folds", "2", *BRIEF]
    assert run([*command, "--fold", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scores"] is None and fold_scores(folder, 2) is None
    second = (folder / "fold_2.safetensors").read_bytes()
    assert run([*command, "--resume", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [one["status"] for one in told["folds"]] == ["done", "skipped"]
    assert (folder / "fold_2.safetensors").read_bytes() == second
    cards = [load_checkpoint(folder / f"fold_{number}.safetensors").card for number in (1, 2)]
    ious = [card["scores"]["iou"] for card in cards]
    assert told["scores"]["iou"]["mean"] == pytest.approx(sum(ious) / 2)
    assert told["scores"]["iou"]["low"] == min(ious) and told["scores"]["iou"]["high"] == max(ious)
    names = [set((folder / f"fold_{n}.training" / "validation.txt").read_text().split()) for n in (1, 2)]
    assert not names[0] & names[1] and len(names[0] | names[1]) == len(list((data / "images").iterdir()))
    image = next((data / "images").iterdir())
    assert run(["segment", str(image), "-o", str(data / "mask.tif"), "-m", str(folder), "--quiet"]) == 0


def test_what_cannot_be_a_folder_of_models_is_refused(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", str(data / "images"), str(data / "labels"), *BRIEF]
    assert run([*command, "-o", str(data / "m.safetensors"), "--folds", "2"]) == 3
    assert "is to be a folder, of 2 models" in capsys.readouterr().err and not (data / "m.safetensors").exists()
    assert run([*command, "-o", str(data / "m.safetensors"), "--fold", "2"]) == 2
    assert "--fold 2 is one of several: give --folds K, too" in capsys.readouterr().err
