"""Programs of torch.export: measured, segmented like any model, and not read without trust."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from torch import Tensor, nn

from unettile.errors import InputError, UsageError
from unettile.geometry import Geometry
from unettile.inference.predict import Predictor
from unettile.program import load_model
from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.segment import segment_image

AUTO = torch.export.Dim.AUTO
ANY_SIZE = ({0: AUTO, 2: AUTO, 3: AUTO},)


class Small(nn.Module):
    """Pools, rounding up, and comes back to the window's size; one logit."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.low = nn.Sequential(nn.MaxPool2d(2, ceil_mode=True), nn.Conv2d(4, 4, 3, padding=2, dilation=2))
        self.head = nn.Conv2d(8, 1, 3, padding=1)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.first(x)
        below = nn.functional.interpolate(self.low(x), scale_factor=2, mode="bilinear")
        logits = self.head(torch.cat([x, below[:, :, : x.shape[2], : x.shape[3]]], dim=1))
        return [logits, x]


def export(network: nn.Module, path: Path, channels: int = 3, sizes: object = ANY_SIZE) -> Path:
    program = torch.export.export(network.eval(), (torch.rand(2, channels, 64, 48),), dynamic_shapes=sizes)  # type: ignore[arg-type]
    torch.export.save(program, path)
    return path


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return export(Small(), tmp_path_factory.mktemp("program") / "net.pt2")


def test_nothing_of_a_program_is_read_without_trust(tmp_path: Path) -> None:
    path = tmp_path / "stranger.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/archive_format", "pt2")
    with pytest.raises(InputError, match=r"can run code.*--trust"):
        load_model(path)
    with pytest.raises(InputError, match=r"cannot be read as a torch\.export program"):
        load_model(path, trust=True)


def test_its_geometry_is_measured_and_tiles_agree(small: Path, tmp_path: Path) -> None:
    model = load_model(small, trust=True)
    assert model.geometry == Geometry(margin=8, stride=2, base=0)
    assert [info.name for info in model.classes] == ["background", "class 1"]
    assert model.receptive_field is not None and model.receptive_field <= 2 * 8 + 2
    pixels = np.random.default_rng(0).integers(0, 256, (120, 90, 3), np.uint8)
    tifffile.imwrite(tmp_path / "image.tif", pixels, photometric="rgb")
    predictor = Predictor(model, "cpu")
    masks = []
    for edge, batch in ((120, 1), (32, 2)):
        options = SegmentOptions(("probabilities",), edge, batch)
        segment_image(tmp_path / "image.tif", tmp_path / "mask.tif", predictor, options, overwrite=True)
        masks.append(tifffile.imread(tmp_path / "mask.tif").astype(int))
    assert len(np.unique(masks[0])) > 3
    assert np.abs(masks[0] - masks[1]).max() <= 1  # torch's own kernels: equal up to rounding
    with pytest.raises(UsageError, match="computes in fp32"):
        Predictor(model, "cpu", "bf16")


def test_what_stands_beside_it_is_used_and_decides_its_hash(small: Path, tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    path.write_bytes(small.read_bytes())
    plain = load_model(path, trust=True)
    said = {
        "classes": ["ground", "leaf"],
        "intensities": [0, 255],
        "mean": [0.5, 0.4, 0.3],
        "std": [0.2, 0.2, 0.1],
        "output": "probabilities",
        "card": {"licence": "MIT"},
    }
    path.with_suffix(".json").write_text(json.dumps(said))
    model = load_model(path, trust=True)
    assert [info.name for info in model.classes] == ["ground", "leaf"] and model.card == {"licence": "MIT"}
    assert model.sha256 != plain.sha256
    scaling = model.normalization.measure_array(np.full((4, 4, 3), 51, np.uint8))
    assert scaling.apply(np.full((1, 1, 3), 51, np.uint8)).ravel().tolist() == pytest.approx([0.2] * 3)
    assert model.module is not None and plain.module is not None
    x = torch.rand(1, 3, 32, 32)
    mean, std = (torch.tensor(said[key])[:, None, None] for key in ("mean", "std"))
    with torch.inference_mode():
        p = plain.module((x - mean) / std)[:, 1].clamp(1e-7, 1 - 1e-7)
        torch.testing.assert_close(model.module(x)[:, 1], torch.logit(p))


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"class": []}, "unknown key 'class'; did you mean 'classes'"),
        ({"output": "softmax"}, "need one of logits, probabilities"),
        ({"classes": ["a", "b", "c"]}, "said to have 3 classes, the program tells 2 apart"),
        ({"mean": [0.5]}, "as many std as mean"),
        ({"mean": [0.5, 0.5], "std": [1, 1]}, "2 mean values, the program takes 3"),
        ({"intensities": [1]}, "need two"),
        ({"mean": ["a"], "std": [1]}, r'mean\[0\] = "a", need a number'),
        ({"classes": "leaf"}, 'classes = "leaf", need a list'),
        ({"high_percentile": "99"}, r"see docs/networks\.md"),
        (["classes"], r"see docs/networks\.md"),
    ],
)
def test_what_cannot_be_meant_beside_it_is_refused(small: Path, tmp_path: Path, said: object, message: str) -> None:
    path = tmp_path / "net.pt2"
    path.write_bytes(small.read_bytes())
    path.with_suffix(".json").write_text(json.dumps(said))
    with pytest.raises(InputError, match=message):
        load_model(path, trust=True)


def test_a_network_that_looks_at_all_of_its_window_is_not_called_exact(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.InstanceNorm2d(4), nn.Conv2d(4, 2, 1))
    model = load_model(export(network, tmp_path / "norm.pt2", 1), trust=True)
    assert not model.geometry.exact and model.geometry.margin >= 256
    assert model.difference is not None and 0 < model.difference < 1
    assert model.identity.largest_difference == model.difference


def test_a_program_of_one_size_or_of_no_image_is_refused_with_what_to_do(tmp_path: Path) -> None:
    path = export(nn.Conv2d(3, 2, 3), tmp_path / "fixed.pt2", sizes=None)
    with pytest.raises(InputError, match=r"64 × 48 px alone: export it for any size, by torch\.export\.export"):
        load_model(path, trust=True)
    path = export(nn.Flatten(), tmp_path / "flat.pt2")
    with pytest.raises(InputError, match="no network that can be tiled"):
        load_model(path, trust=True)
