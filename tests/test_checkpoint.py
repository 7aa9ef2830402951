"""Files that are no checkpoint of ours: refused in one line, and no code in them is run."""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from unettile.checkpoint import Checkpoint, ClassInfo, load_checkpoint, save_checkpoint
from unettile.errors import InputError
from unettile.images.normalize import Normalization
from unettile.networks.unet import UNet, UNetConfig
from unettile.objectsize import ObjectSize

CONFIG = {"in_channels": 1, "classes": 2, "widths": [2, 3], "dropout": 0.0, "batch_norm": False}


@pytest.fixture
def good(tmp_path: Path) -> Path:
    network = UNet(UNetConfig(1, 2, (2, 3)))
    classes = (ClassInfo("background", (0, 0, 0)), ClassInfo("cell", (255, 0, 0)))
    checkpoint = Checkpoint("unet", CONFIG, network.geometry, Normalization(), classes, dict(network.state_dict()))
    save_checkpoint(checkpoint, tmp_path / "good.safetensors")
    return tmp_path / "good.safetensors"


def _rewrite(good: Path, **changes: Any) -> Path:
    """Save the checkpoint with entries of its header changed, past our own validation."""
    checkpoint = load_checkpoint(good)
    header = {
        "format": 1,
        "network": "unet",
        "config": CONFIG,
        "geometry": checkpoint.geometry.to_dict(),
        "normalization": checkpoint.normalization.to_dict(),
        "classes": [{"name": info.name, "color": info.color} for info in checkpoint.classes],
        "grey_to_rgb": False,
        "pixel_size_um": None,
        "recipe": {},
        "card": {},
    } | changes
    path = good.with_name("changed.safetensors")
    save_file(checkpoint.parameters, path, metadata={"unettile": json.dumps(header)})
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "format = 2, need 1"),
        ({"network": "vnet"}, "'vnet' is not known"),
        ({"config": CONFIG | {"widths": [2, 4]}}, "has shape"),
        ({"config": CONFIG | {"widths": [2, 3, 4]}}, "missing or unknown"),
        ({"config": CONFIG | {"batch_norm": True}}, "missing or unknown"),
        ({"geometry": {"margin": 0, "stride": 2, "base": 0, "exact": True}}, "declares"),
        ({"geometry": {}}, "damaged metadata"),
        ({"classes": []}, r"classes = \[\], need a list"),
        ({"classes": [{"name": "a", "color": [0, 0, 0]}] * 3}, "names 3 classes for a network of 2"),
        (
            {"classes": [{"name": "a", "color": [0, 0, 300]}] * 2},
            r"color\[2\] = 300, need .* at most 255",
        ),
        ({"geometry": {"margin": "8", "stride": 2, "base": 0, "exact": True}}, r'geometry\.margin = "8", need a whole'),
        ({"grey_to_rgb": 1}, "grey_to_rgb = 1, need true or false"),
        ({"pixel_size_um": -0.5}, r"pixel_size_um = -0\.5, need a number above 0"),
        ({"pixel_size_um": float("nan")}, "no JSON"),
        ({"card": {"scores": {"iou": float("nan")}}}, "no JSON"),
        ({"card": {"licence": 5}}, r"card\.licence = 5, need a text"),
        ({"network": "\ud800"}, "no JSON"),
        ({"objects": {"split": "yes"}}, "split = 'yes' has the wrong type"),
        ({"objects": {"spilt": True}}, "objects have no 'spilt'"),
        ({"difference": 2}, "difference = 2, need a number of at most 1"),
        ({"config": CONFIG | {"widths": [2, 10**9]}}, r"widths = 1000000000 is out of range: need 1 to 4096"),
        ({"config": CONFIG | {"widths": [1] * 1000}}, "2 to 7 widths"),
        ({"objects_px": {"median": 9.0, "low": 12.0, "high": 40.0}}, "damaged metadata"),
        ({"objects_px": {"median": 9.0}}, "damaged metadata"),
        ({"normalization": {"low_percentile": 5, "high_percentile": 1, "per_channel": False}}, "damaged metadata"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(good: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        load_checkpoint(_rewrite(good, **changes))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text", ["", "[" * 100_000, '{"format": ' + "9" * 5000 + "}", '{"format": 1, "network": "²', "[1]", "null"]
)
def test_metadata_that_are_no_header_are_refused_in_a_line(good: Path, text: str) -> None:
    save_file(load_checkpoint(good).parameters, good, metadata={"unettile": text})
    with pytest.raises(InputError, match="damaged metadata") as error:
        load_checkpoint(good)
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_types_are_those_of_the_network_and_variances_not_negative(good: Path) -> None:
    network = UNet(UNetConfig(1, 2, (2, 3), batch_norm=True))
    normed = replace(load_checkpoint(good), config=CONFIG | {"batch_norm": True}, parameters=dict(network.state_dict()))
    [name, *_] = [name for name in normed.parameters if name.endswith("running_var")]
    for change, message in ((lambda t: t.double(), "is of type F64, need torch.float32"), (lambda t: -t, "below 0 in")):
        changed = normed.parameters | {name: change(normed.parameters[name])}
        save_checkpoint(replace(normed, parameters=changed), good)
        with pytest.raises(InputError, match=message):
            load_checkpoint(good)


def test_scores_that_were_not_computed_are_kept_as_null(good: Path) -> None:
    save_checkpoint(replace(load_checkpoint(good), card={"scores": {"ap": math.nan, "iou": 0.5}}), good)
    assert load_checkpoint(good).card == {"scores": {"ap": None, "iou": 0.5}}


def test_the_size_of_objects_is_kept_and_none_in_older_files(good: Path) -> None:
    assert load_checkpoint(good).objects_px is None and load_checkpoint(_rewrite(good)).objects_px is None
    size = ObjectSize(median=28.5, low=12.0, high=55.0)
    save_checkpoint(replace(load_checkpoint(good), objects_px=size), good)
    assert load_checkpoint(good).objects_px == size
    assert [size.fits(diameter) for diameter in (22.7, 22.9, 42.7, 42.8)] == [False, True, True, False]
    assert size.best == 1.25 * 28.5 and ObjectSize(28.5, 12, 30).best == 30 and not ObjectSize(28.5, 12, 30).fits(31)


class _Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("exploded"),)


def test_a_pickle_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "stranger.safetensors"
    for data in (pickle.dumps(_Bomb()), b""):
        path.write_bytes(data)
        with pytest.raises(InputError, match="is not a safetensors checkpoint"):
            load_checkpoint(path)
    torch.save({"a": torch.zeros(2)}, path)
    with pytest.raises(InputError, match="looks like a pickle"):
        load_checkpoint(path)
    assert not Path("exploded").exists()


def test_foreign_truncated_and_missing_files_are_refused(good: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.safetensors"
    save_file({"a": torch.zeros(2)}, foreign)
    with pytest.raises(InputError, match="did not write"):
        load_checkpoint(foreign)
    for size in (4, 100, good.stat().st_size - 1):
        (tmp_path / "cut.safetensors").write_bytes(good.read_bytes()[:size])
        with pytest.raises(InputError, match="is not a safetensors checkpoint"):
            load_checkpoint(tmp_path / "cut.safetensors")
    with pytest.raises(InputError, match="no checkpoint at"):
        load_checkpoint(tmp_path / "none.safetensors")


def test_parameters_that_are_not_finite_are_refused(good: Path) -> None:
    checkpoint = load_checkpoint(good)
    checkpoint.parameters["head.bias"][0] = torch.nan
    save_checkpoint(checkpoint, good)
    with pytest.raises(InputError, match=r"not finite in head\.bias"):
        load_checkpoint(good)
