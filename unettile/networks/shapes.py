"""Shapes alone: what a network makes of a window, told by arithmetic on shapes, without computing anything.

torch can do so by itself, for tensors on its meta device, but loads its compiler for it, which takes a second at every
start. Here the operations that our networks consist of are answered directly; all others are left to torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

Pair = int | Sequence[int]


class ShapesAlone(TorchFunctionMode):
    """Within it, operations on meta tensors give meta tensors of the right shape.

    Args:
        on_result: told each tensor that an operation gives.

    Attributes:
        flops: floating-point operations of the convolutions so far; a product and its sum are two.
    """

    def __init__(self, on_result: Callable[[Tensor], None] = lambda tensor: None) -> None:
        super().__init__()
        self.flops = 0
        self._on_result = on_result

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        answer = _ANSWERS.get(func)
        result = answer(*args, **(kwargs or {})) if answer is not None and _on_meta(args) else None
        if result is None:
            result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self._on_result(result)
        if func is torch.conv2d:
            self.flops += 2 * result.numel() * args[1].shape[1:].numel()
        elif func is torch.conv_transpose2d:
            self.flops += 2 * args[0].shape[2:].numel() * len(args[0]) * args[1].numel()
        return result


def _on_meta(args: tuple[Any, ...]) -> bool:
    first = args[0][0] if args and isinstance(args[0], list | tuple) else args[0] if args else None
    return isinstance(first, Tensor) and first.is_meta and first.ndim == 4


def _like(x: Tensor, channels: int, height: int, width: int) -> Tensor:
    return torch.empty(len(x), channels, height, width, dtype=x.dtype, device="meta")


def _slid(length: int, kernel: int, stride: int, padding: int, dilation: int) -> int:
    return (length + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1


def _conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = 1,
    padding: Pair | str = 0,
    dilation: Pair = 1,
    groups: int = 1,
) -> Tensor | None:
    if isinstance(padding, str):
        return None
    axes = zip(x.shape[2:], weight.shape[2:], _pair(stride), _pair(padding), _pair(dilation), strict=True)
    height, width = (_slid(*axis) for axis in axes)
    return _like(x, len(weight), height, width)


def _conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Pair = 1,
    padding: Pair = 0,
    output_padding: Pair = 0,
    groups: int = 1,
    dilation: Pair = 1,
) -> Tensor:
    figures = (_pair(stride), _pair(padding), _pair(output_padding), _pair(dilation))
    height, width = (
        (length - 1) * step - 2 * border + reach * (kernel - 1) + more + 1
        for length, kernel, step, border, more, reach in zip(x.shape[2:], weight.shape[2:], *figures, strict=True)
    )
    return _like(x, weight.shape[1] * groups, height, width)


def _max_pool(
    x: Tensor,
    kernel_size: Pair,
    stride: Pair | None = None,
    padding: Pair = 0,
    dilation: Pair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor | None:
    if ceil_mode or return_indices:
        return None
    figures = (_pair(kernel_size), _pair(stride or kernel_size), _pair(padding), _pair(dilation))
    height, width = (_slid(*axis) for axis in zip(x.shape[2:], *figures, strict=True))
    return _like(x, x.shape[1], height, width)


def _cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor | None:
    if dim != 1:
        return None
    return _like(tensors[0], sum(tensor.shape[1] for tensor in tensors), *tensors[0].shape[2:])


def _interpolate(
    x: Tensor,
    size: Pair | None = None,
    scale_factor: float | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    if size is not None:
        height, width = _pair(size)
    else:
        assert scale_factor is not None
        height, width = (int(length * scale_factor) for length in x.shape[2:])
    return _like(x, x.shape[1], height, width)


def _same(x: Tensor, *rest: object, **options: object) -> Tensor:
    return _like(x, x.shape[1], *x.shape[2:])


def _leaky_relu(x: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    return x if inplace else _same(x)


def _relu(x: Tensor, inplace: bool = False) -> Tensor:
    return x if inplace else _same(x)


def _hardtanh(x: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    return x if inplace else _same(x)


def _pair(value: Pair) -> tuple[int, int]:
    height, width = (value, value) if isinstance(value, int) else value
    return height, width


_ANSWERS: dict[Any, Callable[..., Tensor | None]] = {
    torch.conv2d: _conv,
    torch.conv_transpose2d: _conv_transpose,
    torch.max_pool2d: _max_pool,
    F.max_pool2d: _max_pool,
    torch.cat: _cat,
    F.interpolate: _interpolate,
    F.batch_norm: _same,
    torch.batch_norm: _same,
    torch.zeros_like: _same,
    torch.relu: _same,
    torch.sigmoid: _same,
    F.relu: _relu,
    F.relu6: _relu,
    F.hardtanh: _hardtanh,
    F.leaky_relu: _leaky_relu,
    torch.add: _same,
    Tensor.add: _same,
    Tensor.__add__: _same,
}
