"""Crew: who computes the blocks of a run, and how many threads bring them and take them away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from unettile.inference.lane import WindowKind
from unettile.inference.predict import Predictor
from unettile.inference.staging import Stager
from unettile.limits import count_threads
from unettile.segmentation.compute import BlockPixels, Computer, Scale, TileComputer
from unettile.segmentation.devicecompute import DeviceComputer
from unettile.segmentation.plan import Plan
from unettile.segmentation.recall import RECALL_BYTES, Recall

MOST_READERS = 16  # each has the file open, and a block in memory
MOST_WRITERS = 4


@dataclass(frozen=True)
class Crew:
    """Who computes, and the threads beside.

    Args:
        computer: of all blocks; on a CPU, of those that had better not be computed by rows.
        stage: what is done to a block as soon as it is read, by the thread that read it.
        mirrors: the computer mirrors pixels at the image's edges by itself.
        readers: threads that read, each a block ahead.
        writers: threads that write.
    """

    computer: Computer
    stage: Callable[[BlockPixels], BlockPixels] = lambda work: work
    mirrors: bool = False
    readers: int = 1
    writers: int = 1


@dataclass(frozen=True)
class Calls:
    """What computers ask of a run: the block that comes next, if it has been read; and to pass on a line."""

    ahead: Callable[[], BlockPixels | None] = lambda: None
    advise: Callable[[str], None] = lambda line: None


def make_crew(
    plan: Plan, predictor: Predictor, scale: Scale, batch: int, recall_bytes: int = RECALL_BYTES, calls: Calls = Calls()
) -> Crew:
    """Return who computes a plan.

    Args:
        scale: pixels as the network sees them.
        batch: windows at once.
        recall_bytes: of windows that are remembered in order not to be computed twice; 0 for none.

    Raises:
        torch.OutOfMemoryError: a device has no room for a window.
    """
    if not predictor.has_lanes:
        recall = Recall(plan.planes * plan.tiles.write_edge**2, recall_bytes)
        return Crew(TileComputer(plan, scale, predictor.writing(plan.stored), batch, recall))
    lanes = predictor.lanes(window_kind(plan), plan.scaling, batch)
    device = DeviceComputer(plan, lanes, Stager(predictor.device), calls.ahead, calls.advise)
    return Crew(device, device.stage, mirrors=True, readers=reading_threads(), writers=writing_threads())


def window_kind(plan: Plan) -> WindowKind:
    """Return what all windows of a plan have in common."""
    dtype = np.dtype(plan.image["dtype"])
    edge = plan.geometry.input_edge(plan.output_edge)
    return WindowKind(edge, len(plan.scaling.low), dtype, plan.stored, plan.tiles.write_edge)


def reading_threads() -> int:
    """Return how many threads read for a GPU."""
    return min(MOST_READERS, count_threads())


def writing_threads() -> int:
    """Return how many threads write what a GPU computes."""
    return min(MOST_WRITERS, count_threads())
