"""What the tests of the Python API share: a narrow model in a file, loaded once, and images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

import unettile
from tests.narrow import make_checkpoint, make_pixels
from unettile.checkpoint import save_checkpoint


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of two levels for images of one channel."""
    path = tmp_path_factory.mktemp("model") / "narrow.safetensors"
    save_checkpoint(make_checkpoint(widths=(2, 3)), path)
    return path


@pytest.fixture(scope="session")
def rgb_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for images of three channels."""
    path = tmp_path_factory.mktemp("model") / "rgb.safetensors"
    save_checkpoint(make_checkpoint(channels=3, widths=(2, 3)), path)
    return path


@pytest.fixture(scope="session")
def model(model_file: Path) -> unettile.Model:
    return unettile.load(model_file, device="cpu", precision="fp32")


@pytest.fixture(scope="session")
def rgb_model(rgb_file: Path) -> unettile.Model:
    return unettile.load(rgb_file, device="cpu", precision="fp32")


@pytest.fixture
def pixels() -> NDArray[np.uint8]:
    """A grey image of more than one tile of 512 px, so that masks have a pyramid."""
    return make_pixels(211, 607)


@pytest.fixture
def image_file(tmp_path: Path, pixels: NDArray[np.uint8]) -> Path:
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, pixels)
    return path
