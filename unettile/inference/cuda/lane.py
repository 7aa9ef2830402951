"""Lane: one window after the other on a device, from raw pixels to 8-bit planes, always by the same kernels.

    region on the device --cut, mirror--> window --scale--> network --argmax or softmax--> planes --copy--> CPU
                                          |______________ one CUDA graph ______________|

A library may choose its kernels by the shape that it is given, so every window is computed alone, in one constant
shape: how many are computed at once (in as many lanes) changes no bit. The graph is captured once and replayed.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unettile.box import Box
from unettile.images.mirror import reflect_indices
from unettile.inference.cuda.kernels import no_waiting
from unettile.inference.cuda.memory import is_out_of_memory, memory_errors, times_ended
from unettile.inference.cuda.scale import carrier_of
from unettile.inference.cuda.staging import Mark, Staged, Stream, bring_back, send


@dataclass(frozen=True)
class WindowKind:
    """What all windows of a lane have in common.

    Args:
        edge: px.
        channels, dtype: of the image, not of the network.
        write: what is computed, as in `SegmentOptions`.
        write_edge: px of the output that are kept.
    """

    edge: int
    channels: int
    dtype: np.dtype[Any]
    write: tuple[str, ...]
    write_edge: int


@dataclass(frozen=True)
class Ticket:
    """A window in work.

    Args:
        planes: (P, h, w) uint8, once `done` is reached.
        finite: whether all logits were finite numbers.
    """

    planes: Tensor
    finite: Tensor
    done: Mark

    def wait(self) -> tuple[NDArray[np.uint8], bool]:
        """Return the planes, and whether they can be relied on."""
        self.done.wait()
        planes: NDArray[np.uint8] = self.planes.numpy()
        return planes, bool(self.finite)


Compute = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Raw pixels (edge, edge, C) → planes (P, write_edge, write_edge) uint8, and whether all logits were finite."""


class Lane:
    """A queue of windows of one kind on a device, with memory of its own.

    Args:
        compute: one window.
        arithmetic: a context in which kernels are chosen.
        graphs: capture a CUDA graph; without, kernels are launched one by one. A CPU has none.

    Raises:
        torch.OutOfMemoryError: the device has no room for another lane.
    """

    def __init__(
        self,
        compute: Compute,
        kind: WindowKind,
        device: torch.device,
        arithmetic: Callable[[], AbstractContextManager[None]],
        *,
        graphs: bool = True,
    ) -> None:
        self.kind = kind
        self.error: Exception | None = None
        """Why no graph was captured, if none could be."""
        self._compute, self._arithmetic = compute, arithmetic
        self._stream = Stream(device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._stream.wait_for_caller()
        ended = times_ended(device)
        with self._stream.current(), memory_errors():
            shape = (kind.edge, kind.edge, kind.channels)
            self._window = torch.zeros(shape, dtype=carrier_of(kind.dtype), device=device)
            self._warm_up()
            if graphs and device.type == "cuda" and self._never_waits():
                self._capture()
        self.is_short = times_ended(device) > ended
        """Whether a kernel was passed over for want of memory; the one in its place may round in another way."""

    @property
    def is_graph(self) -> bool:
        """Whether windows are computed by a graph."""
        return self._graph is not None

    def submit(self, staged: Staged, region: Box, window: Box, shape: tuple[int, int]) -> Ticket:
        """Queue a window.

        Args:
            staged: pixels of the box `region` of an image, which hold all that the window shows.
            window: may lie past the image, where pixels are mirrored.
            shape: of the image, px.

        Raises:
            torch.OutOfMemoryError: the device has no room; nothing was queued that counts.
        """
        self._stream.wait_for(staged.ready)
        with self._stream.current(), memory_errors():
            self._cut(staged.pixels, region, window, shape)
            planes, finite = self._run()
            ticket = bring_back(planes), bring_back(finite)
        return Ticket(*ticket, self._stream.mark())

    def _cut(self, pixels: Tensor, region: Box, window: Box, shape: tuple[int, int]) -> None:
        """Copy a window to where the graph reads it."""
        assert pixels.dtype == self._window.dtype, f"{pixels.dtype} for a lane of {self._window.dtype}"
        if Box.of_shape(shape).contains(window):
            self._window.copy_(pixels[window.relative_to(region).slices])
            return
        rows = reflect_indices(window.y0, window.y1, shape[0]) - region.y0
        columns = reflect_indices(window.x0, window.x1, shape[1]) - region.x0
        y, x = (send(torch.from_numpy(index), pixels.device) for index in (rows, columns))
        self._window.copy_(pixels.index_select(0, y).index_select(1, x))

    def _run(self) -> tuple[Tensor, Tensor]:
        if self._graph is not None:
            with torch.inference_mode():  # a replay sets torch's seed, a tensor that may have been made in this mode
                self._graph.replay()
            return self._outputs
        with torch.inference_mode(), self._arithmetic():
            return self._compute(self._window)

    def _warm_up(self) -> None:
        """Let libraries choose kernels and take memory of their own, which a graph must not hold."""
        with torch.inference_mode(), self._arithmetic():
            self._compute(self._window)
        self._stream.mark().wait()

    def _never_waits(self) -> bool:
        """Whether the device is never waited for, which no graph can hold.

        Found out before a capture: of one that fails, torch before 2.12 keeps memory, and then refuses to free any.
        """
        try:
            with torch.inference_mode(), self._arithmetic(), no_waiting():
                self._compute(self._window)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            self.error = _bare(error)
        self._stream.mark().wait()
        return self.error is None

    def _capture(self) -> None:
        """Capture a graph; where that fails, for another reason than memory, go on without."""
        assert self._stream.stream is not None
        graph = torch.cuda.CUDAGraph()
        # other threads may pin and allocate memory meanwhile
        capture = torch.cuda.graph(graph, stream=self._stream.stream, capture_error_mode="thread_local")
        try:
            # begun outside of inference mode: torch before 2.12 makes the seed of all graphs of a process there, and
            # could replay none outside of the mode any more
            with _no_collection(), capture, torch.inference_mode(), self._arithmetic():
                self._outputs = self._compute(self._window)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            self.error = _bare(error)
            torch.cuda.synchronize(self._stream.device)
            return
        self._graph = graph


@contextmanager
def _no_collection() -> Iterator[None]:
    """Let Python not collect what is in circles: a graph among it cannot be given back during a capture."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _bare(error: RuntimeError) -> RuntimeError:
    """Return what an error says without where it came from: the frames there hold the network's feature maps."""
    return RuntimeError(str(error))
