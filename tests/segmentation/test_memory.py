"""Memory: what is read and written at once has the size of a block, whatever the image's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray

import unettile.segmentation.segment
import unettile.tiling
from unettile.box import Box
from unettile.images.mirror import read_mirrored
from unettile.images.slide import Slide
from unettile.segmentation.predict import Predictor
from unettile.segmentation.segment import SegmentOptions, segment_image


def test_reads_are_those_of_a_block_and_its_margin(
    tmp_path: Path, image: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unettile.tiling, "BLOCK_EDGE", 64)
    boxes: list[Box] = []

    def record(slide: Slide, box: Box) -> NDArray[Any]:
        boxes.append(box)
        return read_mirrored(slide, box)

    monkeypatch.setattr(unettile.segmentation.segment, "read_mirrored", record)
    segment_image(image, tmp_path / "mask.tif", predictor, SegmentOptions(output_edge=32))
    assert len(boxes) == 20
    assert max(max(box.shape) for box in boxes) == 64 + 2 * predictor.geometry.margin
