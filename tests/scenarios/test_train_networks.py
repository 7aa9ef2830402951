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
LEARNING_RATES = {"paper": 5e-5, "upsample": 3e-4, "narrow": 3e-4}
"""Of U-Nets without batch norm: they leap at larger steps, the wide one most."""
CASES = [(network.name, preset) for network in NETWORKS for preset in network.presets]


def crop_of(name: str, preset: str) -> tuple[int, int]:
    """Return the edge of the crops (px, what comes out of the network) that it trains on, and how many are a batch.

    Taps of wide kernels that lie past a small crop see only its padding and stay random, which shows on a whole image:
    those of fc6 need 128 px, the dilated ones of U²-Net and DeepLab 288, what the paper of the former takes. Of small
    crops more are a batch: the loss of two of them says little.
    """
    if name == "deeplabv3+":
        return 288, 2
    if name.startswith("u2net"):
        return 288, 1
    if name.startswith("fcn"):
        return 128, 2
    if name == "unet" and preset in LEARNING_RATES:
        return 116, 2
    return 64, 8


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("name", "preset"), CASES)
def test_fifty_steps_lower_the_loss(cli: Cli, tmp_path: Path, name: str, preset: str) -> None:
    """Means over 25 steps of samples that are alike: plain crops, flipped at most, none zoomed, dimmed or weighted."""
    model = tmp_path / "model.safetensors"
    edge, batch = crop_of(name, preset)
    changes = [
        f"network.name={name}",
        f"network.preset={preset}",
        "network.one_logit=false" if preset == "strided" else "run.seed=1",
        "labels.kind=instances",
        'labels.names=["background", "nucleus"]',
        "split.test=0",
        "run.epochs=2",
        "run.steps_per_epoch=25",
        f"run.batch={batch}",
        f"run.output_edge={edge}",
        f"optimizer.learning_rate={LEARNING_RATES.get(preset, 1e-3) if name == 'unet' else 1e-3}",
        "optimizer.warmup_steps=5",
        "optimizer.clip_norm=1",
    ]
    options = [word for change in changes for word in ("--set", change)]
    recipe = ("--recipe", "adam", "--validation", "0.2", "--workers", 0)
    done = cli("train", DATA / "images", DATA / "labels", "-o", model, *recipe, *options)
    assert done.code == 0, done.err
    with (tmp_path / "model.training" / "log.csv").open(encoding="utf-8") as file:
        first, last = (float(row["training_loss"]) for row in csv.DictReader(file))
    assert last < 0.9 * first
    crop = tmp_path / "crop.tif"
    tifffile.imwrite(crop, tifffile.imread(ROOT / "sample_data" / "nuclei.tif")[:64, :64])
    done = cli("segment", crop, "-o", tmp_path / "mask.tif", "-m", model)
    assert done.code == 0, done.err
    assert tifffile.imread(tmp_path / "mask.tif").shape == (64, 64)
