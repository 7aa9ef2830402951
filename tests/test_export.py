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
from unettile.program import load_model
from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.segment import segment_image

BOUND = 2e-5
"""Times the largest logit: kernels sum in another order."""

MODEL = replace(
    make_checkpoint(widths=(2, 3)), normalization=Normalization(2, 99, signed=True), card={"licence": "MIT"}
)


def test_onnx_runtime_gives_our_logits_in_windows_of_any_size(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    path = tmp_path / "net.onnx"
    assert export_model(MODEL, path, overwrite=False) == [path]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert json.loads(session.get_modelmeta().custom_metadata_map["unettile"]) == json.loads(MODEL.header.to_json())
    edge = MODEL.geometry.input_edge(MODEL.geometry.smallest_output_edge(32))
    for shape in ((1, 1, edge, edge), (3, 1, edge + 4 * MODEL.geometry.stride, edge + MODEL.geometry.stride)):
        window = np.random.default_rng(0).random(shape, np.float32)
        with torch.inference_mode():
            ours = MODEL.build()(torch.from_numpy(window)).numpy()
        (theirs,) = session.run(["logits"], {"image": window})
        assert theirs.dtype == np.float32 and float(ours.std()) > 0
        np.testing.assert_allclose(theirs, ours, rtol=0, atol=BOUND * float(np.abs(ours).max()))
    kept = path.read_bytes()
    other = make_checkpoint(widths=(2, 3), seed=1)
    with pytest.raises(InputError, match="--overwrite"):
        export_model(other, path, overwrite=False)
    assert path.read_bytes() == kept and list(tmp_path.iterdir()) == [path]


def test_the_exported_program_makes_the_same_mask(tmp_path: Path) -> None:
    assert len(export_model(MODEL, tmp_path / "net.pt2", overwrite=False)) == 2
    program = load_model(tmp_path / "net.pt2", trust=True)
    assert program.geometry == MODEL.geometry and program.normalization == MODEL.normalization
    assert [info.name for info in program.classes] == ["class 0", "class 1"] and program.card == {"licence": "MIT"}
    tifffile.imwrite(tmp_path / "image.tif", make_pixels(90, 70))
    masks = []
    for model in (MODEL, program):
        options = SegmentOptions(("classes",), 32)
        segment_image(
            tmp_path / "image.tif", tmp_path / "mask.tif", Predictor(model, "cpu", "fp32"), options, overwrite=True
        )
        masks.append(tifffile.imread(tmp_path / "mask.tif"))
    assert len(np.unique(masks[0])) == 2
    np.testing.assert_array_equal(masks[1], masks[0])


def test_other_endings_and_a_missing_library_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"need one of \.onnx, \.pt2"):
        export_model(MODEL, tmp_path / "net.pth", overwrite=False)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(InputError, match=r"unettile\[onnx\]"):
        export_model(MODEL, tmp_path / "net.onnx", overwrite=False)
    assert not list(tmp_path.iterdir())
