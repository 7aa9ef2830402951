"""Damaged and absurd models and images of other programs: ONNX, bioimage.io packages, CZI and LIF end in a line."""

from __future__ import annotations

import random
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.contracts.test_microscopes import write_czi, write_lif
from tests.exchange.packages import described, write
from tests.exchange.test_onnx import small
from tests.fuzz.conftest import Fuzz
from tests.fuzz.mutations import absurd_json, damaged
from tests.nd2s import write_nd2

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(600)]


def test_onnx(fuzz: Fuzz, tmp_path: Path) -> None:
    content = small(tmp_path / "small.onnx").read_bytes()

    def case(rng: random.Random, folder: Path) -> list[object]:
        path = folder / "net.onnx"
        path.write_bytes(damaged(rng, content))
        return ["models", path, "--json"]

    fuzz.each("ONNX", case)


@pytest.mark.parametrize("version", ["0.4.10", "0.5.3"])
def test_packages(fuzz: Fuzz, tmp_path: Path, version: str) -> None:
    """Descriptions with absurd values in them, which are YAML as JSON is; archives whose bytes are damaged."""
    whole = described(version, [{"zero_mean_unit_variance": {"axes": ["y", "x"]}}], [{"sigmoid": {}}], {})
    output = np.zeros((1, 3, 48, 64), np.float32)
    packed = write(tmp_path / "whole.zip", whole, output)

    def case(rng: random.Random, folder: Path) -> list[object]:
        path = folder / "package.zip"
        if rng.random() < 0.3:
            path.write_bytes(damaged(rng, packed.read_bytes(), 2**16))
            return ["models", path, "--check"]
        with zipfile.ZipFile(packed) as archive, zipfile.ZipFile(path, "w") as made:
            for name in archive.namelist():
                text = absurd_json(rng, whole).encode("utf-8", "replace") if name == "rdf.yaml" else archive.read(name)
                made.writestr(name, text)
        return ["models", path, "--check"]

    fuzz.each(f"package {version}", case)


@pytest.mark.parametrize("kind", ["czi", "lif", "nd2"])
def test_images_of_microscopes(fuzz: Fuzz, tmp_path: Path, kind: str) -> None:
    stack = np.random.default_rng(0).integers(0, 250, (1, 1, 1, 80, 90)).astype(np.uint16)
    path = tmp_path / f"whole.{kind}"
    if kind == "nd2":
        write_nd2(path, np.moveaxis(stack[0], 1, 3), "Z", ("a",))
    else:
        write_czi(path, stack) if kind == "czi" else write_lif(path, {"one": stack})
    content = path.read_bytes()

    def case(rng: random.Random, folder: Path) -> list[object]:
        path = folder / f"image.{kind}"
        path.write_bytes(damaged(rng, content, len(content)))
        return ["weights", path, "-o", folder / "out.tif"]

    fuzz.each(kind, case)
