"""Predictor: windows in, classes or probabilities out, on one device in one precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from unettile.checkpoint import Checkpoint
from unettile.devices import choose_device, choose_precision
from unettile.errors import InputError, UsageError
from unettile.segmentation.rows import RowStream
from unettile.segmentation.softmax import first_largest, softmax, to_levels
from unettile.segmentation.steady import SMALLEST_OUTPUT_EDGE, steady
from unettile.segmentation.tape import NotByRows, shapes_of

ReadRows = Callable[[int, int], NDArray[np.float32]]
"""Gives the rows y0 … y1 of a scaled window, (n, W, C) float32."""

ByRows = Callable[[ReadRows], Iterator[tuple[int, NDArray[np.uint8]]]]
"""Yields the first row and the rows of what is written, (n, w) or (K, n, w)."""

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Predictor:
    """A model on a device.

    Windows are scaled images (N, H, W, C) float32 of one legal edge, C as the network has it. What comes back for a
    pixel does not depend on N, on its place in the window or, on a CPU, on the window's edge.

    Args:
        checkpoint: the model.
        device: auto, cpu, cuda or cuda:N.
        precision: auto, fp32, bf16 or fp16.

    Raises:
        UsageError: no such device here, or a precision that it or the model does not have.
    """

    def __init__(self, checkpoint: Checkpoint, device: str = "auto", precision: str = "auto") -> None:
        self.checkpoint = checkpoint
        self.geometry = checkpoint.geometry
        self.device = choose_device(device)
        if checkpoint.module is not None and precision not in ("auto", "fp32"):
            raise UsageError(f"--precision {precision} does not fit a network from elsewhere: it computes in fp32")
        self.precision = choose_precision("fp32" if checkpoint.module is not None else precision, self.device)
        self._dtype = _DTYPES[self.precision]
        network = checkpoint.build().to(device=self.device, dtype=self._dtype)
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._classes = len(checkpoint.classes)
        self._shapes = None if checkpoint.module is not None else shapes_of(network)
        self._network = steady(network, self._dtype) if self.device.type == "cpu" else network
        smallest = self.geometry.smallest_output_edge(SMALLEST_OUTPUT_EDGE)
        self.smallest_window = self.geometry.input_edge(smallest) if self.geometry.exact else 0
        self._streams: dict[tuple[int, int], RowStream | None] = {}

    def classes(self, windows: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return the class of each pixel, (N, h, w): the largest logit, of equal ones the first."""
        return self.writing(("classes",))(windows)

    def levels(self, windows: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return the probabilities in 8 bits, round(255 · p), (N, K, h, w)."""
        return self.writing(("probabilities",))(windows)

    def writing(self, write: tuple[str, ...]) -> Callable[[NDArray[np.float32]], NDArray[np.uint8]]:
        """Return the function that computes what is written: probabilities, classes, or both, in this order.

        Both come from one pass of the network, (N, K + 1, h, w), classes last.
        """
        finish = _FINISH[write]

        def compute(windows: NDArray[np.float32]) -> NDArray[np.uint8]:
            with torch.inference_mode():
                result: NDArray[np.uint8] = finish(self._logits(windows)).cpu().numpy()
            return result

        return compute

    def probabilities(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probabilities, (N, K, h, w) float32."""
        with torch.inference_mode():
            result: NDArray[np.float32] = softmax(self._logits(windows)).cpu().numpy()
        return result

    @property
    def has_rows(self) -> bool:
        """Whether windows may be computed from top to bottom."""
        return self._shapes is not None and self.device.type == "cpu" and self.geometry.exact

    def by_rows(self, write: tuple[str, ...], shape: tuple[int, int]) -> ByRows | None:
        """Return what computes a window of a legal shape (H, W), px, from top to bottom, to the same bits as `writing`.

        None on a GPU, for small windows, for programs, and for networks that do what cannot be done by rows.
        """
        if not self.has_rows or self._shapes is None or min(shape) < self.smallest_window:
            return None
        if shape not in self._streams:
            self._streams[shape] = None
            with suppress(NotByRows):
                self._streams[shape] = RowStream(self._shapes, self._network, (self.checkpoint.in_channels, *shape))
        stream = self._streams[shape]
        return None if stream is None else partial(self._run_rows, stream, _FINISH[write], shape)

    def _run_rows(
        self, stream: RowStream, finish: Callable[[Tensor], Tensor], shape: tuple[int, int], read: ReadRows
    ) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        def window(y0: int, y1: int) -> Tensor:
            rows = torch.from_numpy(read(y0, y1))[None].permute(0, 3, 1, 2)
            return rows.to(self._dtype).contiguous(memory_format=torch.channels_last)

        height, width = (edge - 2 * self.geometry.margin for edge in shape)
        cut = (stream.output_height - height) // 2  # a network that pads puts its margin out, too
        with torch.inference_mode():
            for start, logits in stream.run(window):
                first, last = max(start, cut), min(start + logits.shape[2], cut + height)
                if first < last:
                    kept = (
                        logits[:, : self._classes, first - start : last - start, cut : cut + width].float().contiguous()
                    )
                    yield first - cut, finish(self._finite(kept))[0].numpy()

    def _logits(self, windows: NDArray[np.float32]) -> Tensor:
        """Return (N, K, h, w) float32 on the device.

        Raises:
            InputError: a logit is not a finite number.
        """
        _, height, width, _ = windows.shape
        # (N, H, W, C) in memory is what torch calls channels-last (N, C, H, W): no copy
        x = torch.from_numpy(windows).permute(0, 3, 1, 2).to(self.device, self._dtype)
        missing = self.smallest_window - min(height, width)
        if missing > 0:  # the zeros lie outside the margin of every output pixel that is kept
            x = F.pad(x, (0, missing, 0, missing)).contiguous(memory_format=torch.channels_last)
        with _same_arithmetic(self.device):
            logits: Tensor = self._network(x)
        margin = self.geometry.margin
        cut = (logits.shape[2] - x.shape[2] + 2 * margin) // 2  # a network that pads puts its margin out, too
        return self._finite(
            logits[:, : self._classes, cut : cut + height - 2 * margin, cut : cut + width - 2 * margin]
            .float()
            .contiguous()
        )

    def _finite(self, logits: Tensor) -> Tensor:
        """Return the logits.

        Raises:
            InputError: one of them is not a finite number.
        """
        if not bool(torch.isfinite(logits).all()):
            raise InputError(
                f"the model overflows in {self.precision}: its output is not a finite number; use another --precision"
            )
        return logits


def _levels(logits: Tensor) -> Tensor:
    return to_levels(softmax(logits))


def _both(logits: Tensor) -> Tensor:
    return torch.cat((_levels(logits), first_largest(logits)[:, None]), dim=1)


_FINISH: dict[tuple[str, ...], Callable[[Tensor], Tensor]] = {
    ("classes",): first_largest,
    ("probabilities",): _levels,
    ("probabilities", "classes"): _both,
}


@contextmanager
def _same_arithmetic(device: torch.device) -> Iterator[None]:
    """Keep cuDNN from timing kernels against each other, and from rounding float32 inputs to 10 bits."""
    if device.type != "cuda":
        yield
        return
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield
