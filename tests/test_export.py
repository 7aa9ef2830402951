"""Models for other programs: the same logits in ONNX Runtime, the same mask from the exported program."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from tests.narrow import make_checkpoint, make_pixels
from unettile.errors import InputError, UsageError
from unettile.export import export_model
from unettile.images.normalize import Normalization
from unettile.inference.predict import Predictor
from unettile.models import MODELS, find_model
from unettile.objects.rules import ObjectRules
from unettile.objectsize import ObjectSize
from unettile.program import load_model
from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.segment import segment_image

BOUND = 2e-5
"""Times the largest logit: kernels sum in another order."""

MODEL = replace(
    make_checkpoint(widths=(2, 3)),
    normalization=Normalization(2, 99, signed=True),
    card={"licence": "MIT"},
    pixel_size_um=0.5,
    objects=ObjectRules.from_dict({"min_size": 7}),
    objects_px=ObjectSize(20.0, 10.0, 31.0),
)


def test_onnx_runtime_gives_our_logits_in_windows_of_any_size(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    path = tmp_path / "net.onnx"
    export_model(MODEL, path, overwrite=False)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    said = json.loads(session.get_modelmeta().custom_metadata_map["unettile"])
    assert said == json.loads(MODEL.header.to_json()) | {"receptive_field": MODEL.receptive_field}
    edge = MODEL.geometry.input_edge(MODEL.geometry.smallest_output_edge(32))
    for shape in ((1, 1, edge, edge), (3, 1, edge + 4 * MODEL.geometry.stride, edge + MODEL.geometry.stride)):
        window = np.random.default_rng(0).random(shape, np.float32)
        with torch.inference_mode():
            ours = MODEL.build()(torch.from_numpy(window)).numpy()
        (theirs,) = session.run(["logits"], {"image": window})
        assert theirs.dtype == np.float32 and float(ours.std()) > 0
        np.testing.assert_allclose(theirs, ours, rtol=0, atol=BOUND * float(np.abs(ours).max()))
    again = load_model(path)
    assert (again.geometry, again.classes, again.objects) == (MODEL.geometry, MODEL.classes, MODEL.objects)
    assert again.receptive_field == MODEL.receptive_field
    kept = path.read_bytes()
    other = make_checkpoint(widths=(2, 3), seed=1)
    with pytest.raises(InputError, match="--overwrite"):
        export_model(other, path, overwrite=False)
    assert path.read_bytes() == kept and list(tmp_path.iterdir()) == [path]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "net.pt2"
    export_model(MODEL, path, overwrite=False)
    assert list(path.parent.iterdir()) == [path]
    return path


def test_the_exported_program_makes_the_same_mask(exported: Path, tmp_path: Path) -> None:
    program = load_model(exported, trust=True)
    for name in ("geometry", "normalization", "classes", "card", "pixel_size_um", "objects", "objects_px", "depth"):
        assert getattr(program, name) == getattr(MODEL, name), name
    assert program.receptive_field == MODEL.receptive_field and program.difference is None
    tifffile.imwrite(tmp_path / "image.tif", make_pixels(90, 70))
    masks = []
    for model in (MODEL, program):
        options = SegmentOptions(("classes",), 32, diameter="off")
        segment_image(
            tmp_path / "image.tif", tmp_path / "mask.tif", Predictor(model, "cpu", "fp32"), options, overwrite=True
        )
        masks.append(tifffile.imread(tmp_path / "mask.tif"))
    assert len(np.unique(masks[0])) == 2
    np.testing.assert_array_equal(masks[1], masks[0])


@pytest.mark.slow  # torch.export reasons about sizes for a quarter of a minute
@pytest.mark.parametrize("name", MODELS)
def test_the_shipped_model_exported_says_the_same(name: str, tmp_path: Path) -> None:
    """Kernels sum in another order: a probability differs by less than a level of 255, save for rounding to one."""
    model = load_model(find_model(name))
    export_model(model, tmp_path / "net.pt2", overwrite=False)
    program = load_model(tmp_path / "net.pt2", trust=True)
    assert program.objects_px == model.objects_px is not None
    tifffile.imwrite(tmp_path / "image.tif", make_pixels(60, 80))
    masks = []
    for one in (model, program):
        options = SegmentOptions(("probabilities",), diameter="off")
        segment_image(
            tmp_path / "image.tif", tmp_path / "mask.tif", Predictor(one, "cpu", "fp32"), options, overwrite=True
        )
        masks.append(tifffile.imread(tmp_path / "mask.tif").astype(int))
    assert len(np.unique(masks[0])) > 20
    assert np.abs(masks[0] - masks[1]).max() <= 1


def test_an_exported_program_is_checked_not_probed(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unettile.exchange.foreign.measure_geometry", None)
    assert load_model(exported, trust=True).geometry == MODEL.geometry
    path = tmp_path / "net.pt2"
    path.write_bytes(exported.read_bytes())
    law = MODEL.geometry.to_dict()
    for wrong, message in (
        ({"margin": 1, "stride": 64, "base": 2}, "windows lose"),
        ({"stride": 1, "base": 0}, "does not take"),
        ({"margin": 5000}, "up to 4096 px"),
    ):
        path.with_suffix(".json").write_text(json.dumps({"geometry": law | wrong}))
        with pytest.raises(InputError, match=message):
            load_model(path, trust=True)


def test_a_declared_margin_that_is_too_narrow_is_refused(tmp_path: Path) -> None:
    network = torch.nn.Conv2d(1, 2, 9, padding=4).eval()
    auto = torch.export.Dim.AUTO
    program = torch.export.export(network, (torch.rand(2, 1, 24, 32),), dynamic_shapes=({0: auto, 2: auto, 3: auto},))
    torch.export.save(program, tmp_path / "net.pt2")
    said = tmp_path / "net.json"
    said.write_text(json.dumps({"geometry": {"margin": 2, "stride": 1, "base": 0}}))
    with pytest.raises(InputError, match="its tiles differ by"):
        load_model(tmp_path / "net.pt2", trust=True)
    said.write_text(json.dumps({"geometry": {"margin": 4, "stride": 1, "base": 0}}))
    assert load_model(tmp_path / "net.pt2", trust=True).geometry.margin == 4


def test_versions_of_the_exporter_that_do_not_fit_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def export(*_: object, **__: object) -> None:
        raise ValueError("The version conversion pass does not support functions.\nMore of it.")

    monkeypatch.setattr(torch.onnx, "export", export)
    monkeypatch.setattr("unettile.export._trace", lambda model, network: None)
    with pytest.raises(InputError, match=r"^torch \S+ and the installed onnxscript .* export a \.pt2$"):
        export_model(MODEL, tmp_path / "net.onnx", overwrite=False)
    assert not list(tmp_path.iterdir())


def test_other_endings_and_a_missing_library_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"need \.onnx, \.pt2"):
        export_model(MODEL, tmp_path / "net.pth", overwrite=False)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(InputError, match=r"unettile\[onnx\]"):
        export_model(MODEL, tmp_path / "net.onnx", overwrite=False)
    assert not list(tmp_path.iterdir())
