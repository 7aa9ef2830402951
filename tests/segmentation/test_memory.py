"""Memory: what is read and written at once has the size of a block, whatever the image's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray

import unettile.segmentation.windows
import unettile.tiling
from unettile.box import Box
from unettile.images.mirror import read_mirrored
from unettile.images.slide import Slide
from unettile.segmentation.memory import estimate_memory
from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.planning import plan_image
from unettile.segmentation.predict import Predictor
from unettile.segmentation.segment import segment_image


def test_reads_are_those_of_a_block_and_its_margin(
    tmp_path: Path, image: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unettile.tiling, "BLOCK_EDGE", 64)
    boxes: list[Box] = []

    def record(slide: Slide, box: Box) -> NDArray[Any]:
        boxes.append(box)
        return read_mirrored(slide, box)

    monkeypatch.setattr(unettile.segmentation.windows, "read_mirrored", record)
    segment_image(image, tmp_path / "mask.tif", predictor, SegmentOptions(output_edge=32))
    assert len(boxes) == 20
    assert max(max(box.shape) for box in boxes) == 64 + 2 * predictor.geometry.margin


def test_the_estimate_grows_with_windows_and_not_with_the_image(image: Path, predictor: Predictor) -> None:
    plan = plan_image(image, predictor, SegmentOptions(output_edge=388))
    large = replace(plan, shape=(13_000, 12_000), block_edge=3072)
    larger = replace(large, shape=(100_000, 100_000))
    assert estimate_memory(larger, predictor, 1) == estimate_memory(large, predictor, 1) < 2**30
    assert estimate_memory(plan, predictor, 1) < estimate_memory(large, predictor, 1)
    assert estimate_memory(plan, predictor, 64) > estimate_memory(plan, predictor, 1) + 63 * 400 * 400 * 2 * 4
