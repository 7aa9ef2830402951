"""Leaving background out: what was left out is said, and is background in the mask."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import tifffile

from tests.scenarios.conftest import Cli


def test_what_was_left_out_is_said(cli: Cli, tmp_path: Path, model: Path) -> None:
    pixels = np.random.default_rng(0).integers(10, 14, (900, 1100)).astype(np.uint8)
    pixels[400:500, 500:620] += np.random.default_rng(1).integers(60, 120, (100, 120)).astype(np.uint8)
    image = tmp_path / "image.tif"
    tifffile.imwrite(image, pixels)
    given = ("-m", model, "--device", "cpu", "--json")
    done = cli("segment", image, *given, "-o", tmp_path / "mask.tif", "--skip-background")
    assert done.code == 0, done.err
    share = json.loads(done.out)["left_out"]
    # The patch lies in cells from (384, 448) to (512, 640); two more are kept on every side.
    assert share == round(1 - 384 * 448 / pixels.size, 6)
    assert f"{100 * share:.1f} % left out as background" in done.err
    mask = tifffile.imread(tmp_path / "mask.tif")
    kept = np.s_[384 - 128 : 512 + 128, 448 - 128 : 640 + 128]
    assert mask[kept].any()
    done = cli("segment", image, *given, "-o", tmp_path / "all.tif")
    assert "left_out" not in json.loads(done.out) and "left out" not in done.err
    expected = np.zeros_like(mask)
    expected[kept] = tifffile.imread(tmp_path / "all.tif")[kept]
    np.testing.assert_array_equal(mask, expected)
