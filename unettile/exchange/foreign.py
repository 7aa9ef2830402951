"""Foreign: a network from elsewhere, as our networks are, and the checkpoint that is made of it.

Its geometry is measured by probing, unless its file declares one, which is checked: the sizes of two windows, and noise
in windows of two sizes. Whether tiles agree is measured in either case.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unettile.checkpoint import Checkpoint, ClassInfo
from unettile.errors import InputError
from unettile.exchange.sidecar import Sidecar
from unettile.geometry import Geometry
from unettile.images.colours import distinct_colours
from unettile.networks.blocks import class_logits
from unettile.networks.cost import Cost, Costed
from unettile.networks.difference import measure_difference
from unettile.probing import Forward, Measurement, measure_geometry

_ROUNDING = 1e-4  # of a probability: what kernels chosen by size may differ by
_CONTEXT = 256  # px: the margin of a program that looks at all of its window


class ForeignNetwork(nn.Module):
    """A program as our networks are: float windows (N, C, H, W) to one logit a class, (N, K, h, w).

    Args:
        program: takes what `before` makes of windows; of several outputs the first counts.
        before, after: what is done to windows, and to the output.
        one_at_a_time: the program takes one window alone.
        devices: kinds of device that it computes on.
    """

    def __init__(
        self,
        program: nn.Module,
        before: nn.Module,
        after: nn.Module,
        *,
        one_at_a_time: bool = False,
        devices: tuple[str, ...] = ("cuda", "cpu"),
    ) -> None:
        super().__init__()
        self.program, self.before, self.after = program, before, after
        self.one_at_a_time = one_at_a_time
        self.devices = devices

    def forward(self, x: Tensor) -> Tensor:
        if self.one_at_a_time and len(x) > 1:
            return torch.cat([self.forward(x[i : i + 1]) for i in range(len(x))])
        result = self.program(self.before(x))
        while not isinstance(result, Tensor):  # side outputs stand after the main one
            result = next(iter(result.values())) if isinstance(result, dict) else result[0]
        return class_logits(self.after(result))

    def window_cost(self, channels: int, edge: int) -> Cost | None:
        """Return what a window costs, if the program says so: it is no module of torch's."""
        return self.program.window_cost(channels, edge) if isinstance(self.program, Costed) else None


class Standardize(nn.Module):
    """Subtract a mean and divide by a deviation, one of each channel or of all."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class Unsoftmax(nn.Module):
    """Logits of probabilities: of one class those of its sigmoid, of several those of their softmax."""

    def forward(self, p: Tensor) -> Tensor:
        p = p.clamp(1e-7, 1 - 1e-7)
        return torch.logit(p) if p.shape[1] == 1 else p.log()


def wrap(program: nn.Module, sidecar: Sidecar, *, one_at_a_time: bool, devices: tuple[str, ...]) -> ForeignNetwork:
    """Return a program with what its sidecar says of its input and output."""
    before = Standardize(sidecar.mean, sidecar.std) if sidecar.mean else nn.Identity()
    after = Unsoftmax() if sidecar.output == "probabilities" else nn.Identity()
    return ForeignNetwork(program, before, after, one_at_a_time=one_at_a_time, devices=devices)


def adopt(
    network: ForeignNetwork, sidecar: Sidecar, channels: int, name: str, path: Path, probe: nn.Module | None = None
) -> Checkpoint:
    """Return the checkpoint of a network from elsewhere, without its hash.

    Args:
        name: what it is, in the place of a network's name.
        path: of the file, for messages.
        probe: the same network with steps that NaN goes through; None if it is one already.

    Raises:
        InputError: it is no fully convolutional network of one image, or not what the sidecar says.
    """
    if len(sidecar.mean) not in (0, 1, channels):
        raise InputError(f"{path} has {len(sidecar.mean)} mean values, the program takes {channels} channels")
    if sidecar.geometry is None:
        measured = _measure(_forward_of(probe or network), channels, path)
    else:
        measured = _confirmed(_forward_of(network), sidecar.geometry, sidecar.receptive_field, channels, path)
    try:
        difference = measure_difference(network, measured.geometry, channels)
    except (ValueError, RuntimeError) as error:
        raise InputError(f"{path} is no network that can be tiled: {error}") from error
    exact = measured.geometry.exact and difference <= _ROUNDING
    if sidecar.geometry is not None and sidecar.geometry.exact and not exact:
        raise InputError(
            f"{path} declares a margin of {measured.geometry.margin} px, but its tiles differ by {difference:.2g} of a"
            " probability: remove the geometry, so that it is measured, or export it again"
        )
    if not exact:
        measured = Measurement(replace(measured.geometry, exact=False), None)
    edge = measured.geometry.input_edge(measured.geometry.smallest_output_edge(1))
    with torch.inference_mode():
        classes = network(torch.zeros(1, channels, edge, edge)).shape[1] - sidecar.depth
    names = sidecar.classes or ("background", *(f"class {k}" for k in range(1, classes)))
    if len(names) != classes:
        raise InputError(f"{path} is said to have {len(names)} classes, the program tells {classes} apart")
    colours = sidecar.colours or distinct_colours(classes)
    return Checkpoint(
        network=name,
        config={"in_channels": channels, "classes": classes + sidecar.depth},
        geometry=measured.geometry,
        normalization=sidecar.normalization,
        classes=tuple(ClassInfo(*pair) for pair in zip(names, colours, strict=True)),
        parameters=network.program.state_dict(),
        depth=sidecar.depth,
        grey_to_rgb=sidecar.grey_to_rgb,
        pixel_size_um=sidecar.pixel_size_um,
        card=sidecar.card or {},
        objects=sidecar.rules,
        objects_px=sidecar.objects_px,
        difference=None if exact else difference,
        module=network,
        measured_field=measured.receptive_field,
    )


def _forward_of(network: nn.Module) -> Forward:
    def forward(window: NDArray[np.float32]) -> NDArray[np.float32]:
        try:
            with torch.inference_mode():
                result: NDArray[np.float32] = network(torch.from_numpy(window)[None])[0].numpy()
        except AssertionError as error:  # the guards of a program
            raise ValueError(str(error)) from error
        return result

    return forward


def _measure(forward: Forward, channels: int, path: Path) -> Measurement:
    """Return what probing sees; of a network that looks at all of its window, a margin that is worth its cost."""
    try:
        measured = measure_geometry(forward, channels, field=True)
    except ValueError as error:
        raise InputError(f"{path} is no network that can be tiled: {error}") from error
    geometry = measured.geometry
    if geometry.exact:
        return measured
    margin = geometry.margin + -(-_CONTEXT // geometry.stride) * geometry.stride
    base = (geometry.base - 2 * (margin - geometry.margin)) % geometry.stride
    return Measurement(Geometry(margin, geometry.stride, base, exact=False), None)


def _confirmed(forward: Forward, geometry: Geometry, field: int | None, channels: int, path: Path) -> Measurement:
    """Return a declared geometry whose windows the network takes, and loses no more of than the margin."""
    edge = geometry.input_edge(geometry.smallest_output_edge(1))
    sizes = []
    for window in (edge, edge + geometry.stride):
        try:
            sizes.append(window - forward(np.zeros((channels, window, window), np.float32)).shape[-1])
        except (ValueError, RuntimeError) as error:
            raise InputError(f"{path} declares windows of {window} px, which its network does not take") from error
    if sizes[0] != sizes[1] or sizes[0] % 2 or not 0 <= sizes[0] <= 2 * geometry.margin:
        raise InputError(
            f"{path} declares a margin of {geometry.margin} px, but its windows lose {sizes[0]} and {sizes[1]} px:"
            " remove the geometry, so that it is measured, or export it again"
        )
    return Measurement(geometry, field)
