"""Columns: every block once, from top to bottom, and no wider than memory allows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import unettile.inference.cpu
from tests.narrow import make_checkpoint
from unettile.box import Box
from unettile.inference.cpu import CpuEngine
from unettile.inference.predict import Predictor
from unettile.segmentation.compute.strips import rows_of_blocks
from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.plan import Plan
from unettile.segmentation.planning import plan_image
from unettile.tiling import BlockGrid


@pytest.mark.parametrize("width", [1, 100, 250, 399, 10_000])
@pytest.mark.parametrize("indices", [range(35), range(3, 17), range(9, 10), range(0)])
def test_every_block_once_and_beside_each_other(width: int, indices: range) -> None:
    grid = BlockGrid((450, 650), 100)
    groups = list(rows_of_blocks(grid, indices, width))
    assert sorted(block.index for blocks in groups for block in blocks) == list(indices)
    boxes = [Box(blocks[0].box.y0, blocks[0].box.x0, blocks[-1].box.y1, blocks[-1].box.x1) for blocks in groups]
    assert all(sum(block.box.area for block in blocks) == box.area for blocks, box in zip(groups, boxes, strict=True))
    assert max((box.width for box in boxes), default=0) <= max(100, width)
    if indices == range(35) and width > 100:
        assert [box.y0 for box in boxes] == [0, 100, 200, 300, 400] * (len(boxes) // 5)


@pytest.fixture
def plan(image: Path, predictor: Predictor) -> Plan:
    plan = plan_image(image, predictor, SegmentOptions(output_edge=388))
    return replace(plan, shape=(50_000, 50_000), block_edge=3072)


def test_columns_are_as_wide_as_memory_allows(
    plan: Plan, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = CpuEngine(predictor)
    assert (engine.cut(plan.task).width, engine.cut(plan.task).height) == (9216, 388)
    many = CpuEngine(Predictor(make_checkpoint(classes=4, widths=(2, 3)), "cpu", "fp32"))
    assert many.cut(replace(plan, stored=("probabilities",)).task).width == 3072  # four planes
    monkeypatch.setattr(unettile.inference.cpu, "MAP_BYTES", 2**20)
    assert engine.cut(plan.task).width == 3072  # one block at least


def test_what_is_not_computed_by_rows_has_no_columns(
    plan: Plan, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Predictor, "by_rows", lambda *arguments: None)
    cut = CpuEngine(predictor).cut(plan.task)
    assert (cut.width, cut.height) == (3072, 3072)
