"""Computing on a GPU: windows are queued in lanes, each of one constant shape."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from unettile.errors import InputError
from unettile.inference.cuda.flow import Flow, fewer_lanes, out_of_memory
from unettile.inference.cuda.lane import Lane, WindowKind
from unettile.inference.cuda.lanes import Lanes, free_memory
from unettile.inference.cuda.scale import DeviceScale
from unettile.inference.cuda.staging import Stager
from unettile.inference.engine import Advise, Cut, Listener, Memory, Patch, Strip, Supply, Task
from unettile.limits import count_threads

if TYPE_CHECKING:
    from unettile.inference.predict import Predictor

LANES = 2
"""Windows at once: one is computed while what was made of the other is fetched."""

TILE_EDGES = (3072, 1536, 768, 384)
"""Px that a tile writes: the first that the memory holds. Larger ones waste less on the margin."""

INEXACT_EDGE = 1536  # px, of networks whose answer depends on it
SHARE = 0.7  # of the memory that lanes may take
MOST_NUMBERS = 2**32  # in all feature maps that live at once: cuDNN counts up to 2**31 in the largest of them
GRAPH_FROM = 32
"""Windows of an image from which on a graph is worth its capture, for which the GPU stands still."""

MOST_READERS = 16  # each has the file open, and a block in memory
MOST_WRITERS = 4

_SCRATCH = 1.3  # times the feature maps: what cuDNN and the allocator take beside them


class CudaEngine:
    """Computes on a GPU.

    Args:
        predictor: the model there.
    """

    mirrors = True

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._stager = Stager(predictor.device)
        self._kept: tuple[WindowKind, bool, DeviceScale, Lanes] | None = None  # of the last task
        self.readers = min(MOST_READERS, count_threads())
        self.writers = min(MOST_WRITERS, count_threads())

    def choose_edge(self, shape: tuple[int, int]) -> int:
        """Return the largest edge that suits all of the GPU's memory.

        Not what happens to be free, so that a run that is given again has the tiles it had.
        """
        predictor = self._predictor
        if not predictor.geometry.exact:
            return predictor.fitting_edge(INEXACT_EDGE, shape)
        room = SHARE * device_memory(predictor.device)
        for edge in (predictor.fitting_edge(length, shape) for length in TILE_EDGES):
            need = self._lane_bytes(predictor.geometry.input_edge(edge))
            if LANES * need <= room and need < MOST_NUMBERS * predictor.item_bytes:
                break
        return edge

    def smaller_edge(self, output_edge: int) -> int | None:
        """Return the next smaller edge; see `Engine.smaller_edge`."""
        geometry = self._predictor.geometry
        if not geometry.exact:
            return None
        edges = (geometry.smallest_output_edge(length) for length in TILE_EDGES)
        return next((edge for edge in edges if edge < output_edge), None)

    def cut(self, task: Task) -> Cut:
        """Return whole blocks."""
        return Cut(task.blocks.edge, task.blocks.edge)

    def prepare(self, task: Task, batch: int, advise: Advise) -> int:
        """Make the lanes of a task; return how many there are."""
        try:
            lanes = self._lanes_for(task, batch)
        except torch.OutOfMemoryError as error:
            raise InputError(out_of_memory(task)) from error
        if len(lanes) < batch:
            advise(fewer_lanes(len(lanes)))
        if lanes.is_short:
            advise("the GPU's memory is short: kernels were taken that need less, and may round in another way")
        if lanes.error is not None:
            reason = str(lanes.error).strip().splitlines()[0]
            advise(f"no CUDA graph could be made of this network ({reason}): its kernels are launched one by one")
        return len(lanes)

    def memory(self, task: Task, batch: int) -> Memory:
        """Return the bytes of the parameters, the lanes and the strips that wait on the GPU."""
        rows, columns = (min(task.blocks.edge, length) + 2 * task.tiles.geometry.margin for length in task.shape)
        waiting = (2 + self.readers) * rows * columns * task.channels * task.dtype.itemsize
        need = self._predictor.parameter_bytes + batch * self._lane_bytes(task.window_edge) + waiting
        return Memory(0, need, free_device_memory(self._predictor.device))

    def stage(self, strip: Strip) -> Strip:
        """Begin to bring the pixels of a strip to the GPU."""
        try:
            return replace(strip, staged=self._stager.stage(strip.pixels))
        except torch.OutOfMemoryError:
            return strip  # `run` finds room for them

    def run(self, task: Task, supply: Supply, batch: int, listener: Listener) -> Iterator[Patch]:
        """Compute strips; see `Engine.run`."""
        lanes = self._lanes_for(task, batch)
        return Flow(task, lanes, self._stager, self._predictor.overflow, listener.advise).run(supply)

    def _lanes_for(self, task: Task, wanted: int) -> Lanes:
        """Return lanes for a task; those of the last one are used again where they fit.

        Raises:
            torch.OutOfMemoryError: there is no room for one.
        """
        kind, predictor = window_kind(task), self._predictor
        # a network from elsewhere may wait for the GPU, which no graph can hold
        graphs = all(member.module is None for member in (predictor.checkpoint, *predictor.checkpoint.members))
        graphs &= wanted > 1 or len(task.tiles) >= GRAPH_FROM
        if self._kept is not None and self._kept[0] == kind and self._kept[1] >= graphs:
            _, _, scale, lanes = self._kept
            scale.load(task.scaling)
            lanes.grow(wanted)
            return lanes
        self._kept = None  # the memory of the old ones comes before the new ones
        if spare_device_memory(predictor.device) < wanted * self._lane_bytes(kind.edge):
            free_memory()  # a model that is gone is a circle of itself, its engine and its lanes
        scale = DeviceScale(task.scaling, kind.dtype, predictor.device)

        def compute(pixels: Tensor) -> tuple[Tensor, Tensor]:
            return predictor.window_planes(scale(pixels), kind.write, kind.write_edge)

        lanes = Lanes(lambda: Lane(compute, kind, predictor.device, predictor.arithmetic, graphs=graphs), wanted)
        self._kept = kind, graphs, scale, lanes
        return lanes

    def _lane_bytes(self, window_edge: int) -> int:
        return self._predictor.maps_bytes(window_edge, _SCRATCH)


def window_kind(task: Task) -> WindowKind:
    """Return what all windows of a task have in common."""
    return WindowKind(task.window_edge, task.channels, task.dtype, task.kinds, task.tiles.write_edge)


def device_memory(device: torch.device) -> int:
    """Return all the memory of a GPU, bytes."""
    return int(torch.cuda.mem_get_info(device)[1])


def free_device_memory(device: torch.device) -> int:
    """Return the memory of a GPU that is free or in this process's hands already, bytes."""
    return int(torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device))


def spare_device_memory(device: torch.device) -> int:
    """Return the memory of a GPU that this process could take, beside what it uses, bytes."""
    return free_device_memory(device) - int(torch.cuda.memory_allocated(device))
