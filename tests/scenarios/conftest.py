"""What the scenarios share: the command line in this process, models of random parameters, small images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from unettile.checkpoint import Checkpoint, ClassInfo, save_checkpoint
from unettile.cli import run
from unettile.images.normalize import Normalization
from unettile.networks import config_values
from unettile.networks.unet import UNet, UNetConfig

WIDTHS = (2, 4, 4, 8, 8)


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


Cli = Callable[..., Done]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run a command in this process."""

    def call(*arguments: object) -> Done:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        shown = capsys.readouterr()
        return Done(code, shown.out, shown.err)

    return call


def make_model(path: Path, channels: int, seed: int = 0) -> Path:
    """Save a narrow U-Net of random parameters, the classes about as likely as each other."""
    config = UNetConfig(channels, 2, WIDTHS)
    torch.manual_seed(seed)
    network = UNet(config)
    with torch.no_grad():  # centre the logits: a mask of one class would hide a misplaced tile
        logits = network(torch.rand(1, channels, 284, 284))
        network.head.bias -= logits.mean(dim=(0, 2, 3))
    classes = (ClassInfo("background", (0, 0, 0)), ClassInfo("cell", (255, 200, 0)))
    parameters = dict(network.state_dict())
    checkpoint = Checkpoint(
        "unet",
        config_values(config),
        config.geometry,
        Normalization(),
        classes,
        parameters,
        card={"licence": "CC0-1.0"},
    )
    save_checkpoint(checkpoint, path)
    return path


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model for images of one channel."""
    return make_model(tmp_path_factory.mktemp("model") / "tiny.safetensors", 1)


@pytest.fixture(scope="session")
def rgb_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model for images of three channels."""
    return make_model(tmp_path_factory.mktemp("model") / "tiny_rgb.safetensors", 3)


def make_pixels(height: int, width: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Return uint8 noise on a slope, (H, W) or (H, W, C)."""
    shape = (height, width) if channels == 1 else (height, width, channels)
    noise = np.random.default_rng(seed).integers(0, 128, shape)
    slope = np.linspace(0, 127, width)
    return (noise + (slope if channels == 1 else slope[:, None])).astype(np.uint8)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A grey TIFF of 150 × 170 px."""
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, make_pixels(150, 170))
    return path
