"""Ensembles and windows turned over: means of probabilities, exact across tiles, recorded."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

import unettile
from tests.contracts.test_networks import make_checkpoint as make_network
from tests.narrow import make_checkpoint, make_pixels
from tests.scenarios.conftest import Cli, cli
from unettile.checkpoint import Checkpoint, ClassInfo, save_checkpoint
from unettile.ensemble import combine, load_models
from unettile.errors import InputError, UsageError
from unettile.images.normalize import Normalization
from unettile.inference.predict import Predictor
from unettile.objectsize import ObjectSize
from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.segment import segment_image

__all__ = ["cli"]

WIDTHS = (3, 4, 5)


def member(seed: int, **changes: object) -> Checkpoint:
    model = make_checkpoint(widths=WIDTHS, seed=seed)
    return replace(model, sha256=f"{9 - seed}" * 64, **changes)  # type: ignore[arg-type]


def both(**changes: object) -> Checkpoint:
    return replace(combine([member(1), member(2)], ["a", "b"]), **changes)  # type: ignore[arg-type]


def padded() -> Checkpoint:
    """Return a network that pads, with a depth, of another phase than the valid one."""
    model = make_network(("unet", {"in_channels": 1, "classes": 3, "widths": [3, 4, 5], "padding": "same"}))
    infos = tuple(ClassInfo(f"class {k}", (k, 0, 0)) for k in range(2))
    parameters = {name: 15 * tensor if name == "head.weight" else tensor for name, tensor in model.parameters.items()}
    model = replace(model, parameters=parameters)  # so that probabilities are not all about a half
    return replace(model, classes=infos, depth=True, normalization=Normalization(), sha256="0" * 64, tta="flips")


def window(model: Checkpoint) -> np.ndarray:
    edge = model.geometry.input_edge(model.geometry.smallest_output_edge(40))
    return np.random.default_rng(0).random((2, edge, edge, 1), np.float32)


def test_probabilities_are_the_mean_of_the_members() -> None:
    model = both()
    x = window(model)
    singles = [Predictor(member(seed), "cpu", "fp32").probabilities(x) for seed in (1, 2)]
    found = Predictor(model, "cpu", "fp32").probabilities(x)
    assert float(np.abs(singles[0] - singles[1]).max()) > 0.05
    np.testing.assert_allclose(found, np.mean(singles, axis=0), rtol=0, atol=2e-7)
    levels = Predictor(model, "cpu", "fp32").planes(("probabilities",), x)
    np.testing.assert_array_equal(levels, np.floor(found * 255 + np.float32(0.5)).astype(np.uint8))


@pytest.mark.parametrize("make", [lambda: both(tta="flips"), padded], ids=["valid, two", "padded, depth"])
def test_windows_turned_over_count_as_much(make: object) -> None:
    model = make()  # type: ignore[operator]
    x = window(model)
    plain = Predictor(replace(model, tta=""), "cpu", "fp32")
    ways = [plain.probabilities(np.flip(x, axes).copy()) for axes in ((), 1, 2, (1, 2))]
    turned = [np.flip(way, axes) for way, axes in zip(ways, ((), 2, 3, (2, 3)), strict=True)]
    found = Predictor(model, "cpu", "fp32").probabilities(x)
    assert max(float(np.abs(turned[0] - one).max()) for one in turned[1:]) > 1e-3
    np.testing.assert_allclose(found, np.mean(turned, axis=0), rtol=0, atol=2e-7)


@pytest.mark.parametrize(
    ("make", "precision", "threads"),
    [(lambda: both(tta="flips"), "fp32", 1), (both, "fp32", 3), (padded, "fp32", 2), (padded, "bf16", 2)],
    ids=["two, flips", "two", "padded, depth, flips", "bf16"],
)
def test_the_mask_does_not_depend_on_tiles_and_batches(
    make: object, precision: str, threads: int, tmp_path: Path
) -> None:
    model = make()  # type: ignore[operator]
    kinds = ("probabilities", "uncertainty", "classes", *(("depth",) if model.depth else ()))
    image = tmp_path / "image.tif"
    tifffile.imwrite(image, make_pixels(100, 80))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    found = []
    try:
        predictor = Predictor(model, "cpu", precision)
        for length, batch in ((100, 1), (48, 2)):
            edge = model.geometry.smallest_output_edge(length)
            segment_image(
                image, tmp_path / "mask.ome.tif", predictor, SegmentOptions(kinds, edge, batch), overwrite=True
            )
            with tifffile.TiffFile(tmp_path / "mask.ome.tif") as file:
                found.append([series.asarray() for series in file.series])
    finally:
        torch.set_num_threads(before)
    first, *others = found
    assert len(np.unique(first[0])) > 20
    for other in others:
        for one, two in zip(first, other, strict=True):
            np.testing.assert_array_equal(one, two)


def test_verify_compares_what_is_averaged(tmp_path: Path) -> None:
    image = tmp_path / "image.tif"
    tifffile.imwrite(image, make_pixels(90, 70))
    done = segment_image(
        image, tmp_path / "mask.tif", Predictor(both(tta="flips"), "cpu", "fp32"), SegmentOptions(), verify=True
    )
    assert done.verification is not None and done.verification.differing_pixels == 0
    assert done.verification.largest_difference == 0


def test_members_are_recorded_and_their_order_does_not_count(tmp_path: Path, cli: Cli) -> None:
    names = []
    for seed in (1, 2):
        path = tmp_path / f"{seed}.safetensors"
        save_checkpoint(replace(member(seed), sha256=""), path)
        names.append(str(path))
    image, mask = tmp_path / "image.tif", tmp_path / "mask.tif"
    tifffile.imwrite(image, make_pixels(80, 60))
    options = ("--diameter", "off", "--precision", "fp32", "--device", "cpu")
    done = cli("segment", image, "-o", mask, "-m", names[1], "-m", names[0], "--tta", "flips", *options)
    assert done.code == 0 and "means of 2 models, each window turned over in four ways: 8 passes for one" in done.err
    with tifffile.TiffFile(mask) as file:
        record = json.loads(file.pages[0].description)["model"]
    members = sorted(load_models([name]).sha256 for name in names)
    assert record["members"] == members and record["tta"] == "flips" and record["sha256"] not in members
    content = mask.read_bytes()
    done = cli("segment", image, "-o", mask, "-m", tmp_path, "--tta", "flips", *options)
    assert done.code == 0 and "finished already" in done.err and mask.read_bytes() == content
    done = cli("segment", image, "-o", mask, "-m", tmp_path, *options)
    assert done.code == 3 and "--overwrite" in done.err
    model = unettile.load(names, device="cpu", precision="fp32", tta="flips")
    np.testing.assert_array_equal(model.segment(tifffile.imread(image), diameter="off"), tifffile.imread(mask))
    single = unettile.load(names[0], device="cpu", precision="fp32", tta="flips")
    assert single.checkpoint.sha256 in members and single.checkpoint.identity.to_dict()["tta"] == "flips"


def test_models_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(InputError, match=r"a and b cannot be averaged: how they scale intensities differ"):
        combine([member(1), member(2, normalization=Normalization(signed=True))], ["a", "b"])
    with pytest.raises(InputError, match="their networks' configs"):
        combine([member(1), replace(make_checkpoint(widths=(3, 4)), sha256="0" * 64)], ["a", "b"])
    with pytest.raises(UsageError, match="given twice"):
        combine([member(1), member(1)], ["a", "a"])
    with pytest.raises(UsageError, match="need one of none, flips"):
        load_models(["nuclei"], tta="turns")
    with pytest.raises(UsageError, match="no model is given"):
        unettile.load([])


def test_an_ensemble_knows_the_medians_of_what_its_members_know() -> None:
    sizes = [ObjectSize(20.0, 10.0, 40.0), ObjectSize(30.0, 12.0, 50.0), ObjectSize(22.0, 15.0, 41.0)]
    models = [member(seed, objects_px=size) for seed, size in enumerate(sizes, 1)]
    assert combine(models, ["a", "b", "c"]).objects_px == ObjectSize(22.0, 12.0, 41.0)
    assert combine([*models[:2], member(3)], ["a", "b", "c"]).objects_px is None
