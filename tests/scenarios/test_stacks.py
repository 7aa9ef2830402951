"""Stacks through the command line: segmented, weighed, compared and measured plane by plane."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from tests.scenarios.conftest import Cli, make_pixels
from unettile.images.planes import stack_spacing
from unettile.images.slide import read_labels
from unettile.images.view import View
from unettile.weightmap import weight_map

SHAPE = (60, 70)


def labels(*seeds: int) -> NDArray[np.uint8]:
    """Return planes (Z, Y, X) of discs; each disc of a plane has an id of its own."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    planes = np.zeros((len(seeds), *SHAPE), np.uint8)
    for plane, seed in zip(planes, seeds, strict=True):
        for number, (row, column) in enumerate(((15, 15 + 3 * seed), (40, 20), (30, 50 - 2 * seed)), start=1):
            plane[(y - row) ** 2 + (x - column) ** 2 < 50 + 10 * seed] = number
    return planes


def write_stack(path: Path, planes: NDArray[np.uint8]) -> Path:
    tifffile.imwrite(path, planes, imagej=True, metadata={"axes": "ZYX"})
    return path


def test_ranges_are_planes_of_one_file(cli: Cli, model: Path, tmp_path: Path) -> None:
    image = write_stack(tmp_path / "stack.tif", np.stack([make_pixels(*SHAPE, seed=seed) for seed in range(3)]))
    options = ("-m", model, "--diameter", "off", "--json")
    planned = cli("segment", image, "-o", tmp_path / "mask.tif", *options, "--z", "1:3", "--dry-run")
    assert planned.code == 0 and json.loads(planned.out)["planes"] == 2, planned.err
    done = cli("segment", image, "-o", tmp_path / "mask.tif", *options, "--z", "1:3", "--scaling", "plane")
    assert done.code == 0 and "2 planes of 60 × 70 px" in done.err and json.loads(done.out)["planes"] == 2
    assert cli("segment", image, "-o", tmp_path / "one.tif", *options, "--z", "2").code == 0
    assert np.array_equal(tifffile.imread(tmp_path / "mask.tif")[1], read_labels(tmp_path / "one.tif"))
    again = cli("segment", image, "-o", tmp_path / "mask.tif", *options, "--z", "1:3", "--scaling", "plane")
    assert again.code == 0 and "finished already" in again.err
    for text, code in (("5:9", 3), ("x", 2)):
        assert cli("segment", image, "-o", tmp_path / "no.tif", *options, "--z", text).code == code
    # the objects of a plane, with the intensities of the plane that it was made of
    table = tmp_path / "cells.csv"
    for plane in (0, 1):
        one = ("objects", tmp_path / "mask.tif", "--z", plane, "--image", image, "--overwrite")
        done = cli(*one, "--table", table, "-o", tmp_path / "ids.tif")
        assert done.code == 0, done.err
        ids, seen = read_labels(tmp_path / "ids.tif"), tifffile.imread(image)[1 + plane]
        rows = list(csv.DictReader(table.read_text().splitlines()))
        assert len(rows) == ids.max() > 0
        assert float(rows[0]["mean_intensity_0"]) == pytest.approx(float(seen[ids == 1].mean()), abs=1e-3)
    refused = cli("objects", tmp_path / "mask.tif", "-o", tmp_path / "no.tif")
    assert refused.code == 3 and "choose with --z" in refused.err


def test_the_objects_of_all_planes_are_those_of_each_alone(cli: Cli, model: Path, tmp_path: Path) -> None:
    """From the image to the table, of ids that `segment` wrote: names, classes and ids are those of the plane alone."""
    image = write_stack(tmp_path / "stack.tif", np.stack([make_pixels(*SHAPE, seed=seed) for seed in range(3)]))
    options = ("-m", model, "--diameter", "off", "--scaling", "plane", "--write", "instances")
    refused = cli("segment", image, "-o", tmp_path / "ids.ome.tif", *options)
    assert refused.code == 3 and "choose with --z N, from 0 to 2; or all of them with --z all" in refused.err
    assert cli("segment", image, "-o", tmp_path / "ids.ome.tif", *options, "--z", "all").code == 0
    tables = ("--image", image, "--table", tmp_path / "all.csv")
    done = cli(
        "objects", tmp_path / "ids.ome.tif", "--z", "all", "--time", "all", *tables, "-o", tmp_path / "o.tif", "--json"
    )
    assert done.code == 0 and "in 3 planes of 60 × 70 px" in done.err, done.err
    rows = (tmp_path / "all.csv").read_text().splitlines()
    assert json.loads(done.out)["objects"] == len(rows) - 1 > 0
    expected = []
    for z in range(3):
        assert cli("segment", image, "-o", tmp_path / f"{z}.tif", *options, "--z", z).code == 0
        one = ("--image", image, "--table", tmp_path / "one.csv", "-o", tmp_path / "p.tif", "--overwrite")
        alone = cli("objects", tmp_path / f"{z}.tif", *one)
        assert alone.code == 0, alone.err
        header, *lines = (tmp_path / "one.csv").read_text().splitlines()
        expected += [f"{z},{line}" for line in lines]
        assert np.array_equal(tifffile.imread(tmp_path / "o.tif")[z], read_labels(tmp_path / "p.tif"))
    assert rows == [f"z,{header}", *expected] and "mask_id" in header
    refused = cli("objects", tmp_path / "ids.ome.tif", "--z", "all", "--overlay", tmp_path / "o.png")
    assert refused.code == 2 and "--overlay is of one plane" in refused.err
    assert cli("objects", tmp_path / "ids.ome.tif", "--z", "x", "--table", tmp_path / "no.csv").code == 2


def test_stacks_are_compared_plane_by_plane(cli: Cli, tmp_path: Path) -> None:
    truth, mask = labels(0, 1, 2), labels(1, 1, 3)
    prediction = write_stack(tmp_path / "mask.tif", mask)
    true = write_stack(tmp_path / "truth.tif", truth)
    done = cli("evaluate", prediction, true, "--instances", "--objects", "--json")
    assert done.code == 0, done.err
    for number in range(3):
        for name, planes in (("a", mask), ("b", truth)):
            tifffile.imwrite(tmp_path / f"{name}.tif", planes[number])
        alone = cli("evaluate", tmp_path / "a.tif", tmp_path / "b.tif", "--instances", "--objects", "--json")
        found, expected = (json.loads(one.out)["images"] for one in (done, alone))
        [one] = expected.values() if isinstance(expected, dict) else expected
        other = found[f"mask z{number}"] if isinstance(found, dict) else found[number]
        strip = {"name", "image"}
        assert {k: v for k, v in other.items() if k not in strip} == {k: v for k, v in one.items() if k not in strip}
    write_stack(tmp_path / "truth.tif", truth[:2])
    refused = cli("evaluate", prediction, true, "--instances")
    assert refused.code == 3 and "has 3 planes" in refused.err


@pytest.mark.parametrize("ending", [".tif", ".ome.tif"])
def test_a_stack_of_labels_has_a_stack_of_weight_maps(ending: str, cli: Cli, tmp_path: Path) -> None:
    planes = labels(0, 1, 2)
    file = tmp_path / "labels.tif"
    tifffile.imwrite(file, planes, imagej=True, metadata={"axes": "ZYX", "unit": "um", "spacing": 0.3})
    out = tmp_path / f"weights{ending}"
    planned = cli("weights", file, "-o", out, "--dry-run")
    assert planned.code == 0 and "would write 1 weight map" in planned.err and "3 planes, 0.01 Mpx" in planned.err
    assert not out.exists()
    done = cli("weights", file, "-o", out, "--class-weights", "none", "--sigma", "3")
    assert done.code == 0, done.err
    assert stack_spacing(out, View(z=0)).z_um == 0.3
    found = tifffile.imread(out)
    assert found.shape == planes.shape and found.dtype == np.float32
    for plane, weights in zip(planes, found, strict=True):
        assert np.allclose(weights, weight_map(plane, 10.0, 3.0, (1.0, 1.0)), atol=1e-5)
