"""ONNX models, computed by ONNX Runtime in float32 on a CPU, or on a GPU where its own build for CUDA is installed."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from onnxruntime import GraphOptimizationLevel, InferenceSession, SessionOptions, get_available_providers
from torch import Tensor, nn

from unettile.checkpoint import Checkpoint
from unettile.errors import InputError
from unettile.exchange.foreign import adopt, wrap
from unettile.exchange.onnxgraph import (
    MOST_BYTES,
    External,
    OnnxGraph,
    fixed_edges,
    freed,
    only_fixed,
    read_graph,
)
from unettile.exchange.sidecar import Sidecar
from unettile.networks.cost import Cost
from unettile.regular import open_regular, read_regular

NETWORK = "onnx"
_CUDA = "CUDAExecutionProvider"


class OnnxNetwork(nn.Module):
    """A graph as a module: windows (N, C, H, W) float32 to what its first output says of them.

    Args:
        graph: that was checked.
        plain: no step is joined to another, and none takes a maximum: NaN goes through all of them.
    """

    def __init__(self, graph: OnnxGraph, *, plain: bool = False) -> None:
        super().__init__()
        self.graph = graph
        self._data = (graph.with_averages() if plain else graph.model).SerializeToString()
        self._plain = plain
        self._sessions: dict[tuple[str, int], InferenceSession] = {}

    def forward(self, x: Tensor) -> Tensor:
        session = self.session(x.device)
        window = np.ascontiguousarray(x.detach().cpu().numpy())
        try:
            (result,) = session.run([self.graph.result], {self.graph.image: window})
        except Exception as error:  # the library's own, which have no common base
            raise ValueError(str(error).splitlines()[0][:300]) from error
        if not isinstance(result, np.ndarray) or result.dtype != np.float32 or result.ndim != 4:
            raise ValueError("its first output is no float tensor of four axes")
        return torch.from_numpy(result).to(x.device)

    def window_cost(self, channels: int, edge: int) -> Cost:
        """Return what a window costs."""
        return self.graph.cost((1, channels, edge, edge))

    def session(self, device: torch.device) -> InferenceSession:
        """Return what computes on a device, with as many threads as torch has."""
        key = str(device), torch.get_num_threads()
        if key not in self._sessions:
            self._sessions[key] = self._start(device)
        return self._sessions[key]

    def _start(self, device: torch.device) -> InferenceSession:
        options = SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.use_deterministic_compute = True
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if self._plain:
            options.graph_optimization_level = GraphOptimizationLevel.ORT_DISABLE_ALL
        cuda = (_CUDA, {"device_id": device.index or 0, "use_tf32": 0, "cudnn_conv_algo_search": "DEFAULT"})
        providers = [cuda] if device.type == "cuda" else ["CPUExecutionProvider"]
        return InferenceSession(self._data, options, providers=providers)


def load_onnx(path: Path) -> Checkpoint:
    """Read a model with what stands beside it; no code in it is run.

    Raises:
        InputError: damaged, of operators that are not ONNX's, with data outside its folder, or no fully convolutional
            network of one image.
    """
    try:
        data = read_regular(path, MOST_BYTES)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    digest = hashlib.sha256(data)

    def external(name: str, start: int, count: int | None) -> bytes:
        found = _beside(path, name, start, count)
        digest.update(found)
        return found

    program, edges = read_onnx(data, path, external, "bcyx")
    beside = path.with_suffix(".json")
    sidecar = Sidecar.read(beside, program.graph.inside)
    digest.update(beside.read_bytes() if beside.is_file() else b"")
    batch, channels = program.graph.shape[:2]
    channels = channels or sidecar.channels
    if channels is None:
        raise InputError(f'{path} does not say how many channels it takes: say it in {beside.name}: {{"channels": 3}}')
    if batch not in (None, 1):
        raise InputError(f"{path} takes {batch} windows at once: export it for one, or for any number")
    network = wrap(program, sidecar, one_at_a_time=batch == 1, devices=devices())
    probe = wrap(OnnxNetwork(program.graph, plain=True), sidecar, one_at_a_time=batch == 1, devices=("cpu",))
    try:
        model = adopt(network, sidecar, channels, NETWORK, path, probe)
    except InputError as error:
        if edges:
            raise only_fixed(edges, path) from error
        raise
    parameters = {name: torch.from_numpy(values) for name, values in program.graph.parameters().items()}
    return replace(model, parameters=parameters, sha256=digest.hexdigest())


def read_onnx(data: bytes, path: Path, external: External, axes: str) -> tuple[OnnxNetwork, tuple[int, ...]]:
    """Return a model in memory as a module, checked, and the edges of windows that it states; see `load_onnx`.

    Args:
        axes: of its input, such as bcyx.
    """
    graph = read_graph(data, path, external)
    if len(graph.shape) != len(axes):
        raise InputError(f"{path} takes an input of {len(graph.shape)} axes: need {len(axes)}, {axes}")
    edges = fixed_edges(graph, axes)
    network = OnnxNetwork(freed(graph, axes) if edges else graph)
    try:
        network.session(torch.device("cpu"))
    except Exception as error:  # the library's own
        if edges:
            raise only_fixed(edges, path) from error
        raise InputError(f"{path} cannot be computed: {str(error).splitlines()[0][:300]}") from error
    return network, edges


def devices() -> tuple[str, ...]:
    """Return the kinds of device that the installed ONNX Runtime computes on."""
    return ("cuda", "cpu") if _CUDA in get_available_providers() else ("cpu",)


def _beside(path: Path, name: str, start: int, count: int | None) -> bytes:
    """Return bytes of a file in the folder of a model, or below it; of no other, and of no link."""
    place, parts = path.parent, Path(name).parts
    refused = not parts or Path(name).is_absolute() or ".." in parts
    for part in parts:
        place = place / part
        refused = refused or place.is_symlink()
    if refused:
        raise InputError(f"{path} wants data of {name[:80]!r}: need a file in its own folder, and no link")
    try:
        with open_regular(place) as file:
            file.seek(start)
            return file.read(MOST_BYTES if count is None else min(count, MOST_BYTES))
    except OSError as error:
        raise InputError(f"{path} needs the file {name[:80]!r} beside it: {error.strerror}") from error
