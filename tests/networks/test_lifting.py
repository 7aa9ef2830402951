"""Lifted upsampling makes what upsampling, joining and convolving make, and takes its place in a network."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from unettile.checkpoint import Checkpoint, ClassInfo
from unettile.images.normalize import Normalization
from unettile.inference.predict import Predictor
from unettile.networks import config_values
from unettile.networks.folding import fold_batch_norm
from unettile.networks.lifting import Joined, Lifted, lift_upsampling
from unettile.networks.lite_unet import LiteUNet, LiteUNetConfig
from unettile.networks.unet import UNet, UNetConfig

SMALL = LiteUNetConfig(widths=(4, 6, 8, 10))


def lite() -> LiteUNet:
    """A network with batch norm that does something, ready for inference."""
    torch.manual_seed(0)
    network = LiteUNet(SMALL)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.bias.data.normal_(0, 0.2)
    network.eval()
    return network


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 1), (5, 8)])
def test_it_convolves_what_is_joined(shape: tuple[int, int], bias: bool) -> None:
    """At the border too, and for a map of one pixel."""
    torch.manual_seed(0)
    conv = nn.Conv2d(3 + 6, 5, 3, padding=1, bias=bias)
    beside, below = torch.randn(2, 3, 2 * shape[0], 2 * shape[1]), torch.randn(2, 6, *shape)
    wanted = conv(Joined(6)(beside, below))
    found = Lifted(conv, 6)(beside, below)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_a_network_is_the_same_up_to_rounding() -> None:
    network = fold_batch_norm(lite())
    lifted = lift_upsampling(copy.deepcopy(network))
    assert isinstance(lifted, LiteUNet)
    assert all(isinstance(join, Lifted) for join in lifted.join)
    x = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        torch.testing.assert_close(lifted(x), network(x), atol=1e-4, rtol=1e-4)


def test_other_networks_stay_what_they_are() -> None:
    network = UNet(UNetConfig(widths=(4, 6), padding="same", up="nearest"))
    before = list(network.state_dict())
    assert list(lift_upsampling(network).state_dict()) == before


def test_predictors_on_a_cpu_use_it() -> None:
    network = lite()
    config, classes = config_values(network.config), (ClassInfo("ground", (0, 0, 0)), ClassInfo("cell", (255, 0, 0)))
    checkpoint = Checkpoint(
        "lite-unet", config, network.geometry, Normalization(), classes, dict(network.state_dict()), sha256="0" * 64
    )
    predictor = Predictor(checkpoint, "cpu", "fp32")
    assert any(isinstance(module, Lifted) for module in predictor._networks[0].modules())
    window = torch.rand(1, predictor.smallest_window, predictor.smallest_window, 3)
    margin = network.geometry.margin
    with torch.inference_mode():
        wanted = network(window.permute(0, 3, 1, 2))[:, :, margin:-margin, margin:-margin]
    torch.testing.assert_close(predictor.logits(window.numpy()), wanted, atol=1e-3, rtol=1e-3)
