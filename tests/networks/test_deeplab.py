"""DeepLabv3+: its dilated encoders compute what the plain ones do, and take their parameters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from unettile.errors import InputError
from unettile.networks import build_network, parse_config
from unettile.networks.deeplab import PRESETS, DeepLab
from unettile.networks.encoders import load_encoder
from unettile.networks.lite_unet import LEVELS, LiteEncoder
from unettile.networks.margin import receptive_field_of
from unettile.networks.resnet_unet import ResNet

NARROW = {"widths": [4, 5, 6, 7], "blocks": [1, 1, 2, 2], "width": 4}
ENCODERS: dict[str, dict[str, Any]] = {"resnet34": NARROW, "lite0": {"width": 4}}


def plain_encoder(name: str) -> ResNet | LiteEncoder:
    return ResNet(3, (4, 5, 6, 7), (1, 1, 2, 2)) if name == "resnet34" else LiteEncoder(3, len(LEVELS))


@pytest.mark.parametrize("output_stride", [8, 16])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_dilated_encoder_computes_at_every_place_what_it_did_at_some(encoder: str, output_stride: int) -> None:
    torch.manual_seed(0)
    values = ENCODERS[encoder] | {"encoder": encoder, "output_stride": output_stride}
    network, plain = build_network("deeplabv3+", values).eval(), plain_encoder(encoder).eval()
    dilated = network.encoder
    assert isinstance(dilated, type(plain))
    plain.load_state_dict(dilated.state_dict())
    window = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        dense, sparse = dilated(window)[-1], plain(window)[-1]
    assert dense.shape[2:] == (64 // output_stride, 96 // output_stride)
    step = 32 // output_stride
    assert float(sparse.std()) > 0
    torch.testing.assert_close(dense[:, :, ::step, ::step], sparse, rtol=1e-4, atol=1e-4 * float(sparse.abs().max()))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_an_imagenet_file_fills_the_encoder(tmp_path: Path, encoder: str) -> None:
    state = plain_encoder(encoder).state_dict()
    named = state if encoder == "resnet34" else {_underscored(key): value for key, value in state.items()}
    torch.save(named, tmp_path / "encoder.pth")
    network = build_network("deeplabv3+", ENCODERS[encoder] | {"encoder": encoder})
    load_encoder(network, tmp_path / "encoder.pth")
    own = _state(network.encoder)
    assert own.keys() == state.keys()
    assert all(torch.equal(own[key], value) for key, value in state.items())


def test_what_lies_side_by_side_has_the_rates_of_the_paper() -> None:
    for output_stride, rates in ((16, [6, 12, 18]), (8, [12, 24, 36])):
        with torch.device("meta"):
            network = DeepLab(replace(PRESETS["resnet34"], output_stride=output_stride))
        convs = [module for module in network.aspp.branches.modules() if isinstance(module, nn.Conv2d)]
        assert [conv.dilation[0] for conv in convs if conv.kernel_size == (3, 3)] == rates


def test_the_mean_over_the_window_is_told_as_no_finite_reach() -> None:
    near, far = PRESETS["lite0"], replace(PRESETS["lite0"], image_pooling=True)
    assert receptive_field_of(DeepLab, far) is None and receptive_field_of(DeepLab, near) == 1475
    assert near.geometry.exact and far.geometry == replace(near.geometry, exact=False)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"encoder": "vgg16"}, "need one of resnet34, lite0"),
        ({"encoder": "lite0", "widths": [4, 4, 4, 4]}, "leave them out"),
        ({"output_stride": 12}, "need 8 or 16"),
        ({"blocks": [1, 1]}, "four blocks"),
        ({"rates": []}, "rates"),
    ],
)
def test_configs_that_cannot_be_meant_are_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_config("deeplabv3+", values)


def _state(module: Any) -> dict[str, Tensor]:
    state: dict[str, Tensor] = module.state_dict()
    return state


def _underscored(name: str) -> str:
    *modules, tensor = name.split(".")
    return ".".join([*(module if module.isdecimal() else f"_{module}" for module in modules), tensor])
