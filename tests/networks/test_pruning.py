"""A U-Net++ that was trained with deep supervision: any level's output can be used alone, at a fraction of the cost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.contracts.test_networks import edge_of, forward, make_checkpoint
from unettile.errors import InputError
from unettile.networks import build_network
from unettile.networks.cost import measure_cost


@pytest.mark.parametrize("level", [1, 2, 3, 4])
def test_a_pruned_network_puts_out_what_its_head_did(level: int) -> None:
    whole = make_checkpoint(("unet++", {"widths": [4, 4, 6, 6, 8]}))
    pruned = whole.with_config({"prune": level})
    assert pruned.geometry.stride == 2**level and pruned.geometry.margin <= whole.geometry.margin
    assert pruned.parameters.keys() < whole.parameters.keys() or level == 4
    network = build_network(whole.network, whole.config)
    network.load_state_dict(whole.parameters)
    edge = edge_of(whole.geometry, 32)
    window = np.random.default_rng(0).random((3, edge, edge), np.float32)
    for module in network.train().modules():  # the list of all heads, with the statistics of eval mode
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    with torch.inference_mode():
        heads = network(torch.from_numpy(window)[None])
    expected = heads[4 - level][0].numpy()
    np.testing.assert_allclose(forward(pruned.build(), window), expected, atol=1e-5 * np.abs(expected).max())


def test_a_network_pruned_to_2_takes_a_third_of_the_operations() -> None:
    """Of a window of 608 px; its smaller margin saves more."""
    with torch.device("meta"):
        whole, pruned = (build_network("unet++", {"prune": level}).eval() for level in (0, 2))
    ratio = measure_cost(whole, 3, 608).flops / measure_cost(pruned, 3, 608).flops
    assert 2 < ratio < 8


def test_what_the_parameters_do_not_hold_is_refused() -> None:
    model = make_checkpoint(("unet++", {"widths": [2, 3, 4], "deep_supervision": False}))
    with pytest.raises(InputError, match="train it with --set"):
        model.with_config({"prune": 1, "deep_supervision": True})
    with pytest.raises(InputError, match="unknown key 'prun'"):
        model.with_config({"prun": 1})
    with pytest.raises(InputError, match="does not have"):
        replace(model).with_config({"widths": [2, 3, 5]})
