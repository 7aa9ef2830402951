"""Fixtures of the training tests."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pytest


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Six images of bright discs on a dark, noisy ground, with their instance ids; two discs touch."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:70, :90]
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    for index in range(6):
        labels = np.zeros((70, 90), np.uint8)
        centres = [(20, 20), (20, 41), *rng.uniform((45, 10), (60, 80), (2, 2))]
        for number, (cy, cx) in enumerate(centres, start=1):
            labels[(y - cy) ** 2 + (x - cx) ** 2 < 10.6**2] = number
        image = np.clip(40 + 120 * (labels > 0) + rng.normal(0, 15, labels.shape), 0, 255).astype(np.uint8)
        (tmp_path / "images" / f"{index}.png").write_bytes(imagecodecs.png_encode(image))
        (tmp_path / "labels" / f"{index}.png").write_bytes(imagecodecs.png_encode(labels))
    return tmp_path
