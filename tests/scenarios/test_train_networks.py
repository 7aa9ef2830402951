"""Every network, as it was published, through the command line: fifty steps on real images, then a mask."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import tifffile

from tests.conftest import ROOT
from tests.scenarios.conftest import Cli
from unettile.networks import NETWORKS

DATA = ROOT / "sample_data" / "nuclei"
CASES = [(network.name, preset) for network in NETWORKS for preset in network.presets]


def edge_of(name: str, preset: str) -> int:
    """Return the edge of a small crop that the network trains on, px: what comes out of it."""
    return 20 if preset in ("paper", "upsample", "narrow") and name == "unet" else 64


def validation_losses(cli: Cli, model: Path, name: str, preset: str, changes: list[str]) -> list[float]:
    """Train a network and return the loss on the held-out images after each epoch."""
    changes = [
        f"network.name={name}",
        f"network.preset={preset}",
        "network.one_logit=false" if preset == "strided" else "run.seed=1",
        "run.batch=2",
        f"run.output_edge={edge_of(name, preset)}",
        "run.select=loss",
        "labels.depth=false",  # these networks have an output a class, as published
        *changes,
    ]
    options = [word for change in changes for word in ("--set", change)]
    done = cli("train", DATA / "images", DATA / "labels", "-o", model, "--validation", "0.2", "--workers", 0, *options)
    assert done.code == 0, done.err
    with (model.parent / f"{model.stem}.training" / "log.csv").open(encoding="utf-8") as file:
        return [float(row["validation_loss"]) for row in csv.DictReader(file)]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("name", "preset"), CASES)
def test_fifty_steps_lower_the_loss(cli: Cli, tmp_path: Path, name: str, preset: str) -> None:
    """The loss of samples cannot be compared between epochs, which see others: that of the held-out images can."""
    model = tmp_path / "model.safetensors"
    still = ["run.epochs=1", "run.steps_per_epoch=1", "optimizer.learning_rate=1e-12"]
    (before,) = validation_losses(cli, tmp_path / "untrained.safetensors", name, preset, still)
    moving = ["run.epochs=5", "run.steps_per_epoch=10", "optimizer.learning_rate=1e-3", "optimizer.warmup_steps=5"]
    after = validation_losses(cli, model, name, preset, moving)
    assert len(after) == 5 and after[-1] < before
    crop = tmp_path / "crop.tif"
    tifffile.imwrite(crop, tifffile.imread(ROOT / "sample_data" / "nuclei.tif")[:64, :64])
    done = cli("segment", crop, "-o", tmp_path / "mask.tif", "-m", model)
    assert done.code == 0, done.err
    assert tifffile.imread(tmp_path / "mask.tif").shape == (64, 64)
