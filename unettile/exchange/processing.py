"""Processing: what a bioimage.io description has done before and after its network, in our terms.

    image ── scaling ──▶ window ── before ──▶ network ──▶ output ── after ──▶ logits
             of the whole image                             └────── said ────▶ what the description calls its output

What depends on the whole image (percentiles, mean and deviation) is measured once, as our own scaling is. Everything
else is done pixel by pixel. A class is what has a probability above a half, or above the threshold that is said.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from msgspec import Meta
from torch import Tensor, nn

from unettile.exchange.foreign import Standardize, Unsoftmax
from unettile.exchange.rdf import Operation
from unettile.exchange.rdf import Tensor as Described
from unettile.images.normalize import Normalization
from unettile.typed import Finite, Unfit, from_plain, said

ROOM = 2.0**20
"""Scaled intensities reach so far beyond 0 and 1 before they are clipped; a power of two, which rounds nothing."""

_Values = Finite | Annotated[list[Finite], Meta(min_length=1, max_length=1024)]
_WITHIN = 1e-3  # of 1: what sums of probabilities may differ by


@dataclass(frozen=True)
class _Arguments:
    """Arguments of all operations; each takes some of them."""

    mode: str = ""
    axes: Any = None
    axis: Any = None
    mean: _Values = 0.0
    std: _Values = 1.0
    gain: _Values = 1.0
    offset: _Values = 0.0
    min: Finite = -1e300
    max: Finite = 1e300
    threshold: _Values = 0.5
    min_percentile: Annotated[float, Meta(ge=0, le=100)] = 0.0
    max_percentile: Annotated[float, Meta(ge=0, le=100)] = 100.0
    eps: Annotated[float, Meta(ge=0, le=1)] = 1e-6
    dtype: str = "float32"
    reference_tensor: Any = None


class Affine(nn.Module):
    """Multiply and add, one number of each channel or of all."""

    gain: Tensor
    offset: Tensor

    def __init__(self, gain: tuple[float, ...], offset: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("gain", torch.tensor(gain)[:, None, None])
        self.register_buffer("offset", torch.tensor(offset)[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain + self.offset


class Clip(nn.Module):
    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(self.low, self.high)


class Binarize(nn.Module):
    """1 above a threshold, one of each channel or of all, else 0."""

    threshold: Tensor

    def __init__(self, threshold: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("threshold", torch.tensor(threshold)[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return (x > self.threshold).to(x.dtype)


class BesideBackground(nn.Module):
    """The logit of the background, 0, before those of classes that do not exclude each other."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(z[:, :1]), z], dim=1)


@dataclass(frozen=True)
class Ending:
    """What is made of a network's output.

    Args:
        after: logits, the background's first.
        told: what the description says of it, for who compares with its test.
        excluding: the network's first channel is the background.
        words: how the output was understood.
    """

    after: nn.Module
    told: nn.Module
    excluding: bool
    words: str


def beginning(operations: Sequence[Operation], described: Described) -> tuple[Normalization, nn.Module]:
    """Return how intensities are scaled, and what is done with windows then.

    Raises:
        Unfit: an operation, or an order of them, that is not known here.
    """
    normalization, steps = Normalization(intensities=(0.0, 1.0), room=ROOM), nn.Sequential()
    gain, seen = 1.0, False
    steps.append(Affine((ROOM,), (0.0,)))
    for number, operation in enumerate(operations):
        given = _arguments(operation)
        if not _of_whole(operation.name, given):
            step = _step(operation.name, given)
            if step is not None:
                steps.append(step)
            continue
        scale = _scale_alone(steps) if not seen else None
        if scale is None:
            raise Unfit(f"{operation.name} stands after {operations[number - 1].name}: need what is measured first")
        gain, seen = scale, True
        normalization = _measured(operation.name, given, gain, described)
        steps = nn.Sequential(Affine((ROOM,), (0.0,)))
    return normalization, steps


def ending(operations: Sequence[Operation], described: Described, example: Callable[[], Tensor | None]) -> Ending:
    """Return what is made of an output.

    Args:
        example: gives one of the output (N, K, h, w) after these operations; None if there is none.

    Raises:
        Unfit: an operation that is not known here, or an output that is no classes.
    """
    before, told, activation, cut = nn.Sequential(), nn.Sequential(), "", False
    threshold: tuple[float, ...] = (0.5,)
    for operation in operations:
        given, name = _arguments(operation), operation.name
        step = None if _of_whole(name, given) else _step(name, given)
        if _of_whole(name, given):
            raise Unfit(f"{name} after the network makes images, not classes")
        if step is None:
            continue
        told.append(step)
        if name in ("sigmoid", "softmax") and not activation:
            activation = name
        elif name == "binarize":
            threshold, cut = _many(given.threshold), True
        elif activation or cut:
            if name != "clip":
                raise Unfit(f"{name} after {activation or 'binarize'} makes images, not classes")
        else:
            before.append(step)
    steps = nn.Sequential(*list(before))
    if activation == "softmax":
        return Ending(steps, told, True, "softmax of exclusive classes")
    if activation == "sigmoid":
        words = "sigmoid of each class, the background where all are low"
    elif cut and described.range != (0.0, 1.0):
        return Ending(
            nn.Sequential(*steps, Affine((1.0,), tuple(-t for t in threshold)), BesideBackground()),
            told,
            False,
            f"classes above {', '.join(f'{t:g}' for t in threshold)}",
        )
    else:
        excluding = _are_probabilities(example(), described)
        if excluding:
            return Ending(nn.Sequential(*steps, Unsoftmax()), told, True, "probabilities of exclusive classes")
        steps.append(_Unsigmoid())
        words = "probability of each class, the background where all are low"
    if any(not 0 < t < 1 for t in threshold):
        raise Unfit(f"a threshold of {said(list(threshold))} is no probability")
    if threshold != (0.5,):
        steps.append(Affine((1.0,), tuple(-math.log(t / (1 - t)) for t in threshold)))
        words += f", thresholds {', '.join(f'{t:g}' for t in threshold)}"
    steps.append(BesideBackground())
    return Ending(steps, told, False, words)


class _Unsigmoid(nn.Module):
    def forward(self, p: Tensor) -> Tensor:
        return torch.logit(p.clamp(1e-7, 1 - 1e-7))


def _are_probabilities(example: Tensor | None, described: Described) -> bool:
    """Whether an output's channels exclude each other; refuse what is no probability."""
    if example is None or example.min() < -_WITHIN or example.max() > 1 + _WITHIN:
        seen = "" if example is None else f", and its test reaches from {example.min():.3g} to {example.max():.3g}"
        raise Unfit(
            f"nothing says that the output {described.name!r} has probabilities{seen}: need sigmoid or softmax after it"
        )
    return example.shape[1] > 1 and bool((example.sum(dim=1) - 1).abs().max() < _WITHIN)


def _arguments(operation: Operation) -> _Arguments:
    try:
        return from_plain(operation.given, _Arguments)
    except Unfit as error:
        raise Unfit(f"{operation.name}: {error}") from error


def _of_whole(name: str, given: _Arguments) -> bool:
    """Whether an operation needs to know the whole image."""
    return name in ("scale_range", "scale_mean_variance") or (
        name == "zero_mean_unit_variance" and given.mode != "fixed"
    )


def _step(name: str, given: _Arguments) -> nn.Module | None:
    """Return what is done pixel by pixel; None for nothing."""
    if name == "scale_linear":
        return Affine(_many(given.gain), _many(given.offset))
    if name in ("zero_mean_unit_variance", "fixed_zero_mean_unit_variance"):
        if any(value <= 0 for value in _many(given.std)):
            raise Unfit(f"{name} has a deviation of {said(given.std)}: need numbers above 0")
        return Standardize(_many(given.mean), _many(given.std))
    if name == "clip":
        return Clip(given.min, given.max)
    if name == "sigmoid":
        return nn.Sigmoid()
    if name == "softmax":
        return nn.Softmax(dim=1)
    if name == "binarize":
        return Binarize(_many(given.threshold))
    if name == "ensure_dtype" and given.dtype.startswith("float"):
        return None
    raise Unfit(f"the operation {name}{f' to {given.dtype}' if name == 'ensure_dtype' else ''} is not known here")


def _measured(name: str, given: _Arguments, gain: float, described: Described) -> Normalization:
    """Return the scaling of an operation that needs to know the whole image."""
    if name == "scale_mean_variance" or given.reference_tensor not in (None, described.name):
        raise Unfit(f"{name} takes its figures from another tensor, which is not known here")
    if given.mode == "per_dataset":
        raise Unfit(f"{name} takes its figures from a whole data set, which is not known here")
    axes = described.axes if given.axes is None else _letters(given.axes, described)
    if not {"y", "x"} <= set(axes):
        raise Unfit(f"{name} measures along {said(given.axes)}: need both axes of the image")
    per_channel = "c" not in axes and "c" in described.axes
    eps = given.eps / gain
    if name == "zero_mean_unit_variance":
        return Normalization(per_channel=per_channel, moments=True, room=ROOM, eps=eps)
    try:
        return Normalization(given.min_percentile, given.max_percentile, per_channel, room=ROOM, eps=eps)
    except ValueError as error:
        raise Unfit(f"{name}: {error}") from error


def _letters(axes: Any, described: Described) -> str:
    if isinstance(axes, str):
        return axes
    named = dict(zip(described.ids, described.axes, strict=True))
    return "".join(named.get(str(axis), "?") for axis in axes) if isinstance(axes, list) else ""


def _scale_alone(steps: nn.Sequential) -> float | None:
    """Return the factor of steps that do nothing but multiply by one number above 0, and add; None for others."""
    gain = 1.0
    for step in list(steps)[1:]:
        if not isinstance(step, Affine) or step.gain.numel() != 1 or step.offset.numel() != 1 or step.gain <= 0:
            return None
        gain *= float(step.gain)
    return gain


def _many(values: float | list[float]) -> tuple[float, ...]:
    return tuple(values) if isinstance(values, list) else (values,)
