"""Killed before or after any change of a name, a command given again ends well, with all its files and no more."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from tests.conftest import ROOT
from tests.scenarios.conftest import make_model, make_pixels

TRAIN = (
    "train images labels -o m.safetensors --recipe semantic --set run.epochs=1 --set run.steps_per_epoch=1 --set"
    " run.batch=1 --set run.output_edge=32 --set network.widths=[4,8] --workers 0 --device cpu --resume"
)
COMMANDS = {
    "objects": "objects mask.tif -o o.tif --table o.csv --geojson o.geojson --overlay o.png",
    "weights": "weights mask.tif -o w.tif --preview",
    "stitch": "stitch crops -o joined.tif",
    "model": "models model.safetensors -o copy.safetensors --set objects.min_size=30",
    "train": TRAIN,
}


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """What the commands are given: an image, a mask, crops, a model, and a set to train on."""
    place = tmp_path / "given"
    for name in ("crops", "images", "labels"):
        (place / name).mkdir(parents=True)
    mask = np.zeros((60, 80), np.uint8)
    mask[10:30, 10:30], mask[40:50, 50:70] = 1, 1
    tifffile.imwrite(place / "mask.tif", mask)
    tifffile.imwrite(place / "image.tif", make_pixels(60, 80))
    for x in (0, 40):
        tifffile.imwrite(place / "crops" / f"a_y0_x{x}.tif", mask[:, x : x + 40])
    make_model(place / "model.safetensors", 1)
    for number in range(3):
        tifffile.imwrite(place / "images" / f"{number}.tif", make_pixels(60, 80, seed=number))
        tifffile.imwrite(place / "labels" / f"{number}.tif", mask)
    return place


@pytest.mark.parametrize("name", COMMANDS)
def test_given_again_it_finishes(name: str, given: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.scenarios.killed", given.parent, *COMMANDS[name].split()],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    whole, *moments = [json.loads(line) for line in done.stdout.splitlines()]
    assert whole["code"] == 0, whole
    assert len(moments) >= 2, "no name was changed"
    for moment in moments:
        assert moment["code"] == 0, moment
        assert contents(moment["left"]) == contents(whole["left"]), moment


def contents(left: dict[str, Any]) -> dict[str, Any]:
    """Return digests by name; those of pages and logs, which tell the time, and of empty locks only by name."""
    timed = (".html", ".csv", ".pt", "lock", "m.safetensors", "best.safetensors")
    return {name: "" if ".training" in name and name.endswith(timed) else digest for name, digest in left.items()}
