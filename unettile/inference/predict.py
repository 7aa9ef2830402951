"""Predictor: windows in, planes of what is written out, on one device in one precision."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from unettile.checkpoint import Checkpoint
from unettile.devices import choose_device, choose_precision
from unettile.errors import InputError, UsageError
from unettile.exchange.foreign import ForeignNetwork
from unettile.images.normalize import Scaling
from unettile.inference.engine import Engine
from unettile.inference.kinds import Outputs, make_planes
from unettile.inference.rows import ByRows
from unettile.inference.steady import SMALLEST_OUTPUT_EDGE, steady
from unettile.networks.cost import measure_cost
from unettile.networks.lifting import lift_upsampling
from unettile.networks.record import NotByRows, Recording, record, shapes_of

_WAYS: tuple[tuple[int, ...], ...] = ((), (3,), (2,), (2, 3))
"""Axes along which windows are turned over, in this order."""

_DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Predictor:
    """A model on a device.

    Windows are scaled images (N, H, W, C) float32 of one legal edge, C as the network has it. What comes back for a
    pixel does not depend on N, on its place in the window or, on a CPU, on the window's edge.

    Where the model has several members, or windows are turned over, what comes out are means of probabilities in the
    place of logits: of each member, of each way of turning, one after the other. A window turned over is a legal one,
    and all of them have the same phase to the stride, so that the mean does not depend on tiles either.

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
        members = checkpoint.members or (checkpoint,)
        modules = [member.module for member in members if member.module is not None]
        kinds = [set(module.devices) for module in modules if isinstance(module, ForeignNetwork)]
        self.device = choose_device(device, tuple(set.intersection({"cuda", "cpu"}, *kinds)))
        if modules and precision not in ("auto", "fp32"):
            raise UsageError(f"--precision {precision} does not fit a network from elsewhere: it computes in fp32")
        self.precision = choose_precision("fp32" if modules else precision, self.device)
        self._dtype = _DTYPES[self.precision]
        on_cpu = self.device.type == "cpu"
        self._networks: list[nn.Module] = []
        self._shapes = None
        for member in members:
            network = member.build()
            if on_cpu and not modules:
                network = lift_upsampling(network)
            network = network.to(device=self.device, dtype=self._dtype)
            network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            if on_cpu and not modules and not self.blends:
                self._shapes = shapes_of(network)
            self._networks.append(steady(network, self._dtype) if on_cpu else network)
        smallest = self.geometry.smallest_output_edge(SMALLEST_OUTPUT_EDGE)
        self.smallest_window = self.geometry.input_edge(smallest) if self.geometry.exact else 0
        self._recordings: dict[int, Recording | None] = {}

    @property
    def blends(self) -> bool:
        """Whether what comes out are means of probabilities."""
        return bool(self.checkpoint.members or self.checkpoint.tta)

    @cached_property
    def engine(self) -> Engine:
        """What computes images with this model on its device; kept, since a GPU's memory and graphs are costly."""
        from unettile.inference.engines import make_engine  # which know predictors

        return make_engine(self)

    def see(self, pixels: NDArray[np.generic], scaling: Scaling) -> NDArray[np.float32]:
        """Return pixels (…, C) of an image as the network sees them: scaled, grey repeated for a network of colours."""
        scaled = scaling.apply(pixels)
        channels = self.checkpoint.in_channels
        return scaled if scaled.shape[-1] == channels else np.repeat(scaled, channels, axis=-1)

    def planes(self, kinds: tuple[str, ...], windows: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return the planes of kinds of output, (N, P, h, w), from one pass of the network over windows.

        Raises:
            InputError: a logit is not a finite number, or a GPU has no room.
        """
        with torch.inference_mode():
            result: NDArray[np.uint8] = self.finish(kinds)(self._logits(windows)).cpu().numpy()
        return result

    def logits(self, windows: NDArray[np.float32]) -> Tensor:
        """Return the logits of windows, (N, K, h, w) float32 on the device, the depth's last if there is one.

        Of a model that blends, means of probabilities.

        Raises:
            InputError: a logit is not a finite number, or a GPU has no room.
        """
        with torch.inference_mode():
            return self._logits(windows)

    def shares(self, logits: Tensor) -> NDArray[np.float32]:
        """Return the probabilities of the classes, (N, K, h, w) float32, of what `logits` returned."""
        with torch.inference_mode():
            outputs = Outputs(logits, len(self.checkpoint.classes), self.blends)
            shares: NDArray[np.float32] = outputs.shares().cpu().numpy()
        return shares

    def probabilities(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probabilities of windows, (N, K, h, w) float32; errors as in `logits`."""
        return self.shares(self.logits(windows))

    def arithmetic(self) -> AbstractContextManager[None]:
        """Return a context in which cuDNN does not time its kernels against each other, nor takes those that add up in
        any order, nor rounds float32 to 10 bits but for tf32."""
        if self.device.type != "cuda":
            return nullcontext()
        return torch.backends.cudnn.flags(
            enabled=True, benchmark=False, deterministic=True, allow_tf32=self.precision == "tf32"
        )

    def by_rows(self, kinds: tuple[str, ...], width: int) -> ByRows | None:
        """Return what computes windows of a legal width, px, from top to bottom, to the same bits as `planes`.

        None on a GPU, for narrow windows, for programs, where passes are blended, and for networks that do what cannot
        be done by rows.
        """
        if self._shapes is None or not self.geometry.exact or width < self.smallest_window:
            return None
        if width not in self._recordings:
            self._recordings[width] = None
            with suppress(NotByRows):
                self._recordings[width] = record(self._shapes, (self.checkpoint.in_channels, width, width))
        recording, finish = self._recordings[width], self.finish(kinds)
        if recording is None:
            return None
        return ByRows(
            recording, self._networks[0], self.geometry.margin, self._dtype, lambda logits: finish(self._finite(logits))
        )

    def window_planes(self, window: Tensor, kinds: tuple[str, ...], edge: int) -> tuple[Tensor, Tensor]:
        """Return the planes of one scaled window (H, W, C) on the device, without waiting for it.

        Args:
            edge: px of the output that are kept.

        Returns:
            (P, edge, edge) uint8, and whether all logits are finite numbers; both on the device.
        """
        channels = self.checkpoint.in_channels
        x = window.to(self._dtype).expand(*window.shape[:2], channels)[None].permute(0, 3, 1, 2)
        logits = self._on_device(x.contiguous(memory_format=torch.channels_last), edge)
        return self.finish(kinds)(logits)[0], torch.isfinite(logits).all()

    def fitting_edge(self, length: int, shape: tuple[int, int]) -> int:
        """Return the smallest legal output edge that writes `length` px, or two margins, at once, or the whole image.

        Args:
            shape: of the image, px.
        """
        length = min(max(length, 2 * self.geometry.margin), max(shape))
        return self.geometry.smallest_output_edge(max(length, SMALLEST_OUTPUT_EDGE))

    def maps_bytes(self, window_edge: int, scratch: float) -> int:
        """Return about how many bytes the feature maps of one window take.

        Args:
            scratch: times the feature maps: with what libraries take beside them.
        """
        window = max(window_edge, self.smallest_window)
        cost = measure_cost(self.checkpoint.build_shapes(), self.checkpoint.in_channels, window)
        return int(scratch * self.item_bytes / 4 * cost.peak_bytes)

    @property
    def overflow(self) -> str:
        """What to say where the model's output is not a finite number."""
        return f"the model overflows in {self.precision}: its output is not a finite number; use another --precision"

    @property
    def item_bytes(self) -> int:
        """Bytes of a number in a feature map."""
        return self._dtype.itemsize

    @property
    def parameter_bytes(self) -> int:
        """Bytes of the parameters on the device."""
        members = self.checkpoint.members or (self.checkpoint,)
        return self.item_bytes * sum(tensor.numel() for member in members for tensor in member.parameters.values())

    def finish(self, kinds: tuple[str, ...]) -> Callable[[Tensor], Tensor]:
        """Return what makes planes (N, P, h, w) of what `logits` returns, after whose classes may come a depth."""
        return make_planes(kinds, len(self.checkpoint.classes), blended=self.blends)

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
                self.__dict__.pop("engine", None)  # its memory is of more use here
            torch.cuda.empty_cache()
            try:
                return self._finite(self._on_device(x))
            except torch.OutOfMemoryError as error:
                raise InputError(
                    f"the GPU's memory does not hold {len(x)} windows of {max(x.shape[2:])} px: give a smaller --tile"
                ) from error

    def _on_device(self, x: Tensor, most: int | None = None) -> Tensor:
        """Return the logits (N, K, h, w) float32 of windows (N, C, H, W), channels last, or means of probabilities;
        of h and w at most `most`."""
        if not self.blends:
            return self._pass(self._networks[0], x, most)
        total: Tensor | None = None
        ways = _WAYS if self.checkpoint.tta else _WAYS[:1]
        for axes in ways:
            turned = x.flip(axes).contiguous(memory_format=torch.channels_last) if axes else x
            for network in self._networks:
                logits = self._pass(network, turned, None)
                logits = (logits.flip(axes) if axes else logits)[:, :, :most, :most].contiguous()
                shares = Outputs(logits, len(self.checkpoint.classes)).blend()
                total = shares if total is None else total.add_(shares)
        assert total is not None
        return total.div_(len(ways) * len(self._networks))

    def _pass(self, network: nn.Module, x: Tensor, most: int | None) -> Tensor:
        """Return the logits of one network, without the margin."""
        margin = self.geometry.margin
        height, width = (edge - 2 * margin if most is None else min(most, edge - 2 * margin) for edge in x.shape[2:])
        missing = self.smallest_window - min(x.shape[2:])
        if missing > 0:  # the zeros lie outside the margin of every output pixel that is kept
            x = F.pad(x, (0, missing, 0, missing)).contiguous(memory_format=torch.channels_last)
        logits: Tensor = network(x)
        cut = (logits.shape[2] - x.shape[2] + 2 * margin) // 2  # a network that pads puts its margin out, too
        return logits[:, :, cut : cut + height, cut : cut + width].float().contiguous()

    def _finite(self, logits: Tensor) -> Tensor:
        """Return the logits.

        Raises:
            InputError: one of them is not a finite number.
        """
        if not bool(torch.isfinite(logits).all()):
            raise InputError(self.overflow)
        return logits
