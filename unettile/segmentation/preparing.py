"""Preparing: a plan, and on a GPU the lanes for it, before anything is written.

The edge of a tile is frozen in the plan, since on a GPU windows of two sizes may differ by rounding. Until the first
process has written the plan, a GPU that turns out too small for the edge gets a smaller one; after that it is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from unettile.errors import InputError
from unettile.images.slide import Slide
from unettile.inference.predict import Predictor
from unettile.segmentation.crew import window_kind
from unettile.segmentation.devicecompute import fewer_lanes, out_of_memory
from unettile.segmentation.memory import fit_batch
from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.plan import Plan
from unettile.segmentation.planning import make_plan, smaller_edge, with_edge
from unettile.segmentation.rundir import begun_edge


def prepare(
    slide: Slide,
    predictor: Predictor,
    options: SegmentOptions,
    begun: Path | None,
    shards: int = 1,
    advise: Callable[[str], None] = lambda line: None,
) -> tuple[Plan, int]:
    """Return the plan of a run, and how many windows are computed at once.

    Args:
        begun: where the run may have been begun, whose tile edge is then kept; None for nowhere.
        advise: takes lines that the user should read.

    Raises:
        InputError: the image or the model is refused, or the memory does not hold a window.
        UsageError: an illegal tile edge.
    """
    if not predictor.has_lanes:
        plan = make_plan(slide, predictor, options, shards)
        return plan, fit_batch(plan, predictor, options.batch)
    free = options.output_edge is None
    if free and begun is not None and (edge := begun_edge(begun)) is not None:
        free, options = False, replace(options, output_edge=edge)
    plan = make_plan(slide, predictor, options, shards)
    while True:
        try:
            return plan, _make_lanes(plan, predictor, options.batch, advise)
        except InputError:
            smaller = smaller_edge(plan) if free else None
            if smaller is None:
                raise
        advise(f"the GPU's memory does not hold tiles of {plan.output_edge} px: they get {smaller} px")
        plan = with_edge(plan, smaller)


def _make_lanes(plan: Plan, predictor: Predictor, batch: int | None, advise: Callable[[str], None]) -> int:
    """Make the lanes of a plan on a GPU; return how many there are.

    Raises:
        InputError: there is no room for one.
    """
    wanted = fit_batch(plan, predictor, batch)
    try:
        lanes = predictor.lanes(window_kind(plan), plan.scaling, wanted)
    except torch.OutOfMemoryError as error:
        raise InputError(out_of_memory(plan)) from error
    if len(lanes) < wanted:
        advise(fewer_lanes(len(lanes)))
    if lanes.error is not None:
        reason = str(lanes.error).strip().splitlines()[0]
        advise(f"no CUDA graph could be made of this network ({reason}): its kernels are launched one by one")
    return len(lanes)
