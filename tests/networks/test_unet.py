"""The U-Net against the figures of its paper."""

from __future__ import annotations

import re

import pytest
import torch

from unettile.errors import InputError
from unettile.networks import NETWORKS, build_network, parse_config
from unettile.networks.unet import UNet, UNetConfig


def test_paper_network_has_the_papers_parameters_and_sizes() -> None:
    with torch.device("meta"):
        network = UNet(UNetConfig())
        assert sum(parameter.numel() for parameter in network.parameters()) == 31_030_658
        assert network(torch.empty(1, 1, 572, 572)).shape == (1, 2, 388, 388)
        assert network(torch.empty(2, 1, 188 + 16, 188 + 160)).shape == (2, 2, 20, 164)
        for edge in (571, 573, 580, 188, 8):
            if (edge - 188) % 16 == 0:
                continue
            with pytest.raises(ValueError, match=f"edge of {edge} px does not fit"):
                network(torch.empty(1, 1, edge, edge))


def test_he_initialisation_keeps_the_scale_of_activations() -> None:
    torch.manual_seed(0)
    network = UNet(UNetConfig(widths=(16, 32, 64)))
    for name, parameter in network.named_parameters():
        if name.endswith("bias"):
            assert not parameter.any()
    first = network.down[1][0].weight
    assert first.detach().std().item() == pytest.approx((2 / (9 * 16)) ** 0.5, rel=0.05)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"widths": [4]}, "2 to 7 widths"),
        ({"widths": [4, 0]}, "each at least 1"),
        ({"classes": 1}, "classes >= 2"),
        ({"dropout": 1.0}, "dropout"),
        ({"width": [4, 5]}, "unknown key 'width'; did you mean 'widths'"),
        ({"widths": "64"}, "wrong type"),
        ({"classes": 3, "one_logit": True}, "set one_logit to false"),
        ({"padding": "full"}, "valid, same"),
        ({"down": "strided"}, "needs padding = 'same'"),
    ],
)
def test_a_bad_config_is_refused_by_name(values: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_config("unet", values)


def test_an_unknown_network_names_the_known_ones() -> None:
    with pytest.raises(InputError, match=re.escape(", ".join(entry.name for entry in NETWORKS))):
        build_network("vnet", {})
