"""ONNX models of strangers: measured, segmented like any model, and nothing of theirs but arithmetic is done."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray

from unettile.cli import run
from unettile.errors import InputError, UsageError
from unettile.geometry import Geometry
from unettile.inference.predict import Predictor
from unettile.program import load_model
from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.segment import segment_image

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

FREE = ["n", 3, "h", "w"]


def small(path: Path, shape: list[str | int] = FREE, dtype: int = TensorProto.FLOAT, domain: str = "") -> Path:
    """Write a network that pools, looks around on half the size and comes back; three classes."""
    rng = np.random.default_rng(0)
    weights = {
        "a": rng.normal(size=(4, 3, 3, 3)),
        "b": rng.normal(size=(4, 4, 3, 3)),
        "c": rng.normal(size=(3, 8, 3, 3)),
    }
    same = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["image", "a"], ["first"], **same),
        helper.make_node("Relu", ["first"], ["top"]),
        helper.make_node("MaxPool", ["top"], ["low"], kernel_shape=[2, 2], strides=[2, 2], domain=domain),
        helper.make_node("Conv", ["low", "b"], ["below"], **same),
        helper.make_node("Resize", ["below", "", "twice"], ["up"], mode="nearest"),
        helper.make_node("Concat", ["top", "up"], ["both"], axis=1),
        helper.make_node("Conv", ["both", "c"], ["out"], **same),
    ]
    data = [numpy_helper.from_array(values.astype(np.float32), name) for name, values in weights.items()]
    data.append(numpy_helper.from_array(np.float32([1, 1, 2, 2]), "twice"))
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", dtype, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        data,
    )
    opsets = [helper.make_opsetid("", 17)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString())
    return path


def masks(path: Path, folder: Path, tiles: tuple[tuple[int, int], ...]) -> list[NDArray[np.uint8]]:
    image = folder / "image.tif"
    tifffile.imwrite(image, np.random.default_rng(0).integers(0, 256, (150, 110, 3), np.uint8), photometric="rgb")
    predictor, found = Predictor(load_model(path), "cpu"), []
    for edge, batch in tiles:
        options = SegmentOptions(("probabilities",), edge, batch)
        segment_image(image, folder / "mask.tif", predictor, options, overwrite=True)
        found.append(tifffile.imread(folder / "mask.tif"))
    return found


def test_its_geometry_is_measured_though_runtimes_lose_nan_in_maxima(tmp_path: Path) -> None:
    model = load_model(small(tmp_path / "net.onnx"))
    assert model.geometry == Geometry(margin=6, stride=2, base=0) and model.difference is None
    assert model.receptive_field == 10 and model.in_channels == 3 and len(model.classes) == 3
    assert sum(tensor.numel() for tensor in model.parameters.values()) > 400


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_the_mask_does_not_depend_on_tiles_batches_and_threads(tmp_path: Path, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        first, *others = masks(small(tmp_path / "net.onnx"), tmp_path, ((150, 1), (32, 3), (48, 1)))
    finally:
        torch.set_num_threads(before)
    assert len(np.unique(first)) > 100
    for other in others:
        np.testing.assert_array_equal(other, first)


def test_a_stated_size_is_dropped_where_the_network_takes_others(tmp_path: Path) -> None:
    free = load_model(small(tmp_path / "free.onnx"))
    fixed = load_model(small(tmp_path / "fixed.onnx", [1, 3, 64, 48]))
    assert fixed.geometry == free.geometry and fixed.receptive_field == free.receptive_field
    model = onnx.load(tmp_path / "fixed.onnx")
    model.graph.initializer.append(numpy_helper.from_array(np.int64([1, 3, 64, 48]), "shape"))
    model.graph.node.insert(0, helper.make_node("Reshape", ["image", "shape"], ["shaped"]))
    model.graph.node[1].input[0] = "shaped"
    onnx.save(model, tmp_path / "shaped.onnx")
    with pytest.raises(InputError, match="64 px × 48 px alone: export it for any size") as caught:
        load_model(tmp_path / "shaped.onnx")
    assert "\n" not in str(caught.value)


def test_it_computes_in_float32_on_devices_of_its_runtime(tmp_path: Path) -> None:
    model = load_model(small(tmp_path / "net.onnx"))
    with pytest.raises(UsageError, match="computes in fp32"):
        Predictor(model, "cpu", "bf16")
    with pytest.raises(UsageError, match="onnxruntime-gpu"):
        Predictor(model, "cuda")
    assert Predictor(model).device.type == "cpu"
    costs = [model.module.window_cost(3, edge) for edge in (64, 128)]  # type: ignore[union-attr, operator]
    assert costs[1].flops == 4 * costs[0].flops > 0 and costs[1].peak_bytes == 4 * costs[0].peak_bytes
    assert costs[0].flops == 2 * 64 * 64 * 9 * (3 * 4 + 8 * 3) + 2 * 32 * 32 * 9 * 16


def test_what_stands_beside_it_is_used_and_decides_its_hash(tmp_path: Path) -> None:
    path = small(tmp_path / "net.onnx")
    plain = load_model(path)
    path.with_suffix(".json").write_text(json.dumps({"classes": ["ground", "leaf", "stem"], "intensities": [0, 255]}))
    model = load_model(path)
    assert [info.name for info in model.classes] == ["ground", "leaf", "stem"] and model.sha256 != plain.sha256


def test_data_beside_it_are_read_in_its_folder_alone(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = small(folder / "net.onnx")
    plain = load_model(path)
    model = onnx.load(path)
    onnx.save_model(model, path, save_as_external_data=True, location="net.bin", size_threshold=0)
    again = load_model(path)
    assert set(again.parameters) == set(plain.parameters)
    for name, tensor in plain.parameters.items():
        torch.testing.assert_close(again.parameters[name], tensor, rtol=0, atol=0)
    data = folder / "net.bin"
    data.rename(tmp_path / "net.bin")
    with pytest.raises(InputError, match=r"needs the file .net\.bin. beside it"):
        load_model(path)
    data.symlink_to(tmp_path / "net.bin")
    with pytest.raises(InputError, match="no link"):
        load_model(path)
    for place in ("../net.bin", str(tmp_path / "net.bin"), ""):
        for tensor in (changed := onnx.load(path, load_external_data=False)).graph.initializer:
            next(entry for entry in tensor.external_data if entry.key == "location").value = place
        path.write_bytes(changed.SerializeToString())
        with pytest.raises(InputError, match="in its own folder"):
            load_model(path)


@pytest.mark.parametrize(
    ("shape", "dtype", "domain", "message"),
    [
        (FREE, TensorProto.FLOAT, "evil.ops", "libraries of operators are not loaded"),
        (FREE, TensorProto.FLOAT16, "", "of type float16: need float"),
        ([2, 3, "h", "w"], TensorProto.FLOAT, "", "2 windows at once"),
        (["n", "c", "h", "w"], TensorProto.FLOAT, "", r'say it in net\.json: {"channels": 3}'),
        (["n", 3, "w"], TensorProto.FLOAT, "", "of 3 axes"),
    ],
)
def test_what_cannot_be_run_is_refused_in_a_line(
    tmp_path: Path, shape: list[str | int], dtype: int, domain: str, message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load_model(small(tmp_path / "net.onnx", shape, dtype, domain))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e38])
def test_a_network_of_no_numbers_is_refused_by_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], value: float
) -> None:
    path = small(tmp_path / "net.onnx")
    damaged = onnx.load(path)
    (last,) = (tensor for tensor in damaged.graph.initializer if tensor.name == "c")
    last.CopyFrom(numpy_helper.from_array(np.full((3, 8, 3, 3), value, np.float32), "c"))
    path.write_bytes(damaged.SerializeToString())
    assert run(["models", str(path), "--json"]) == InputError.exit_code
    (line,) = capsys.readouterr().err.splitlines()
    assert "no network that can be tiled" in line


def test_without_its_runtime_a_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "unettile.exchange.onnxmodel", None)
    with pytest.raises(InputError, match=r"pip install 'unettile\[onnx\]'"):
        load_model(small(tmp_path / "net.onnx"))


def test_damaged_files_are_refused_in_a_line(tmp_path: Path) -> None:
    path = small(tmp_path / "net.onnx")
    data = path.read_bytes()
    for cut in (0, 1, 40, len(data) // 2, len(data) - 3):
        path.write_bytes(data[:cut])
        with pytest.raises(InputError) as caught:
            load_model(path)
        assert "\n" not in str(caught.value)
