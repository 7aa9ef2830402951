"""What the tests of segmentation share: a narrow network, and an image small enough to segment many times."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from tests.narrow import make_checkpoint, make_pixels
from unettile.inference.predict import Predictor


@pytest.fixture(scope="session")
def predictor() -> Predictor:
    """A network of two levels, margin 8 px, stride 2 px: what is tested with it does not depend on its depth."""
    return Predictor(make_checkpoint(widths=(2, 3)), "cpu", "fp32")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A grey TIFF of 211 × 307 px."""
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, make_pixels(211, 307))
    return path


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches that were computed; all tile by tile."""
    sizes: list[int] = []
    planes = Predictor.planes

    def counting(self: Predictor, kinds: tuple[str, ...], windows: NDArray[np.float32]) -> NDArray[np.uint8]:
        sizes.append(len(windows))
        return planes(self, kinds, windows)

    monkeypatch.setattr(Predictor, "planes", counting)
    monkeypatch.setattr(Predictor, "by_rows", lambda *arguments: None)
    return sizes
