"""Recording a network: it is run once on shapes alone, and its layers and the functions between them are noted, each
with the rows of its input that a row of its output depends on (see `unettile.networks.graph`)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from unettile.networks.graph import POINTWISE, Graph, RowMap, Step
from unettile.networks.shapes import ShapesAlone

Apply = Callable[[Tensor], Tensor]

_POINTWISE = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.Sigmoid, nn.Identity, nn.Dropout, nn.BatchNorm2d)
_POINTWISE_FUNCTIONS = (F.relu, F.relu6, torch.relu, torch.sigmoid, torch.zeros_like, F.leaky_relu)
_SUMS = (torch.add, Tensor.add, Tensor.add_, Tensor.__add__, Tensor.__iadd__)


class NotByRows(Exception):
    """A network does something of which it is not known which rows it depends on."""


@dataclass(frozen=True)
class Recording:
    """What was noted of a network.

    Args:
        graph: its steps.
        functions: what is done by functions instead of layers, by the number of the feature map that they make.
    """

    graph: Graph
    functions: Mapping[int, Apply]


def shapes_of(network: nn.Module) -> nn.Module:
    """Return a copy of a network that has shapes in the place of parameters, to `record` from; it takes no memory."""
    tensors = (*network.parameters(), *network.buffers())
    return copy.deepcopy(network, {id(tensor): _shape_of(tensor) for tensor in tensors})


def record(network: nn.Module, shape: tuple[int, int, int]) -> Recording:
    """Note what a network does to a window of `shape` (C, H, W); nothing is computed.

    Args:
        network: as `shapes_of` returns it, in eval mode.

    Raises:
        NotByRows: it does something else than convolve, pool, enlarge, crop, join and map point by point.
    """
    dtype = next((parameter.dtype for parameter in network.parameters()), torch.float32)
    window = torch.empty(1, *shape, dtype=dtype, device="meta")
    recorder = _Recorder(network, window)
    try:
        with torch.inference_mode(), ShapesAlone(), recorder:
            output = network(window)
    finally:
        recorder.remove_hooks()
    if recorder.number(output) != len(recorder.heights) - 1:
        raise NotByRows("its output is not what it computed last")
    item = next((parameter.element_size() for parameter in network.parameters()), 4)
    graph = Graph(tuple(recorder.steps), tuple(recorder.heights), tuple(recorder.channels), item)
    return Recording(graph, recorder.functions)


class _Recorder(TorchFunctionMode):
    """Notes layers by hooks, and functions outside of layers by torch's own dispatch."""

    def __init__(self, network: nn.Module, window: Tensor) -> None:
        super().__init__()
        self.steps: list[Step] = []
        self.functions: dict[int, Apply] = {}
        self.heights, self.channels = [int(window.shape[2])], [int(window.shape[1])]
        self._numbers = {id(window): 0}
        self._alive: list[Tensor] = [window]  # an id is of use only as long as its object lives
        self._inside = 0
        self._hooks: list[RemovableHandle] = []
        for name, module in network.named_modules():
            if isinstance(module, (*_POINTWISE, nn.Conv2d, nn.ConvTranspose2d, nn.MaxPool2d, nn.Upsample)):
                self._hooks.append(module.register_forward_pre_hook(self._enter))
                self._hooks.append(module.register_forward_hook(self._leave(name)))

    def remove_hooks(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def number(self, tensor: Tensor) -> int:
        """Return the number of a feature map.

        Raises:
            NotByRows: it came from elsewhere.
        """
        try:
            return self._numbers[id(tensor)]
        except KeyError:
            raise NotByRows("it uses a tensor that is no feature map") from None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if self._inside or not isinstance(result, Tensor) or result.ndim != 4:
            return result
        if func is torch.cat:
            parts, axis = args[0], kwargs.get("dim", args[1] if len(args) > 1 else 0)
            if axis != 1:
                raise NotByRows("it joins feature maps along another axis than the channels")
            self._note(result, tuple(parts), join="cat")
        elif func in _SUMS and isinstance(args[1], Tensor):
            self._note(result, (args[0], args[1]), join="add")
        elif func is Tensor.__getitem__:
            self._crop(result, args[0], args[1])
        elif func in _POINTWISE_FUNCTIONS:
            options = {**kwargs, "inplace": False} if "inplace" in kwargs else kwargs
            self._note(result, (args[0],), apply=lambda x: func(x, *args[1:], **options))
        elif func in (F.max_pool2d, torch.max_pool2d):
            raise NotByRows("it pools by a function: use a layer")
        else:
            raise NotByRows(f"it calls {getattr(func, '__name__', func)}")
        return result

    def _crop(self, result: Tensor, source: Tensor, index: Any) -> None:
        entries = index if isinstance(index, tuple) else (index,)
        if len(entries) != 4 or not all(isinstance(one, slice) and one.step in (None, 1) for one in entries):
            raise NotByRows("it takes parts of a feature map otherwise than by cropping")
        if result.shape[:2] != source.shape[:2]:
            raise NotByRows("it takes some channels of a feature map")
        top, _, _ = entries[2].indices(int(source.shape[2]))
        columns = entries[3]
        self._note(result, (source,), RowMap(before=-top, after=top), apply=lambda x: x[:, :, :, columns])

    def _enter(self, module: nn.Module, args: Any) -> None:
        self._inside += 1

    def _leave(self, name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def note(module: nn.Module, args: Any, result: Tensor) -> None:
            self._inside -= 1
            self._note(result, (args[0],), rows_of(module), layer=name)

        return note

    def _note(
        self,
        result: Tensor,
        sources: tuple[Tensor, ...],
        rows: RowMap = POINTWISE,
        *,
        join: str | None = None,
        layer: str | None = None,
        apply: Apply | None = None,
    ) -> None:
        inputs = tuple(self.number(source) for source in sources)
        self.steps.append(Step(inputs, len(self.heights), join, rows, layer))
        if apply is not None:
            self.functions[len(self.heights)] = apply
        self._numbers[id(result)] = len(self.heights)
        self._alive.append(result)
        self.heights.append(int(result.shape[2]))
        self.channels.append(int(result.shape[1]))


def _shape_of(tensor: Tensor) -> Tensor:
    empty = tensor.detach().to("meta")
    return nn.Parameter(empty, requires_grad=False) if isinstance(tensor, nn.Parameter) else empty


def rows_of(layer: nn.Module) -> RowMap:
    """Return which rows a layer depends on.

    Raises:
        NotByRows: it is none of those that are known.
    """
    if isinstance(layer, _POINTWISE):
        return POINTWISE
    if isinstance(layer, nn.Conv2d | nn.MaxPool2d):
        kernel, stride, dilation = (_rows(getattr(layer, name)) for name in ("kernel_size", "stride", "dilation"))
        padding = _rows(layer.padding)
        fill = 0.0 if isinstance(layer, nn.Conv2d) else float("-inf")
        return RowMap(down=stride, before=padding, after=dilation * (kernel - 1) - padding, fill=fill)
    if isinstance(layer, nn.ConvTranspose2d):
        kernel, stride, padding = (_rows(getattr(layer, name)) for name in ("kernel_size", "stride", "padding"))
        if _rows(layer.dilation) != 1 or padding > kernel + _rows(layer.output_padding) - stride:
            raise NotByRows("a transposed convolution is dilated, or padded by more than its kernel reaches")
        # row o sums the taps t = o + padding - stride · i in 0 … kernel - 1 over the input rows i
        return RowMap(up=stride, before=kernel - 1 - padding - (stride - 1), after=padding)
    assert isinstance(layer, nn.Upsample)
    factor = layer.scale_factor
    if not isinstance(factor, float) or factor != int(factor) or layer.mode not in ("nearest", "bilinear"):
        raise NotByRows(f"{layer} does not enlarge by a whole factor")
    if layer.mode == "nearest":
        return RowMap(up=int(factor))
    half, odd = divmod(int(factor), 2)  # centres at half pixels: the row's own and the nearer neighbour
    return RowMap(up=int(factor), before=half, after=half + odd)


def _rows(value: Any) -> int:
    if isinstance(value, str):
        raise NotByRows(f"padding {value!r} is not a number")
    return int(value[0] if isinstance(value, tuple | list) else value)
