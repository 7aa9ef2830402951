"""Cost: what one window takes, in operations and in memory, without computing it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from unettile.networks.shapes import ShapesAlone


@dataclass(frozen=True)
class Cost:
    """Of one window.

    Args:
        flops: floating-point operations of convolutions; a product and its sum are two.
        peak_bytes: the most that feature maps hold at any one time, the window included, in float32.
    """

    flops: int
    peak_bytes: int


@runtime_checkable
class Costed(Protocol):
    """A network that is not made of torch's operations, and says itself what a window costs."""

    def window_cost(self, channels: int, edge: int) -> Cost | None:
        """Return what a window (1, C, edge, edge) costs; None if torch's operations tell."""
        ...


def measure_cost(network: nn.Module, channels: int, edge: int) -> Cost:
    """Return what a window (1, C, edge, edge) costs.

    Args:
        network: in eval mode; its parameters on the meta device, or real ones, which are not touched.
    """
    told = network.window_cost(channels, edge) if isinstance(network, Costed) else None
    if told is not None:
        return told
    parameter = next(network.parameters(), None)
    if parameter is not None and parameter.is_meta:
        window = torch.empty(1, channels, edge, edge, device="meta")
        memory = _LiveMemory(window)
        with torch.no_grad(), ShapesAlone(memory.note) as shapes:
            network(window)
        return Cost(shapes.flops, memory.peak)
    device = torch.device("cpu") if parameter is None else parameter.device
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        window = torch.empty(1, channels, edge, edge, device=device)
        memory = _LiveMemory(window)
        with FlopCounterMode(display=False) as counter, _Results(memory):
            network(window)
    return Cost(int(counter.get_total_flops()), memory.peak)


class _LiveMemory:
    """Adds up the memory of all tensors that exist after each operation."""

    def __init__(self, first: Tensor) -> None:
        self.peak = 0
        self._live: dict[int, tuple[StorageWeakRef, int]] = {}
        self.note(first)

    def note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        reference = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
        self._live[reference.cdata] = (reference, storage.nbytes())
        gone = [key for key, (weak, _) in self._live.items() if weak.expired()]  # type: ignore[no-untyped-call]
        for key in gone:
            del self._live[key]
        self.peak = max(self.peak, sum(size for _, size in self._live.values()))


class _Results(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the results of all operations."""

    def __init__(self, memory: _LiveMemory) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._memory = memory

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        results = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(results):
            if isinstance(leaf, Tensor):
                self._memory.note(leaf)
        return results
