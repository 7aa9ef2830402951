"""Fixtures of the tests that need a GPU."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
import tifffile
import torch

from tests.narrow import make_pixels
from tests.training.conftest import data

__all__ = ["data"]


@pytest.fixture(autouse=True)
def clean_gpu() -> Iterator[None]:
    """Skip without a GPU; leave no memory taken, and no limit, to the next test."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    torch.cuda.synchronize()
    gc.collect()  # a predictor and its lanes know each other
    torch.cuda.empty_cache()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A grey TIFF of 700 × 905 px."""
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, make_pixels(700, 905), tile=(128, 128))
    return path
