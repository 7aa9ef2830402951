"""Every network, as it was published, through the command line: fifty steps on real images, then a mask."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
import tifffile

from tests.conftest import ROOT
from tests.scenarios.conftest import Cli
from unettile.networks import NETWORKS

DATA = ROOT / "sample_data" / "nuclei"
CASES = [(network.name, preset) for network in NETWORKS for preset in network.presets]


def crop_of(name: str, preset: str) -> tuple[int, int]:
    """Return the edge of the crops (px, what comes out of the network) that it trains on, and how many are a batch.

    Taps of wide kernels that lie past a small crop see only its padding and stay random, which shows on a whole image:
    those of fc6 need 128 px, the dilated ones of U²-Net 288, what its paper takes.
    """
    if name.startswith("u2net"):
        return 288, 1
    if name.startswith("fcn"):
        return 128, 2
    return (20 if preset in ("paper", "upsample", "narrow") and name == "unet" else 64), 2


def validation_losses(cli: Cli, model: Path, name: str, preset: str, changes: list[str]) -> list[float]:
    """Train a network and return the loss on the held-out images after each epoch."""
    edge, batch = crop_of(name, preset)
    changes = [
        f"network.name={name}",
        f"network.preset={preset}",
        "network.one_logit=false" if preset == "strided" else "run.seed=1",
        f"run.batch={batch}",
        f"run.output_edge={edge}",
        "split.test=0",
        "labels.kind=instances",
        'labels.names=["background", "nucleus"]',
        *changes,
    ]
    options = [word for change in changes for word in ("--set", change)]
    held_out = ("--recipe", "adam", "--validation", "0.2", "--workers", 0)
    done = cli("train", DATA / "images", DATA / "labels", "-o", model, *held_out, *options)
    assert done.code == 0, done.err
    with (model.parent / f"{model.stem}.training" / "log.csv").open(encoding="utf-8") as file:
        return [float(row["validation_loss"]) for row in csv.DictReader(file)]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("name", "preset"), CASES)
def test_fifty_steps_lower_the_loss(cli: Cli, tmp_path: Path, name: str, preset: str) -> None:
    """The model that is kept knows more of the held-out image than an untrained one, and than a coin.

    Losses of samples cannot be compared between epochs, which see others.
    """
    model = tmp_path / "model.safetensors"
    still = ["run.epochs=1", "run.steps_per_epoch=1", "optimizer.learning_rate=1e-12"]
    (before,) = validation_losses(cli, tmp_path / "untrained.safetensors", name, preset, still)
    moving = ["run.epochs=2", "run.steps_per_epoch=25", "optimizer.warmup_steps=5", "optimizer.clip_norm=1"]
    after = validation_losses(cli, model, name, preset, moving)
    assert len(after) == 2 and min(after) < min(before, math.log(2))
    crop = tmp_path / "crop.tif"
    tifffile.imwrite(crop, tifffile.imread(ROOT / "sample_data" / "nuclei.tif")[:64, :64])
    done = cli("segment", crop, "-o", tmp_path / "mask.tif", "-m", model)
    assert done.code == 0, done.err
    assert tifffile.imread(tmp_path / "mask.tif").shape == (64, 64)
