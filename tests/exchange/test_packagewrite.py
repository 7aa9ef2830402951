"""Packages that are written: valid, the same probabilities in ONNX Runtime, and the same model when read again."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.exchange.packages import validated
from tests.narrow import make_checkpoint
from unettile.errors import InputError, UsageError
from unettile.exchange.probable import ProbableNetwork
from unettile.exchange.torchscript import read_script
from unettile.export import export_model
from unettile.images.normalize import Normalization
from unettile.objects.rules import ObjectRules
from unettile.objectsize import ObjectSize
from unettile.program import check_model, load_model

pytestmark = pytest.mark.skipif(find_spec("onnxruntime") is None, reason="needs ONNX Runtime")

BOUND = 1e-5
"""Of a probability: kernels sum in another order."""

TWO = make_checkpoint(channels=3, classes=3, widths=(4, 6))
MODEL = replace(
    TWO,
    classes=TWO.classes[:2],
    depth=True,
    normalization=Normalization(2, 99, signed=True),
    card={"licence": "CC0-1.0", "data": "noise", "scores": {"iou": 0.5}},
    pixel_size_um=0.5,
    grey_to_rgb=True,
    objects=ObjectRules.from_dict({"min_size": 7}),
    objects_px=ObjectSize(20.0, 10.0, 31.0),
)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("package") / "small net"
    export_model(MODEL, path, overwrite=False)
    return path


def test_it_is_valid_and_passes_its_own_test(package: Path) -> None:
    assert validated(package / "rdf.yaml") == []
    assert check_model(package).passed


def test_read_again_it_is_the_same_model_with_our_own_kernels(package: Path) -> None:
    again = load_model(package)
    assert again.module is None and again.sha256 != MODEL.sha256
    for name in ("network", "config", "geometry", "normalization", "classes", "depth", "objects", "objects_px", "card"):
        assert getattr(again, name) == getattr(MODEL, name), name
    for name, tensor in MODEL.parameters.items():
        assert torch.equal(again.parameters[name], tensor)


def test_onnx_runtime_and_torchscript_give_our_probabilities_in_windows_of_any_size(package: Path) -> None:
    import onnxruntime

    script = read_script(package / "traced.pt", package, trust=True)
    session = onnxruntime.InferenceSession(str(package / "weights.onnx"), providers=["CPUExecutionProvider"])
    edge = MODEL.geometry.input_edge(MODEL.geometry.smallest_output_edge(40))
    window = np.random.default_rng(0).random((2, 3, edge, edge + 4 * MODEL.geometry.stride), np.float32)
    (theirs,) = session.run(["probabilities"], {"image": window})
    with torch.inference_mode():
        ours = ProbableNetwork.of(MODEL.build(), 2)(torch.from_numpy(window)).numpy()
    assert theirs.shape == ours.shape and theirs.shape[1] == 2 and float(ours.std()) > 0
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=BOUND)
    with torch.inference_mode():
        np.testing.assert_allclose(script(torch.from_numpy(window)).numpy(), ours, rtol=0, atol=BOUND)


def test_without_its_header_it_is_a_package_like_any_other(package: Path, tmp_path: Path) -> None:
    """What other programs make of it, by the description alone, is what we make of it."""
    text = (package / "rdf.yaml").read_text()
    for file in package.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "rdf.yaml").write_text(text[: text.index("config:\n  unettile")])
    model = load_model(tmp_path)
    assert model.network == "bioimage.io" and model.geometry == MODEL.geometry
    assert [info.name for info in model.classes] == [info.name for info in MODEL.classes]
    assert check_model(tmp_path).passed


def test_a_zip_holds_the_same(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnx, traced = ((package / name).read_bytes() for name in ("weights.onnx", "traced.pt"))
    monkeypatch.setattr("unettile.export._onnx_bytes", lambda *_: onnx)
    monkeypatch.setattr("unettile.exchange.packagewrite._traced", lambda _: traced)  # names count up in one process
    path = tmp_path / "small net.zip"
    for _ in range(2):  # the same bytes, so that nothing is overwritten
        export_model(MODEL, path, overwrite=False)
    with zipfile.ZipFile(path) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {
            file.name: file.read_bytes() for file in package.iterdir()
        }
    assert load_model(path).sha256 == load_model(package).sha256
    with pytest.raises(InputError, match="--overwrite"):
        export_model(replace(MODEL, card={}), path, overwrite=False)
    with pytest.raises(UsageError, match="or none for a folder"):
        export_model(MODEL, tmp_path / "net.tar", overwrite=False)
    assert list(tmp_path.iterdir()) == [path]
