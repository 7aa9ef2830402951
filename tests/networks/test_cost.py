"""What a network costs, told without computing and without torch's compiler; equal to what torch itself counts."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from unettile.networks import NETWORKS, Network
from unettile.networks.cost import _LiveMemory, _Results, measure_cost

CASES = [(network, preset) for network in NETWORKS for preset in network.presets]

FORWARD = """
import sys
from unettile.networks.cost import measure_cost
from unettile.networks import NETWORKS, Network
import torch
for network in NETWORKS[:2]:
    with torch.device("meta"):
        built = network.build(network.default).eval()
    measure_cost(built, network.default.in_channels, built.geometry.input_edge(built.geometry.smallest_output_edge(32)))
print([name for name in ("torch._dynamo", "sympy") if name in sys.modules])
"""


@pytest.mark.parametrize(("network", "preset"), CASES, ids=lambda value: getattr(value, "name", value))
def test_operations_and_memory_are_those_that_torch_counts(network: Network, preset: str) -> None:
    config = network.presets[preset]
    with torch.device("meta"):
        built = network.build(config).eval()
    edge = built.geometry.input_edge(built.geometry.smallest_output_edge(32))
    with torch.device("meta"), torch.no_grad():
        window = torch.empty(1, config.in_channels, edge, edge)
        memory = _LiveMemory(window)
        with FlopCounterMode(display=False) as counter, _Results(memory):
            built(window)
    found = measure_cost(built, config.in_channels, edge)
    assert found.flops == counter.get_total_flops()
    norms = [module.num_features for module in built.modules() if isinstance(module, nn.BatchNorm2d)]
    statistics = 8 * max(norms, default=0)  # bytes of a mean and a deviation a channel, which torch counts, too
    assert memory.peak - statistics <= found.peak_bytes <= memory.peak


def test_it_loads_no_compiler() -> None:
    """Which would take a second of every start."""
    done = subprocess.run([sys.executable, "-c", FORWARD], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
