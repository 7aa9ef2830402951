"""Predictor: windows in, classes or probabilities out, on one device in one precision."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from unettile.checkpoint import Checkpoint
from unettile.devices import choose_device, choose_precision
from unettile.errors import InputError, UsageError
from unettile.images.normalize import Scaling
from unettile.inference.devicescale import DeviceScale
from unettile.inference.lane import Lane, WindowKind
from unettile.inference.lanes import Lanes
from unettile.inference.rowpredict import RowPredictor
from unettile.inference.rows import RowStream
from unettile.inference.softmax import first_largest, softmax, to_levels
from unettile.inference.steady import SMALLEST_OUTPUT_EDGE, steady
from unettile.inference.tape import NotByRows, shapes_of

_DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Predictor:
    """A model on a device.

    Windows are scaled images (N, H, W, C) float32 of one legal edge, C as the network has it. What comes back for a
    pixel does not depend on N, on its place in the window or, on a CPU, on the window's edge.

    Args:
        checkpoint: the model.
        device: auto, cpu, cuda or cuda:N.
        precision: auto, fp32, tf32, bf16 or fp16.

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
        self._shapes = None if checkpoint.module is not None else shapes_of(network)
        self._network = steady(network, self._dtype) if self.device.type == "cpu" else network
        smallest = self.geometry.smallest_output_edge(SMALLEST_OUTPUT_EDGE)
        self.smallest_window = self.geometry.input_edge(smallest) if self.geometry.exact else 0
        self._lanes: tuple[WindowKind, DeviceScale, Lanes] | None = None
        self._streams: dict[int, RowStream | None] = {}

    def classes(self, windows: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return the class of each pixel, (N, h, w): the largest logit, of equal ones the first."""
        return self.writing(("classes",))(windows)

    def levels(self, windows: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return the probabilities in 8 bits, round(255 · p), (N, K, h, w)."""
        return self.writing(("probabilities",))(windows)

    def writing(self, kinds: tuple[str, ...]) -> Callable[[NDArray[np.float32]], NDArray[np.uint8]]:
        """Return the function that computes kinds of planes in one pass of the network: probabilities, depth, classes.

        It returns (N, P, h, w), in the order of the kinds; a single plane is (N, h, w).
        """
        finish = self._finish(kinds)

        def compute(windows: NDArray[np.float32]) -> NDArray[np.uint8]:
            with torch.inference_mode():
                result: NDArray[np.uint8] = finish(self._logits(windows)).cpu().numpy()
            return result

        return compute

    def probabilities(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probabilities, (N, K, h, w) float32."""
        with torch.inference_mode():
            logits = self._logits(windows)[:, : len(self.checkpoint.classes)]
            result: NDArray[np.float32] = softmax(logits).cpu().numpy()
        return result

    @property
    def has_lanes(self) -> bool:
        """Whether windows are queued on a device that computes beside this process."""
        return self.device.type == "cuda"

    def lanes(self, kind: WindowKind, scaling: Scaling, wanted: int) -> Lanes:
        """Return lanes for windows of an image; those of the last call are used again where they fit.

        Args:
            wanted: how many; where the device's memory ends there are fewer.

        Raises:
            torch.OutOfMemoryError: there is no room for one.
        """
        if self._lanes is not None and self._lanes[0] == kind:
            _, scale, lanes = self._lanes
            scale.load(scaling)
            lanes.grow(wanted)
            return lanes
        self._lanes = None  # the memory of the old ones comes before the new ones
        scale = DeviceScale(scaling, kind.dtype, self.device)

        def compute(pixels: Tensor) -> tuple[Tensor, Tensor]:
            return self.planes(scale(pixels), kind.write, kind.write_edge)

        # a network from elsewhere may wait for the GPU, which no graph can hold
        graphs = self.checkpoint.module is None
        lanes = Lanes(lambda: Lane(compute, kind, self.device, self.arithmetic, graphs=graphs), wanted)
        self._lanes = kind, scale, lanes
        return lanes

    def arithmetic(self) -> AbstractContextManager[None]:
        """Return a context in which cuDNN does not time its kernels against each other, nor takes those that add up in
        any order, nor rounds float32 to 10 bits but for tf32."""
        if self.device.type != "cuda":
            return nullcontext()
        return torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=self.precision == "tf32"
        )

    @property
    def has_rows(self) -> bool:
        """Whether windows may be computed from top to bottom."""
        return self._shapes is not None and not self.has_lanes and self.geometry.exact

    def by_rows(self, kinds: tuple[str, ...], width: int) -> RowPredictor | None:
        """Return what computes windows of a legal width, px, from top to bottom, to the same bits as `writing`.

        None on a GPU, for narrow windows, for programs, and for networks that do what cannot be done by rows.
        """
        if not self.has_rows or self._shapes is None or width < self.smallest_window:
            return None
        if width not in self._streams:
            self._streams[width] = None
            with suppress(NotByRows):
                self._streams[width] = RowStream(self._shapes, self._network, self.checkpoint.in_channels, width)
        stream, finish = self._streams[width], self._finish(kinds)
        if stream is None:
            return None
        return RowPredictor(
            stream, self.geometry.margin, self._dtype, lambda logits: finish(self._finite(logits.float().contiguous()))
        )

    def _finish(self, kinds: tuple[str, ...]) -> Callable[[Tensor], Tensor]:
        """Return what makes planes of logits (N, K, h, w), after whose classes may come a depth."""
        classes = len(self.checkpoint.classes)
        steps = [_PLANES[kind] for kind in kinds]
        if len(steps) == 1 and kinds != ("probabilities",):
            return lambda logits: steps[0](logits, classes)[:, 0]
        return lambda logits: torch.cat([step(logits, classes) for step in steps], dim=1)

    def planes(self, window: Tensor, write: tuple[str, ...], edge: int) -> tuple[Tensor, Tensor]:
        """Return what is written of one scaled window (H, W, C) on the device, without waiting for it.

        Args:
            edge: px of the output that are kept.

        Returns:
            (edge, edge) or (K, edge, edge) uint8, and whether all logits are finite numbers; both on the device.
        """
        channels = self.checkpoint.in_channels
        x = window.to(self._dtype).expand(*window.shape[:2], channels)[None].permute(0, 3, 1, 2)
        logits = self._on_device(x.contiguous(memory_format=torch.channels_last), edge)
        return self._finish(write)(logits)[0], torch.isfinite(logits).all()

    def _logits(self, windows: NDArray[np.float32]) -> Tensor:
        """Return (N, K, h, w) float32 on the device.

        Raises:
            InputError: a logit is not a finite number, or a GPU has no room.
        """
        # (N, H, W, C) in memory is what torch calls channels-last (N, C, H, W): no copy
        x = torch.from_numpy(windows).permute(0, 3, 1, 2).to(self.device, self._dtype)
        with self.arithmetic():
            try:
                return self._finite(self._on_device(x))
            except torch.OutOfMemoryError:
                self._lanes = None  # their memory is of more use here
            torch.cuda.empty_cache()
            try:
                return self._finite(self._on_device(x))
            except torch.OutOfMemoryError as error:
                raise InputError(
                    f"the GPU's memory does not hold {len(x)} windows of {max(x.shape[2:])} px: give a smaller --tile"
                ) from error

    def _on_device(self, x: Tensor, most: int | None = None) -> Tensor:
        """Return the logits (N, K, h, w) float32 of windows (N, C, H, W), channels last; of h and w at most `most`."""
        margin = self.geometry.margin
        height, width = (edge - 2 * margin if most is None else min(most, edge - 2 * margin) for edge in x.shape[2:])
        missing = self.smallest_window - min(x.shape[2:])
        if missing > 0:  # the zeros lie outside the margin of every output pixel that is kept
            x = F.pad(x, (0, missing, 0, missing)).contiguous(memory_format=torch.channels_last)
        logits: Tensor = self._network(x)
        cut = (logits.shape[2] - x.shape[2] + 2 * margin) // 2  # a network that pads puts its margin out, too
        return logits[:, :, cut : cut + height, cut : cut + width].float().contiguous()

    def _finite(self, logits: Tensor) -> Tensor:
        """Return the logits.

        Raises:
            InputError: one of them is not a finite number.
        """
        if not bool(torch.isfinite(logits).all()):
            raise InputError(overflow(self.precision))
        return logits


def _probabilities(logits: Tensor, classes: int) -> Tensor:
    return to_levels(softmax(logits[:, :classes]))


def _depth(logits: Tensor, classes: int) -> Tensor:
    """Return round(255 · sigmoid(z)): the softmax of (0, z) is (1 - sigmoid(z), sigmoid(z))."""
    z = logits[:, classes : classes + 1]
    return to_levels(softmax(torch.cat((torch.zeros_like(z), z), dim=1)))[:, 1:]


def _classes(logits: Tensor, classes: int) -> Tensor:
    return first_largest(logits[:, :classes])[:, None]


_PLANES: dict[str, Callable[[Tensor, int], Tensor]] = {
    "probabilities": _probabilities,
    "depth": _depth,
    "classes": _classes,
}
"""From logits, of which so many are classes, to planes (N, P, h, w) uint8."""


def overflow(precision: str) -> str:
    """Return what to say of a model whose output is not a finite number."""
    return f"the model overflows in {precision}: its output is not a finite number; use another --precision"
