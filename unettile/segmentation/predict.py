"""Predictor: windows in, classes or probabilities out, on one device in one precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from unettile.checkpoint import Checkpoint
from unettile.devices import choose_device, choose_precision
from unettile.errors import InputError
from unettile.segmentation.softmax import first_largest, softmax, to_levels
from unettile.segmentation.steady import SMALLEST_OUTPUT_EDGE, steady

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
        UsageError: no such device here, or a precision that it does not have.
    """

    def __init__(self, checkpoint: Checkpoint, device: str = "auto", precision: str = "auto") -> None:
        self.checkpoint = checkpoint
        self.geometry = checkpoint.geometry
        self.device = choose_device(device)
        self.precision = choose_precision(precision, self.device)
        self._dtype = _DTYPES[self.precision]
        network = checkpoint.build().to(device=self.device, dtype=self._dtype)
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._network = steady(network, self._dtype) if self.device.type == "cpu" else network
        smallest = self.geometry.smallest_output_edge(SMALLEST_OUTPUT_EDGE)
        self._smallest_window = self.geometry.input_edge(smallest) if self.geometry.exact else 0

    def classes(self, windows: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return the class of each pixel, (N, h, w): the largest logit, of equal ones the first."""
        with torch.inference_mode():
            result: NDArray[np.uint8] = first_largest(self._logits(windows)).cpu().numpy()
        return result

    def levels(self, windows: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return the probabilities in 8 bits, round(255 · p), (N, K, h, w)."""
        with torch.inference_mode():
            result: NDArray[np.uint8] = to_levels(softmax(self._logits(windows))).cpu().numpy()
        return result

    def both(self, windows: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return what `levels` and `classes` do, in one pass of the network, (N, K + 1, h, w), classes last."""
        with torch.inference_mode():
            logits = self._logits(windows)
            planes = (to_levels(softmax(logits)), first_largest(logits)[:, None])
            result: NDArray[np.uint8] = torch.cat(planes, dim=1).cpu().numpy()
        return result

    def writing(self, write: tuple[str, ...]) -> Callable[[NDArray[np.float32]], NDArray[np.uint8]]:
        """Return the method that computes what is written: probabilities, classes, or both, in this order."""
        methods = {("classes",): self.classes, ("probabilities",): self.levels, ("probabilities", "classes"): self.both}
        return methods[write]

    def probabilities(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probabilities, (N, K, h, w) float32."""
        with torch.inference_mode():
            result: NDArray[np.float32] = softmax(self._logits(windows)).cpu().numpy()
        return result

    def _logits(self, windows: NDArray[np.float32]) -> Tensor:
        """Return (N, K, h, w) float32 on the device.

        Raises:
            InputError: a logit is not a finite number.
        """
        _, height, width, _ = windows.shape
        # (N, H, W, C) in memory is what torch calls channels-last (N, C, H, W): no copy
        x = torch.from_numpy(windows).permute(0, 3, 1, 2).to(self.device, self._dtype)
        missing = self._smallest_window - min(height, width)
        if missing > 0:  # the zeros lie outside the margin of every output pixel that is kept
            x = F.pad(x, (0, missing, 0, missing)).contiguous(memory_format=torch.channels_last)
        with _same_arithmetic(self.device):
            logits: Tensor = self._network(x)
        margin = self.geometry.margin
        cut = (logits.shape[2] - x.shape[2] + 2 * margin) // 2  # a network that pads puts its margin out, too
        logits = logits[:, :, cut : cut + height - 2 * margin, cut : cut + width - 2 * margin].float().contiguous()
        if not bool(torch.isfinite(logits).all()):
            raise InputError(
                f"the model overflows in {self.precision}: its output is not a finite number; use another --precision"
            )
        return logits


@contextmanager
def _same_arithmetic(device: torch.device) -> Iterator[None]:
    """Keep cuDNN from timing kernels against each other, and from rounding float32 inputs to 10 bits."""
    if device.type != "cuda":
        yield
        return
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield
