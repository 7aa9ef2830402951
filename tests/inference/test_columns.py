"""Lanes: every px of a column once, on the grid of tiles, wide against their margins, no thread idle for nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from unettile.box import Box
from unettile.inference.columns import LANE_MARGINS, LANE_WIDTH, lanes_of
from unettile.inference.engine import Task
from unettile.inference.predict import Predictor
from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.planning import plan_image


@pytest.fixture
def task(image: Path, predictor: Predictor) -> Task:
    plan = plan_image(image, predictor, SegmentOptions(output_edge=388))
    return replace(plan, shape=(50_000, 50_000), block_edge=3072).task


@pytest.mark.parametrize("width", [1, 388, 2047, 3100, 9216])
@pytest.mark.parametrize("threads", [1, 2, 3, 16])
def test_lanes_part_a_column(task: Task, width: int, threads: int) -> None:
    box = Box(776, 3104, 1164, 3104 + width)
    lanes = lanes_of(task, box, threads)
    assert [lane.x0 for lane in lanes] == [3104, *(lane.x1 for lane in lanes[:-1])] and lanes[-1].x1 == box.x1
    assert {(lane.y0, lane.y1) for lane in lanes} == {(776, 1164)}
    assert all(lane.x0 % 388 == 0 for lane in lanes) and len(lanes) <= threads
    least = max(LANE_WIDTH, LANE_MARGINS * task.tiles.geometry.margin)
    assert len(lanes) == 1 or width // len(lanes) >= least


def test_as_many_as_keep_the_most_threads_at_work(task: Task) -> None:
    wide = Box(0, 0, 388, 9 * 1024)
    assert [len(lanes_of(task, wide, threads)) for threads in (1, 2, 3, 8, 9, 10, 16, 64)] == [1, 2, 3, 8, 9, 5, 8, 8]
