"""unettile.evaluate and unettile.weight_map give the numbers of their commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

import unettile
from unettile.cli import run


def make_labels(seed: int = 0) -> NDArray[np.uint16]:
    """Return squares with ids, in rows and columns, a few px apart."""
    labels = np.zeros((90, 110), np.uint16)
    rng = np.random.default_rng(seed)
    for number in range(20):
        y, x = divmod(number, 5)
        edge = int(rng.integers(8, 19))
        labels[20 * y + 2 : 20 * y + 2 + edge, 20 * x + 2 : 20 * x + 2 + edge] = number + 1
    return labels


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({}, []),
        ({"objects": True, "instances": True}, ["--objects", "--instances"]),
        (
            {"objects": True, "truth_components": True, "boundaries": True},
            ["--objects", "--truth-components", "--boundaries"],
        ),
    ],
    ids=str,
)  # fmt: skip
def test_scores_are_those_of_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], given: dict[str, Any], options: list[str]
) -> None:
    truth = make_labels()
    prediction = make_labels(1) if "instances" in given else (make_labels(1) > 0).astype(np.uint8)
    tifffile.imwrite(tmp_path / "prediction.tif", prediction)
    tifffile.imwrite(tmp_path / "truth.tif", truth)
    files = [str(tmp_path / "prediction.tif"), str(tmp_path / "truth.tif")]
    assert run(["evaluate", *files, *options, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    found = unettile.evaluate(prediction, truth, **given)
    assert json.loads(json.dumps(found.to_dict()["pooled"])) == told["pooled"]
    assert found.scores["0"].figures == unettile.evaluate(*files, **given).scores["prediction"].figures
    assert 0 < found.pooled.figures["mean_iou"] < 1


def test_lists_and_folders_are_pooled(tmp_path: Path) -> None:
    masks = [(make_labels(seed) > 0).astype(np.uint8) for seed in (1, 2)]
    truths = [make_labels(seed) for seed in (3, 4)]
    for number, (mask, truth) in enumerate(zip(masks, truths, strict=True)):
        for name, array in (("masks", mask), ("truth", truth)):
            (tmp_path / name).mkdir(exist_ok=True)
            tifffile.imwrite(tmp_path / name / f"{number}.tif", array)
    seen: list[tuple[int, int]] = []
    found = unettile.evaluate(masks, truths, progress=lambda done, total: seen.append((done, total)))
    assert found.to_dict() == unettile.evaluate(tmp_path / "masks", tmp_path / "truth").to_dict()
    assert seen == [(1, 2), (2, 2)] and found.intervals()["pooled"]["mean_iou"] is not None
    with pytest.raises(unettile.UsageError, match="as many true masks"):
        unettile.evaluate(masks, truths[:1])


def test_matches_and_classes_of_objects_are_told_of(tmp_path: Path) -> None:
    truth, prediction = make_labels(), make_labels(1)
    kinds = (truth > 0).astype(np.uint8) + (truth > 10)
    told = {"objects": True, "instances": True, "match": tmp_path / "m.csv"}
    found = unettile.evaluate(
        prediction, truth, **told, prediction_classes=(prediction > 0) + (prediction > 10), truth_classes=kinds
    )
    assert len((tmp_path / "m.csv").read_text().splitlines()) > 20 and found.scores["0"].figures
    with pytest.raises(unettile.InputError, match="exists"):
        unettile.evaluate(prediction, truth, **told)
    with pytest.raises(unettile.UsageError, match="about objects"):
        unettile.evaluate(prediction, truth, instances=True, match=tmp_path / "n.csv")
    with pytest.raises(unettile.UsageError, match="belong together"):
        unettile.evaluate(prediction, truth, objects=True, instances=True, truth_classes=kinds)


def test_ids_are_never_guessed() -> None:
    with pytest.raises(unettile.InputError, match="the prediction holds several ids above 0"):
        unettile.evaluate(make_labels(1), make_labels(), objects=True)
    with pytest.raises(unettile.InputError, match="need masks of one image"):
        unettile.evaluate(make_labels()[:50], make_labels())


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({}, []),
        ({"w0": 5, "sigma": 3.0, "gap": 2}, ["--w0", "5", "--sigma", "3", "--gap", "2"]),
        ({"class_weights": "none", "dtype": "float16", "pixel_size": (0.5, 0.25)},
         ["--class-weights", "none", "--dtype", "float16", "--pixel-size", "0.5,0.25"]),
    ],
    ids=str,
)  # fmt: skip
def test_weights_are_those_of_the_command(tmp_path: Path, given: dict[str, Any], options: list[str]) -> None:
    labels = make_labels()
    tifffile.imwrite(tmp_path / "labels.tif", labels)
    assert run(["weights", str(tmp_path / "labels.tif"), "-o", str(tmp_path / "w.tif"), *options, "--quiet"]) == 0
    expected = tifffile.imread(tmp_path / "w.tif")
    for given_labels in (labels, tmp_path / "labels.tif", unettile.open(labels)):
        found = unettile.weight_map(given_labels, **given)
        assert found.dtype == expected.dtype and np.array_equal(found, expected) and found.max() > 1


def test_ids_that_look_like_classes_are_told_of() -> None:
    mask = np.where(make_labels() > 0, 255, 0).astype(np.uint8)
    with pytest.warns(unettile.Advice, match="components=True"):
        plain = unettile.weight_map(mask)
    parts = unettile.weight_map(mask, components=True)
    assert plain.max() <= 1.5 < parts.max() and np.array_equal(parts, unettile.weight_map(make_labels()))
    with pytest.warns(unettile.Advice, match="--truth-components"):
        unettile.evaluate(mask, mask, objects=True)


def test_class_weights_of_a_set_are_taken() -> None:
    found = unettile.weight_map(make_labels(), w0=0, class_weights=(0.25, 3.0))
    assert np.array_equal(found, np.where(make_labels() > 0, 3, 0.25).astype(np.float32))
    with pytest.raises(unettile.UsageError, match="sigma"):
        unettile.weight_map(make_labels(), sigma=0)
    with pytest.raises(unettile.InputError, match="no whole numbers"):
        unettile.weight_map(np.full((4, 4), 0.5))
