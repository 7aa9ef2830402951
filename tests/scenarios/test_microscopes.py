"""Microscopes' own files through the command line: the masks are those of the same pixels in a TIFF."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

import unettile
from tests.contracts.test_microscopes import SHAPE, write_czi, write_lif
from tests.nd2s import write_nd2
from tests.scenarios.conftest import Cli, make_pixels


@pytest.mark.parametrize("form", ["czi", "lif", "nd2"])
def test_planes_of_a_channel_of_a_scene(form: str, cli: Cli, model: Path, tmp_path: Path) -> None:
    stack = np.stack([make_pixels(*SHAPE, seed=seed) for seed in range(8)]).reshape(2, 2, 2, *SHAPE)  # T, Z, C
    path = tmp_path / f"a.{form}"
    if form == "czi":
        write_czi(path, stack)
    elif form == "lif":
        write_lif(path, {"first": stack, "second": stack[:1].copy()})
    else:
        write_nd2(path, np.stack([np.moveaxis(stack, 2, -1)] * 2), "PTZ", ("a", "b"))
    options = ("-m", model, "--diameter", "off", "--scaling", "plane")
    chosen = ("--series", 0, "--time", 1, "--z", "all", "--channel", 1)
    done = cli("segment", path, *options, *chosen, "-o", tmp_path / "mask.ome.tif")
    assert done.code == 0, done.err
    for z in range(2):
        tifffile.imwrite(tmp_path / "plane.tif", stack[1, z, 1])
        alone = tmp_path / f"{z}.tif"
        assert cli("segment", tmp_path / "plane.tif", *options, "-o", alone).code == 0
        with unettile.open(tmp_path / "mask.ome.tif", z=z) as mask, unettile.open(alone) as expected:
            assert np.array_equal(mask.read(), expected.read())
