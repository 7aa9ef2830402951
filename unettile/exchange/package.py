"""Packages of bioimage.io: a model with its description and tests, in a zip or a folder.

Of its weights are taken, the first that is there: a state dict of a network of ours, ONNX, TorchScript (with trust).
Halos are not: the margin is measured.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor, nn

from unettile.checkpoint import Checkpoint, load_checkpoint
from unettile.errors import InputError
from unettile.exchange.foreign import ForeignNetwork, adopt
from unettile.exchange.packagefiles import PackageFiles
from unettile.exchange.packagetensors import example_of, tensor_of
from unettile.exchange.processing import beginning, ending
from unettile.exchange.rdf import Description, Weights, read_description
from unettile.exchange.rdf import Tensor as Described
from unettile.exchange.sidecar import Sidecar
from unettile.exchange.torchscript import read_script
from unettile.networks.cost import Cost
from unettile.typed import Unfit

NETWORK = "bioimage.io"
OURS = "unettile.exchange.probable.ProbableNetwork"
"""The architecture of state dicts that are taken."""

CostOf = Callable[[tuple[int, ...]], Cost]
"""From the shape of windows, in a network's own axes."""


@dataclass(frozen=True)
class Package:
    """A package that was read.

    Args:
        model: of it.
        told: makes of the network's output what the package calls its output.
        description: of it.
        files: of it.
    """

    model: Checkpoint
    told: nn.Module
    description: Description
    files: PackageFiles


def load_package(path: Path, *, trust: bool = False) -> Package:
    """Read a package.

    Args:
        path: of the zip, the folder, or the description in it.
        trust: TorchScript may be read although that runs code in it.

    Raises:
        InputError: damaged, or with what is not known here; the message names it.
    """
    files = PackageFiles.open(path)
    text = files.read(files.description, 2**20)
    description = read_description(text, path)
    try:
        image, output = _one_image(description)
        normalization, before = beginning(image.operations, image)
        end = ending(output.operations, output, lambda: example_of(files, output))
    except Unfit as error:
        raise InputError(f"{path} is a package that cannot be run here: {error}") from error
    digest = hashlib.sha256(text)
    ours = _ours(files, description, digest)
    if ours is not None:
        return Package(replace(ours, sha256=digest.hexdigest()), end.told, description, files)
    kind, weights = _chosen(description, path, trust=trust)
    program = _program(kind, _content(files, weights, digest), path, files, image, digest, trust=trust)
    network, probe = (
        ForeignNetwork(
            _Permuted(one, image.axes, output.axes, program.cost),
            before,
            end.after,
            one_at_a_time=program.one_at_a_time,
            devices=program.devices,
        )
        for one in (program.network, program.plain)
    )
    names = output.channels if end.excluding else ("background", *output.channels)
    sidecar = Sidecar(classes=names if output.channels else (), card=description.card | {"output": end.words})
    try:
        model = adopt(network, sidecar, program.channels, NETWORK, path, probe)
    except InputError as error:
        if not program.edges:
            raise
        from unettile.exchange.onnxgraph import only_fixed

        raise only_fixed(program.edges, path) from error
    model = replace(model, normalization=normalization, sha256=digest.hexdigest())
    return Package(model, end.told, description, files)


def _one_image(description: Description) -> tuple[Described, Described]:
    """Return the input and the output that are used."""
    if len(description.inputs) != 1 or not description.outputs:
        raise Unfit(f"it has {len(description.inputs)} inputs and {len(description.outputs)} outputs, need one image")
    for one in (description.inputs[0], description.outputs[0]):
        if not {"y", "x"} <= set(one.axes) or not set(one.axes) <= set("bcyx") or len(set(one.axes)) < len(one.axes):
            raise Unfit(f"{one.name or 'a tensor'} has the axes {', '.join(one.ids)}: need y, x, batch and channel")
    return description.inputs[0], description.outputs[0]


def _chosen(description: Description, path: Path, *, trust: bool) -> tuple[str, Weights]:
    for kind in ("onnx", "torchscript"):
        if kind in description.weights and (kind == "onnx" or trust):
            return kind, description.weights[kind]
    if "torchscript" in description.weights:
        raise InputError(
            f"{path} has TorchScript alone for weights, source code that runs when it is read: give --trust if you know"
            " who made it, or ask for ONNX"
        )
    found = ", ".join(description.weights) or "none"
    raise InputError(f"{path} has weights of kinds that are not taken ({found}): need onnx or torchscript")


def _content(files: PackageFiles, weights: Weights, digest: Any) -> bytes:
    data = files.read(weights.source)
    found = hashlib.sha256(data).hexdigest()
    if weights.sha256 and found != weights.sha256:
        raise InputError(f"{files.path}: {weights.source} is not what the description says (sha256): take a fresh copy")
    digest.update(data)
    return data


@dataclass(frozen=True)
class _Program:
    """A network as its file has it.

    Args:
        plain: the same, through which NaN goes everywhere.
        channels: of an image.
        one_at_a_time: it takes one window alone.
        devices: kinds of device that it computes on.
        cost: of windows of a shape, in the network's own axes; None where torch tells.
        edges: of windows, px, where the file states one size.
    """

    network: nn.Module
    plain: nn.Module
    channels: int
    one_at_a_time: bool
    devices: tuple[str, ...]
    cost: CostOf | None
    edges: tuple[int, ...] = ()


def _program(
    kind: str, data: bytes, path: Path, files: PackageFiles, image: Described, digest: Any, *, trust: bool
) -> _Program:
    if kind == "torchscript":
        script = read_script(data, path, trust=trust)
        return _Program(script, script, _channels(image, files), False, ("cuda", "cpu"), None)
    try:
        from unettile.exchange.onnxmodel import OnnxNetwork, devices, read_onnx
    except ImportError as error:
        raise InputError(
            f"{path} needs onnx and onnxruntime, which are not installed: pip install 'unettile[bioimageio]'"
        ) from error

    def external(name: str, start: int, count: int | None) -> bytes:
        found = files.read(name)
        found = found[start:] if count is None else found[start : start + count]
        digest.update(found)
        return found

    network, edges = read_onnx(data, path, external, image.axes)
    graph = network.graph
    lengths = dict(zip(image.axes, graph.shape, strict=True))
    channels = lengths.get("c") or _channels(image, files)
    alone = "b" not in image.axes or lengths["b"] == 1
    return _Program(network, OnnxNetwork(graph, plain=True), channels, alone, devices(), graph.cost, edges)


def _channels(image: Described, files: PackageFiles) -> int:
    if "c" not in image.axes:
        return 1
    if image.channels:
        return len(image.channels)
    test = tensor_of(files, image)
    if test is None:
        raise InputError(f"{files.path} does not say how many channels its input has: need a test input or names")
    return int(test.shape[1])


def _ours(files: PackageFiles, description: Description, digest: Any) -> Checkpoint | None:
    """Return the checkpoint of a package of ours: its parameters, and the header in its description."""
    weights = description.weights.get("pytorch_state_dict")
    if weights is None or weights.architecture != OURS or description.header is None:
        return None
    data = _content(files, weights, digest)
    try:
        state = torch.load(BytesIO(data), map_location="cpu", weights_only=True)
        tensors = {str(name).removeprefix("network."): tensor.contiguous() for name, tensor in state.items()}
        content = to_safetensors(tensors, metadata={"unettile": description.header})
    except Exception as error:  # whatever a damaged file sets off
        raise InputError(f"{files.path}: {weights.source} cannot be read as parameters: take a fresh copy") from error
    with tempfile.TemporaryDirectory(prefix="unettile-") as folder:
        place = Path(folder, "model.safetensors")
        place.write_bytes(content)
        try:
            return load_checkpoint(place)
        except InputError as error:
            raise InputError(str(error).replace(str(place), str(files.path))) from error


class _Permuted(nn.Module):
    """A network of other axes than (N, C, H, W)."""

    def __init__(self, program: nn.Module, given: str, made: str, cost: CostOf | None) -> None:
        super().__init__()
        self.program, self.given, self.made, self._cost = program, given, made, cost

    def forward(self, x: Tensor) -> Tensor:
        if self.given != "bcyx":
            kept = [name for name in "bcyx" if name in self.given]
            x = x[tuple(slice(None) if name in kept else 0 for name in "bcyx")]
            x = x.permute([kept.index(name) for name in self.given]).contiguous()
        result = self.program(x)
        while not isinstance(result, Tensor):
            result = next(iter(result.values())) if isinstance(result, dict) else result[0]
        for missing in "bc":
            if missing not in self.made:
                result = result[None]
        axes = "".join(name for name in "cb" if name not in self.made) + self.made
        return result.permute([axes.index(name) for name in "bcyx"])

    def window_cost(self, channels: int, edge: int) -> Cost | None:
        """Return what a window costs, if the network says so itself."""
        lengths = {"b": 1, "c": channels, "y": edge, "x": edge}
        return None if self._cost is None else self._cost(tuple(lengths[name] for name in self.given))
