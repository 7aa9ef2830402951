"""ONNX graphs of strangers: checked before anything computes with them, and what can be read off them.

A graph holds no code, but may name operators of libraries, and files anywhere. Here it may have the standard operators
alone, and data in other files only where the caller finds them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

from unettile.errors import InputError
from unettile.networks.cost import Cost

MOST_BYTES = 2**31 - 1
"""Of a model with its data: more no protocol buffer holds."""

_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
_REFUSED = ("Loop", "Scan", "EPContext", "RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike")
_EXPORT = "torch.onnx.export(net.eval(), (x,), dynamo=True, dynamic_shapes=({0: AUTO, 2: AUTO, 3: AUTO},))"

External = Callable[[str, int, int | None], bytes]
"""Gives bytes of another file: its name, the first of them and how many, None for all."""


@dataclass(frozen=True)
class OnnxGraph:
    """A model that was checked.

    Args:
        model: with all its data inside.
        image, result: names of its input and of its first output.
        shape: of the input; None where it is free.
        inside: what a file of ours says of itself.
    """

    model: ModelProto
    image: str
    result: str
    shape: tuple[int | None, ...]
    inside: str | None

    def with_averages(self) -> ModelProto:
        """Return the same graph with means in the place of maxima, of the same pixels: NaN goes through them."""
        changed = ModelProto()
        changed.CopyFrom(self.model)
        for node in nodes_of(changed):
            if node.op_type == "MaxPool" and len(node.output) == 1:
                node.op_type = "AveragePool"
                kept = [entry for entry in node.attribute if entry.name != "storage_order"]
                del node.attribute[:]
                node.attribute.extend(kept)
        return changed

    def parameters(self) -> dict[str, NDArray[Any]]:
        """Return its fractional numbers, by name."""
        named = [tensor for tensor in self.model.graph.initializer if tensor.data_type == TensorProto.FLOAT]
        return {tensor.name: np.array(onnx.numpy_helper.to_array(tensor)) for tensor in named}

    def cost(self, window: tuple[int, ...]) -> Cost:
        """Return what a window of some shape costs; feature maps whose size cannot be told count as the largest."""
        model = ModelProto()
        model.CopyFrom(self.model)
        entry = next(entry for entry in model.graph.input if entry.name == self.image)
        for dim, length in zip(entry.type.tensor_type.shape.dim, window, strict=True):
            dim.dim_value = length
        for value in (*model.graph.output, *model.graph.value_info):
            value.type.tensor_type.ClearField("shape")
        graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
        weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
        shapes = {value.name: _shape(value) for value in (*graph.input, *graph.value_info, *graph.output)}
        sizes = {name: 4 * int(np.prod([int(n or 0) for n in shape])) for name, shape in shapes.items() if shape}
        largest = max(sizes.values(), default=0)
        last = {name: number for number, node in enumerate(graph.node) for name in node.input}
        live, peak, flops = {self.image: sizes.get(self.image, largest)}, 0, 0
        for number, node in enumerate(graph.node):
            spatial = node.op_type in ("Conv", "ConvTranspose")
            for name in node.output:
                live[name] = sizes.get(name) or (largest if spatial else 0)
            peak = max(peak, sum(live.values()))
            if spatial and node.input[1] in weights:
                over = node.output[0] if node.op_type == "Conv" else node.input[0]
                shape, taps = shapes.get(over) or (), weights[node.input[1]]
                pixels = (sizes.get(over) or largest) // 4 // max(1, (shape or (1, 1))[1] or 1)
                flops += 2 * pixels * int(np.prod(taps))
            live = {name: size for name, size in live.items() if last.get(name, 0) > number}
        return Cost(flops, peak)


def read_graph(data: bytes, path: Path, external: External) -> OnnxGraph:
    """Read and check a model.

    Args:
        path: for messages.
        external: gives what lies in other files; raises InputError where they may not be read.

    Raises:
        InputError: no ONNX, operators that are not standard, or no network of one image of any size.
    """
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protocol buffers' own, of several versions
        raise InputError(f"{path} is no ONNX file: {str(error).splitlines()[0][:200]}") from error
    own = {(function.domain, function.name) for function in model.functions}
    for node in nodes_of(model):
        if (node.domain, node.op_type) not in own and node.domain not in _DOMAINS:
            raise InputError(
                f"{path} needs the operator {node.op_type[:80]!r} of {node.domain[:80]!r}, which is none of ONNX:"
                " libraries of operators are not loaded"
            )
        if node.op_type in _REFUSED:
            raise InputError(f"{path} has the operator {node.op_type}, which no network of pixels needs")
    for tensor in _tensors_of(model):
        if tensor.data_location == TensorProto.EXTERNAL:
            _take_in(tensor, path, external)
    if model.ByteSize() > MOST_BYTES:
        raise InputError(f"{path} has more than {MOST_BYTES} bytes with its data: need less")
    image, shape = _image(model.graph, path)
    if not model.graph.output:
        raise InputError(f"{path} has no output: need logits or probabilities")
    inside = next((entry.value for entry in model.metadata_props if entry.key == "unettile"), None)
    return OnnxGraph(model, image, model.graph.output[0].name, shape, inside)


def nodes_of(model: ModelProto) -> Iterator[NodeProto]:
    """Yield all nodes, those of functions and of branches, too."""
    todo = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    while todo:
        node = todo.pop()
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                todo.extend(graph.node)


def _tensors_of(model: ModelProto) -> Iterator[TensorProto]:
    graphs = [model.graph]
    for node in nodes_of(model):
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                yield attribute.t
            yield from attribute.tensors
            graphs.extend((attribute.g, *attribute.graphs))
    for graph in graphs:
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)


def _take_in(tensor: TensorProto, path: Path, external: External) -> None:
    """Bring the data of a tensor from another file into the model."""
    said = {entry.key: entry.value for entry in tensor.external_data}
    start, length = said.get("offset", "0"), said.get("length")
    if not start.isdecimal() or not (length is None or length.isdecimal()):
        raise InputError(
            f"{path} says that data begin at {start[:40]!r} of another file: need a number; export it again"
        )
    data = external(said.get("location", ""), int(start), None if length is None else int(length))
    width = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    if len(data) != width * int(np.prod(tensor.dims, dtype=np.int64)):
        raise InputError(
            f"{path} has {len(data)} bytes of {tensor.name[:80]!r} beside it, not as many as its shape needs"
        )
    tensor.raw_data = data
    tensor.data_location = TensorProto.DEFAULT
    del tensor.external_data[:]


def _image(graph: GraphProto, path: Path) -> tuple[str, tuple[int | None, ...]]:
    """Return the name and the shape of the one input."""
    given = {tensor.name for tensor in graph.initializer}
    inputs = [entry for entry in graph.input if entry.name not in given]
    if len(inputs) != 1:
        raise InputError(f"{path} takes {len(inputs)} inputs: need one, (N, C, H, W)")
    kind, shape = inputs[0].type.tensor_type, _shape(inputs[0])
    if kind.elem_type != TensorProto.FLOAT:
        name = TensorProto.DataType.Name(kind.elem_type).lower()
        raise InputError(f"{path} takes windows of type {name}: need float (float32); export it again")
    if shape is None or len(shape) != 4:
        raise InputError(
            f"{path} takes an input of {'no' if shape is None else len(shape)} axes: need four, (N, C, H, W)"
        )
    return inputs[0].name, shape


def fixed_edges(graph: OnnxGraph, axes: str) -> tuple[int, ...]:
    """Return the edges, px, of windows of one size; none where they are free.

    Args:
        axes: of the input, such as bcyx.
    """
    return tuple(length for name, length in zip(axes, graph.shape, strict=True) if name in "yx" and length)


def freed(graph: OnnxGraph, axes: str) -> OnnxGraph:
    """Return the same network without the sizes that it states: for any, as far as its steps allow."""
    model = ModelProto()
    model.CopyFrom(graph.model)
    entry = next(entry for entry in model.graph.input if entry.name == graph.image)
    for name, dim in zip(axes, entry.type.tensor_type.shape.dim, strict=True):
        if name in "yx":
            dim.Clear()
    for value in (*model.graph.output, *model.graph.value_info):
        value.type.tensor_type.ClearField("shape")
    shape = tuple(None if name in "yx" else length for name, length in zip(axes, graph.shape, strict=True))
    return replace(graph, model=model, shape=shape)


def only_fixed(edges: tuple[int, ...], path: Path) -> InputError:
    """Return what to say of a network for windows of one size that takes no others, whatever it states."""
    sizes = " × ".join(f"{edge} px" for edge in edges)
    return InputError(f"{path} takes windows of {sizes} alone: export it for any size, by {_EXPORT}")


def _shape(value: onnx.ValueInfoProto) -> tuple[int | None, ...] | None:
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return None
    return tuple(dim.dim_value if dim.dim_value > 0 else None for dim in kind.shape.dim)
