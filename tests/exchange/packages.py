"""Packages of bioimage.io around a small ONNX network, of both formats, and what they should say."""

from __future__ import annotations

import hashlib
import io
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import yaml
from numpy.typing import NDArray

from tests.exchange.test_onnx import small

SHAPE = (1, 3, 48, 64)


def given() -> NDArray[np.float32]:
    """Return a test input, of unlike channels."""
    rng = np.random.default_rng(5)
    return np.float32(rng.integers(0, 200, SHAPE) * np.float32([1, 0.5, 2])[:, None, None] + 10)


def computed(path: Path, window: NDArray[Any]) -> NDArray[np.float32]:
    """Return what the network says of scaled windows."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    result: NDArray[np.float32] = session.run(["out"], {"image": window.astype(np.float32)})[0]
    return result


def sigmoid(x: NDArray[Any]) -> NDArray[Any]:
    return 1 / (1 + np.exp(-x.astype(np.float64)))


def _operations(key: str, given: list[Any]) -> list[dict[str, Any]]:
    pairs = [pair for one in given for pair in one.items()]
    return [{key: name, "kwargs": kwargs} if kwargs else {key: name} for name, kwargs in pairs]


def described(format_version: str, before: list[Any], after: list[Any], more: dict[str, Any]) -> dict[str, Any]:
    """Return a description; operations as {name: kwargs}."""
    common = {
        "type": "model",
        "format_version": format_version,
        "name": "small network",
        "description": "three classes of noise",
        "authors": [{"name": "A. Tester"}],
        "license": "CC0-1.0",
        "documentation": "README.md",
        "cite": [{"text": "nobody", "doi": "10.1007/978-3-319-24574-4_28"}],
    }
    weights = {"onnx": {"source": "weights.onnx", "opset_version": 17}}
    if format_version.startswith("0.4"):
        image = {
            "name": "image",
            "axes": "bcyx",
            "data_type": "float32",
            "shape": {"min": [1, 3, 16, 16], "step": [0, 0, 2, 2]},
        }
        out = {
            "name": "out",
            "axes": "bcyx",
            "data_type": "float32",
            "halo": [0, 0, 6, 6],
            "shape": {"reference_tensor": "image", "scale": [1, 1, 1, 1], "offset": [0, 0, 0, 0]},
        }
        image["preprocessing"] = _operations("name", before)
        out["postprocessing"] = _operations("name", after)
        tests = {"test_inputs": ["input.npy"], "test_outputs": ["output.npy"], "timestamp": "2026-01-01T00:00:00"}
        return {**common, **tests, "inputs": [image], "outputs": [out], "weights": weights, "covers": [], **more}
    space = [{"type": "space", "id": name, "size": {"min": 16, "step": 2}} for name in "yx"]
    seen = [{"type": "space", "id": name, "size": {"tensor_id": "image", "axis_id": name}, "halo": 6} for name in "yx"]
    image = {
        "id": "image",
        "axes": [{"type": "batch"}, {"type": "channel", "channel_names": ["r", "g", "b"]}, *space],
        "test_tensor": {"source": "input.npy"},
        "preprocessing": _operations("id", before),
    }
    out = {
        "id": "out",
        "axes": [{"type": "batch"}, {"type": "channel", "channel_names": ["ground", "leaf", "stem"]}, *seen],
        "test_tensor": {"source": "output.npy"},
        "postprocessing": _operations("id", after),
    }
    return {**common, "inputs": [image], "outputs": [out], "weights": weights, **more}


def write(
    path: Path, description: dict[str, Any], output: NDArray[Any] | None, window: NDArray[Any] | None = None
) -> Path:
    """Write a package: a zip, or a folder where the name has no ending."""
    network = small(path.parent / "weights.onnx").read_bytes()
    description["weights"].get("onnx", {})["sha256"] = hashlib.sha256(network).hexdigest()
    files = {"rdf.yaml": yaml.safe_dump(description).encode(), "weights.onnx": network, "README.md": b"# Small\n"}
    for name, values in (("input.npy", given() if window is None else window), ("output.npy", output)):
        if values is not None:
            stream = io.BytesIO()
            np.save(stream, values.astype(np.float32))
            files[name] = stream.getvalue()
    if path.suffix:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
    else:
        path.mkdir()
        for name, data in files.items():
            (path / name).write_bytes(data)
    return path


def validated(path: Path) -> list[str]:
    """Return what the official validator has against a description, in its own format; nothing is downloaded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import bioimageio.spec

        found = bioimageio.spec.load_description(path, format_version="discover")
    errors = [f"{error.loc}: {error.msg}" for detail in found.validation_summary.details for error in detail.errors]
    return errors + (["invalid"] if isinstance(found, bioimageio.spec.InvalidDescr) else [])
