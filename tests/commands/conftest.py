"""What the tests of several devices share: a model, an image and its mask, and processes that are seen."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.commands.standins import PROGRAM
from tests.conftest import ROOT
from tests.scenarios.conftest import cli, make_model, make_pixels
from unettile.cli import run
from unettile.commands import gpus
from unettile.segmentation.run.directory import RunDirectory
from unettile.tiling import Block

__all__ = ["cli"]

FIRST = 4
"""Blocks of 9 that the first of two processes has; the first block of the other one has this number."""

Started = list[subprocess.Popen[bytes]]


@pytest.fixture(scope="session")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, an image of 9 blocks, and its mask by one device."""
    place = tmp_path_factory.mktemp("given")
    make_model(place / "model.safetensors", 1)
    tifffile.imwrite(place / "image.tif", make_pixels(190, 180))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unettile.tiling.BLOCK_EDGE", 64)
        assert run(words(place, place / "image.tif", place / "mask.tif", "--device", "cpu", "--quiet")) == 0
    return place


def words(given: Path, image: Path, out: Path, *more: str) -> list[str]:
    """Return the words of a command."""
    return ["segment", str(image), "-m", str(given / "model.safetensors"), "-o", str(out), "--tile", "68", *more]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    """The processes that this one has started, of a machine that has two stand-ins for GPUs."""
    found: Started = []
    popen = subprocess.Popen

    def noting(*arguments: object, **options: object) -> subprocess.Popen[bytes]:
        found.append(popen(*arguments, **options))  # type: ignore[call-overload]
        return found[-1]

    monkeypatch.setattr(gpus.subprocess, "Popen", noting)
    monkeypatch.setattr(gpus, "program_words", lambda: PROGRAM)
    monkeypatch.setattr("unettile.devices.list_cuda", lambda: ("cpu", "cpu"))
    monkeypatch.setattr("unettile.tiling.BLOCK_EDGE", 64)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    return found


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The blocks that this process has computed."""
    found: list[int] = []
    write = RunDirectory.write_block

    def noting(self: RunDirectory, block: Block, pixels: np.ndarray) -> None:
        found.append(block.index)
        write(self, block, pixels)

    monkeypatch.setattr(RunDirectory, "write_block", noting)
    return found
