"""Fixtures of the tests that need a GPU."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tifffile
import torch

from tests.narrow import make_pixels
from tests.training.conftest import data

__all__ = ["data"]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Tell of a failure as soon as it is there: what a GPU was lent for may be over before the last test."""
    if report.failed and "gpu" in report.keywords:
        sys.stderr.write(f"\n{report.nodeid}, {report.when}\n{report.longreprtext}\n")
        sys.stderr.flush()


@pytest.fixture(autouse=True)
def clean_gpu(request: pytest.FixtureRequest) -> Iterator[None]:
    """Skip without a GPU; leave no memory taken, and no limit, to the next test."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)
    try:
        torch.cuda.synchronize()
    except RuntimeError as error:  # of a kernel; each call would fail from now on
        pytest.exit(f"{request.node.nodeid} has lost the GPU for this process: {str(error).splitlines()[0]}", 1)
    gc.collect()  # a predictor and its lanes know each other
    torch.cuda.empty_cache()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A grey TIFF of 700 × 905 px."""
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, make_pixels(700, 905), tile=(128, 128))
    return path
