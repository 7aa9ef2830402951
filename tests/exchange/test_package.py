"""Packages of bioimage.io: what they describe is what is computed, and nothing of them leaves or runs."""

from __future__ import annotations

import io
import stat
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml

pytest.importorskip("onnxruntime")

from tests.exchange.packages import computed, described, given, sigmoid, validated, write
from tests.exchange.test_onnx import small
from tests.exchange.test_torchscript import script
from unettile.errors import InputError, UsageError
from unettile.geometry import Geometry
from unettile.inference.predict import Predictor
from unettile.program import check_model, load_model
from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.segment import segment_image


def standardized(axes: tuple[int, ...]) -> Any:
    x = given().astype(np.float64)
    return (x - x.mean(axes, keepdims=True)) / (x.std(axes, keepdims=True) + 1e-6)


def ranged(low: float, high: float) -> Any:
    x = given().astype(np.float64)
    ends = np.percentile(x, [low, high])
    return (x - ends[0]) / (ends[1] - ends[0] + 1e-6)


def softmax(x: Any) -> Any:
    e = np.exp(x.astype(np.float64) - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


ZMUV4 = {"zero_mean_unit_variance": {"mode": "per_sample", "axes": "xy"}}
ZMUV5 = {"zero_mean_unit_variance": {"axes": ["channel", "y", "x"]}}
RANGE5 = {"scale_range": {"min_percentile": 2, "max_percentile": 98, "axes": ["channel", "y", "x"]}}
FIXED4 = {"zero_mean_unit_variance": {"mode": "fixed", "axes": "xy", "mean": [80, 40, 150], "std": [60, 30, 100]}}
HALF = {"scale_linear": {"gain": 0.5, "offset": -3}}
CASES = {
    "0.4, by channel, sigmoid": ("0.4.10", [ZMUV4], [{"sigmoid": {}}], standardized((2, 3)), sigmoid),
    "0.5, all channels, softmax": (
        "0.5.3",
        [ZMUV5],
        [{"softmax": {"axis": "channel"}}],
        standardized((1, 2, 3)),
        softmax,
    ),
    "0.5, percentiles, clip": (
        "0.5.3",
        [RANGE5, {"clip": {"min": 0, "max": 1}}],
        [{"sigmoid": {}}],
        ranged(2, 98).clip(0, 1),
        sigmoid,
    ),
    "0.4, fixed": (
        "0.4.10",
        [FIXED4],
        [{"sigmoid": {}}],
        (given() - np.float32([80, 40, 150])[:, None, None]) / np.float32([60, 30, 100])[:, None, None],
        sigmoid,
    ),
    "0.4, linear and binarize": (
        "0.4.10",
        [{"scale_linear": {"gain": 0.01, "offset": -0.5}}],
        [HALF, {"binarize": {"threshold": 0.2}}],
        given() * 0.01 - 0.5,
        lambda y: (y * 0.5 - 3 > 0.2).astype(float),
    ),
    "0.5, linear, then measured": ("0.5.3", [HALF, ZMUV5], [{"sigmoid": {}}], standardized((1, 2, 3)), sigmoid),
}


@pytest.mark.parametrize(("version", "before", "after", "window", "end"), CASES.values(), ids=CASES.keys())
def test_its_own_test_is_passed_and_a_wrong_one_is_not(
    version: str, before: list[Any], after: list[Any], window: Any, end: Any, tmp_path: Path
) -> None:
    wanted = end(computed(small(tmp_path / "net.onnx"), window))
    assert np.unique(wanted).size > 1
    path = write(tmp_path / "package.zip", described(version, before, after, {}), wanted)
    assert check_model(path).passed
    wanted[0, 0, 10:14] = 1 - wanted[0, 0, 10:14]
    path = write(tmp_path / "wrong.zip", described(version, before, after, {}), wanted)
    assert not check_model(path).passed


def test_what_the_format_leaves_out_has_its_default(tmp_path: Path) -> None:
    """The second axis of space is x, times are times, and infinite ranges are none."""
    description = described("0.5.3", [{"ensure_dtype": {"dtype": "float32"}}, ZMUV5], [{"softmax": {}}], {})
    for tensor in (*description["inputs"], *description["outputs"]):
        assert tensor["axes"][-1].pop("id") == "x"
    path = write(tmp_path / "package", description, None)
    text = (path / "rdf.yaml").read_text()
    (path / "rdf.yaml").write_text("%YAML 1.2\n---\n" + text + "timestamp: 2019-12-11T12:22:32Z\nspan: [-.inf, .inf]\n")
    assert load_model(path).geometry == Geometry(margin=6, stride=2, base=0)


@pytest.mark.parametrize("case", ["0.4, by channel, sigmoid", "0.5, percentiles, clip", "0.5, all channels, softmax"])
def test_the_packages_of_these_tests_are_valid(case: str, tmp_path: Path) -> None:
    version, before, after, window, end = CASES[case]
    wanted = end(computed(small(tmp_path / "net.onnx"), window))
    folder = write(tmp_path / "package", described(version, before, after, {}), wanted)
    assert validated(folder / "rdf.yaml") == []


def test_a_zip_and_its_folder_are_one_model_and_tiles_agree(tmp_path: Path) -> None:
    description = described("0.5.3", [ZMUV5], [{"softmax": {}}], {})
    model = load_model(write(tmp_path / "package.zip", description, None))
    assert model.geometry == Geometry(margin=6, stride=2, base=0)  # the halo of the description does not count
    assert [info.name for info in model.classes] == ["ground", "leaf", "stem"]
    assert model.card["licence"] == "CC0-1.0" and model.card["output"] == "softmax of exclusive classes"
    folder = write(tmp_path / "package", description, None)
    assert load_model(folder).sha256 == load_model(folder / "rdf.yaml").sha256 == model.sha256
    image = tmp_path / "image.tif"
    tifffile.imwrite(image, np.random.default_rng(0).integers(0, 256, (90, 70, 3), np.uint8), photometric="rgb")
    predictor, masks = Predictor(model, "cpu"), []
    for edge, batch in ((90, 1), (32, 2)):
        options = SegmentOptions(("probabilities",), edge, batch)
        segment_image(image, tmp_path / "mask.tif", predictor, options, overwrite=True)
        masks.append(tifffile.imread(tmp_path / "mask.tif"))
    assert len(np.unique(masks[0])) > 50
    np.testing.assert_array_equal(masks[0], masks[1])
    with pytest.raises(UsageError, match="--skip-background"):
        segment_image(image, tmp_path / "mask.tif", predictor, SegmentOptions(skip_background=True), overwrite=True)


def test_classes_that_do_not_exclude_each_other_get_a_background(tmp_path: Path) -> None:
    for after, output in (([{"sigmoid": {}}], None), ([], sigmoid(np.zeros((1, 3, 48, 64))))):
        path = write(tmp_path / f"{len(after)}.zip", described("0.5.3", [], after, {}), output)
        assert [info.name for info in load_model(path).classes] == ["background", "ground", "leaf", "stem"]
    with pytest.raises(InputError, match=r"reaches from 0 to 9: need sigmoid or softmax"):
        load_model(
            write(
                tmp_path / "x.zip",
                described("0.5.3", [], [], {}),
                np.eye(48, 64)[None, None] * 9 + np.zeros((1, 3, 1, 1)),
            )
        )


Z = [
    {"type": "batch"},
    {"type": "channel", "channel_names": ["a"]},
    *({"type": "space", "id": i, "size": 16} for i in "zyx"),
]
REFUSED: dict[str, tuple[str, list[Any], list[Any], dict[str, Any], str]] = {
    "z": ("0.5.3", [], [{"sigmoid": {}}], {"outputs": [{"id": "out", "axes": Z}]}, "need y, x, batch and channel"),
    "data set": ("0.4.10", [{"scale_range": {"mode": "per_dataset", "axes": "xy"}}], [], {}, "from a whole data set"),
    "unknown": ("0.5.3", [{"wavelet": {}}], [], {}, "operation wavelet is not known here"),
    "late": ("0.5.3", [{"sigmoid": {}}, ZMUV5], [], {}, "need what is measured first"),
    "one axis": ("0.5.3", [{"scale_range": {"axes": ["x"]}}], [], {}, "need both axes"),
    "images": ("0.5.3", [], [RANGE5], {}, "makes images, not classes"),
    "two": ("0.5.3", [], [], {"inputs": []}, "0 inputs"),
    "no weights": (
        "0.5.3",
        [],
        [{"sigmoid": {}}],
        {"weights": {"keras_hdf5": {"source": "w.h5"}}},
        "keras_hdf5.*need onnx",
    ),
    "script": ("0.5.3", [], [{"sigmoid": {}}], {"weights": {"torchscript": {"source": "w.pt"}}}, "give --trust"),
    "newer": ("0.6.0", [], [], {}, "need a model of 0.4 or 0.5"),
    "elsewhere": (
        "0.5.3",
        [],
        [{"sigmoid": {}}],
        {"weights": {"onnx": {"source": "https://example.org/w.onnx"}}},
        "none of its own: get the whole package",
    ),
    "above": ("0.5.3", [], [{"sigmoid": {}}], {"weights": {"onnx": {"source": "../weights.onnx"}}}, "none of its own"),
    "threshold": ("0.5.3", [], [{"sigmoid": {}}, {"binarize": {"threshold": 2}}], {}, "is no probability"),
}


@pytest.mark.parametrize(("version", "before", "after", "more", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_not_supported_is_named_in_a_line(
    version: str, before: list[Any], after: list[Any], more: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "package.zip", described(version, before, after, more), None)
    with pytest.raises(InputError, match=message) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)


def test_weights_that_are_not_those_described_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "package", described("0.5.3", [], [{"sigmoid": {}}], {}), None)
    data = (folder / "weights.onnx").read_bytes()
    (folder / "weights.onnx").write_bytes(data + b"\0")
    with pytest.raises(InputError, match="not what the description says"):
        load_model(folder)
    (tmp_path / "outside.onnx").write_bytes(data)
    (folder / "weights.onnx").unlink()
    (folder / "weights.onnx").symlink_to(tmp_path / "outside.onnx")
    with pytest.raises(InputError, match="a link in the place of"):
        load_model(folder)
    with pytest.raises(InputError, match="no test input and output"):
        check_model(
            write(
                tmp_path / "p.zip",
                described(
                    "0.5.3",
                    [],
                    [{"sigmoid": {}}],
                    {"outputs": [{"id": "o", "axes": list("bcyx"), "postprocessing": [{"id": "sigmoid"}]}]},
                ),
                None,
            )
        )


def test_torchscript_in_a_package_is_trusted_or_refused(tmp_path: Path) -> None:
    import torch

    description = described("0.4.10", [ZMUV4], [{"sigmoid": {}}], {"weights": {"torchscript": {"source": "net.pt"}}})
    torch.manual_seed(0)
    network = torch.nn.Conv2d(3, 2, 3, padding=1)
    with torch.inference_mode():
        raw = network(torch.from_numpy(standardized((2, 3)).astype(np.float32))).numpy()
    folder = write(tmp_path / "package", description, sigmoid(raw))
    script(folder / "net.pt", network)
    with pytest.raises(InputError, match="--trust"):
        load_model(folder)
    assert check_model(folder, trust=True).passed
    assert load_model(folder, trust=True).geometry == Geometry(margin=1, stride=1, base=0)


def test_archives_that_are_no_packages_are_refused(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rdf.yaml", b"type: model")
        for number in range(40):
            archive.writestr(f"{number}.npy", bytes(2**24) if number == 0 else bytes(2**20))
    link = zipfile.ZipInfo("weights.onnx")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    for name, entry, message in (
        ("up.zip", zipfile.ZipInfo("../up.onnx"), "a name that leaves it"),
        ("root.zip", zipfile.ZipInfo("/root.onnx"), "a name that leaves it"),
        ("link.zip", link, "a link"),
        ("none.zip", zipfile.ZipInfo("weights.onnx"), "no bioimage.io package"),
    ):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr(entry, b"x")
        with pytest.raises(InputError, match=message):
            load_model(tmp_path / name)
    (tmp_path / "cut.zip").write_bytes(bomb.read_bytes()[:-30])
    for path, message in (
        (tmp_path / "cut.zip", "cannot be read as a package"),
        (bomb, r"as none is|does not describe"),
    ):
        with pytest.raises(InputError, match=message):
            load_model(path)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff\xfe\x00",
        b"[1, 2",
        b"type: model",
        b"a: &a [1, *a]",
        b"!!python/object/apply:os.system ['true']",
        b"".join(b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 9) if n else b"1") for n in range(12)),
        yaml.safe_dump(
            {"type": "model", "format_version": "0.5.3", "inputs": [3], "outputs": [], "weights": {}}
        ).encode(),
    ],
)
def test_descriptions_that_cannot_be_meant_are_refused_in_a_line(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "rdf.yaml").write_bytes(text)
    with pytest.raises(InputError, match=r"does not describe a model|need one image") as caught:
        load_model(tmp_path)
    assert "\n" not in str(caught.value)


def test_tests_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "package", described("0.5.3", [], [], {}), np.zeros((1, 3, 48, 64)))
    stream = io.BytesIO()
    np.save(stream, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    huge = (
        b"\x93NUMPY\x01\x00v\x00"
        + b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3, 1000000, 1000000), }".ljust(117)
        + b"\n"
    )
    for data in (b"", b"\x93NUMPY", stream.getvalue(), huge):
        (folder / "output.npy").write_bytes(data)
        with pytest.raises(InputError, match="no array of numbers"):
            load_model(folder)
