"""`evaluate` through the command line: the table, the JSON, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import tifffile

from tests.scenarios.conftest import Cli

SAMPLES = Path(__file__).parents[2] / "sample_data" / "nuclei" / "labels"


def test_labels_agree_with_themselves(cli: Cli) -> None:
    done = cli("evaluate", SAMPLES, SAMPLES, "--objects", "--instances", "--json", "--quiet")
    assert done.code == 0 and done.err == ""
    result = json.loads(done.out)
    assert result["pooled"]["iou"] == [1, 1] and result["pooled"]["objects"]["mean_average_precision"] == 1
    assert len(result["images"]) == len(list(SAMPLES.glob("*.tif")))


def test_the_table(cli: Cli, tmp_path: Path) -> None:
    truth = np.zeros((40, 40), np.uint16)
    truth[5:15, 5:15], truth[20:30, 20:30] = 1, 2
    prediction = (truth > 0).astype(np.uint8)
    prediction[20:30, 25:30] = 0
    tifffile.imwrite(tmp_path / "t.tif", truth)
    tifffile.imwrite(tmp_path / "p.tif", prediction)
    done = cli("evaluate", tmp_path / "p.tif", tmp_path / "t.tif", "--objects", "--boundaries", "--quiet")
    assert done.code == 0 and done.err == ""
    rows = [line.split() for line in done.out.splitlines()]
    assert ["foreground", "0.7500", "0.8571", "200", "150"] in rows
    assert ["0.50", "0.3333", "0.5000", "1", "1", "1"] in rows  # half a cell is not more than half


def test_refusals(cli: Cli, tmp_path: Path) -> None:
    some = next(iter(sorted(SAMPLES.glob("*.tif"))))
    for arguments, code, part in (
        ((tmp_path / "no.tif", some), 3, "no such file"),
        ((some, SAMPLES), 2, "file with a folder"),
        ((some, some), 3, "--instances"),
        ((some, some, "--classes", 2), 3, "--classes 2"),
        ((some, some, "--classes", 3, "--instances"), 2, "exclude"),
        ((tmp_path, SAMPLES), 3, "holds no images"),
    ):
        done = cli("evaluate", *arguments)
        assert done.code == code and part in done.err and done.err.count("\n") == 1 and done.out == "", done.err
