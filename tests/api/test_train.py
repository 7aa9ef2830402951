"""unettile.train: arrays in a list train what files of their names do, and what comes back segments."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

import unettile
from unettile.training.result import TrainProgress

SHORT = {
    "network.widths": [2, 3],
    "run.steps_per_epoch": 2,
    "run.batch": 2,
    "run.output_edge": 40,
    "run.calibrate": False,
}


def make_pairs(count: int = 6) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.uint16]]]:
    """Return images of bright squares, and their ids."""
    rng = np.random.default_rng(0)
    images, labels = [], []
    for _ in range(count):
        ids = np.zeros((96, 96), np.uint16)
        for number in range(9):
            y, x = (int(value) for value in rng.integers(0, 80, 2))
            ids[y : y + 12, x : x + 12] = number + 1
        images.append((rng.integers(0, 60, ids.shape) + 150 * (ids > 0)).astype(np.uint8))
        labels.append(ids)
    return images, labels


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """The pairs as files, which have the names that arrays of a list get."""
    for name, arrays in zip(("images", "labels"), make_pairs(), strict=True):
        (tmp_path / name).mkdir()
        for number, array in enumerate(arrays):
            tifffile.imwrite(tmp_path / name / f"image {number:04}.tif", array)
    return tmp_path / "images", tmp_path / "labels"


def train(images: Any, labels: Any, output: Path, **options: Any) -> unettile.Model:
    settings: dict[str, Any] = {
        "recipe": "nuclei-valid",
        "changes": SHORT,
        "epochs": 1,
        "workers": 0,
        "device": "cpu",
        "precision": "fp32",
    }
    return unettile.train(images, labels, output, **(settings | options))


def test_arrays_train_the_model_that_files_train(folders: tuple[Path, Path], tmp_path: Path) -> None:
    seen: list[TrainProgress] = []
    images, labels = make_pairs()
    model = train(images, labels, tmp_path / "arrays.safetensors", progress=seen.append)
    files = train(*folders, tmp_path / "files.safetensors")
    assert files.checkpoint.parameters.keys() == model.checkpoint.parameters.keys()
    for name, tensor in model.checkpoint.parameters.items():
        assert np.array_equal(tensor.numpy(), files.checkpoint.parameters[name].numpy()), name
    assert seen and seen[-1].row is not None and "scores" in model.checkpoint.card
    assert (tmp_path / "arrays.training" / "report.html").stat().st_size > 1000
    mask = model.segment(images[0], diameter="off")
    assert mask.shape == images[0].shape
    assert np.array_equal(mask, files.segment(folders[0] / "image 0000.tif", diameter="off"))


def test_workers_read_arrays_too(tmp_path: Path) -> None:
    images, labels = make_pairs()
    none = train(images, labels, tmp_path / "none.safetensors", validation=0.34)
    one = train(
        [unettile.open(image) for image in images], labels, tmp_path / "one.safetensors", workers=1, validation=0.34
    )
    for name, tensor in none.checkpoint.parameters.items():
        assert np.array_equal(tensor.numpy(), one.checkpoint.parameters[name].numpy()), name


def test_a_run_is_stopped_and_resumed_and_others_begin_with_it(tmp_path: Path) -> None:
    images, labels = make_pairs()
    held_out = {"validation_images": images[4:], "validation_labels": labels[4:]}
    output = tmp_path / "model.safetensors"
    with pytest.raises(unettile.Incomplete):
        train(images[:4], labels[:4], output, max_time=0, **held_out)
    assert unettile.load(output, device="cpu").checkpoint.card["unfinished"]  # the best so far
    model = train(images[:4], labels[:4], output, resume=True, **held_out)
    with pytest.raises(unettile.InputError, match="exists"):
        train(images, labels, output)
    again = train(images, labels, tmp_path / "next.safetensors", start=model)
    assert again.checkpoint.sha256 != model.checkpoint.sha256


def test_what_cannot_be_meant_is_refused(folders: tuple[Path, Path], tmp_path: Path) -> None:
    images, labels = make_pairs()
    with pytest.raises(unettile.UsageError, match="lists of the same length"):
        train(images, labels[:2], tmp_path / "m.safetensors")
    with pytest.raises(unettile.UsageError, match="lists of the same length"):
        train(folders[0], labels, tmp_path / "m.safetensors")
    with pytest.raises(unettile.UsageError, match="--validation FRACTION"):
        train(images, labels, tmp_path / "m.safetensors", validation_images=images)
    with pytest.raises(unettile.UsageError, match="safetensors"):
        train(images, labels, tmp_path / "m.pt")
    with pytest.raises(unettile.InputError, match=r"run\.epoch"):
        train(images, labels, tmp_path / "m.safetensors", changes={"run.epoch": 3})
    assert not list(tmp_path.glob("m.*"))
