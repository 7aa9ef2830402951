"""Parameters of the networks as they were published, counted without memory for them; one window through each."""

from __future__ import annotations

import pytest
import torch

from unettile.networks import NETWORKS, build_network, find_network

LITE_HEAD = 1280 * 320 + 2 * 1280 + 1280 * 1000 + 1000
LITE_ENCODER = 4_652_008 - LITE_HEAD  # EfficientNet-Lite0 as it was published
LITE_ENCODER_16 = LITE_ENCODER - 2_258_080  # without the five blocks at 1/32


def lite_decoder(widths: tuple[int, ...], lowest: int) -> int:
    """Two 3×3 convolutions with batch norm a level, the first of the skip and what comes from below; a 1×1 head."""
    skips = (3, 16, 24, 40, 112)
    below = (*widths[1:], lowest)
    levels = zip(widths, skips, below, strict=False)
    return sum(9 * (skip + i + o) * o + 4 * o for o, skip, i in levels) + 2 * widths[0] + 2


RESNET34_ENCODER = 21_797_672 - 513_000  # as torchvision publishes it, without its dense layer


def deeplab(encoder: int, shallow: int, deep: int) -> int:
    """An encoder; beside each other 1×1 and three separable convolutions; 1×1; the skip; two more; a 1×1 head."""
    norm, width, skip = 2, 256, 48
    beside = (deep * width + norm * width) + 3 * (9 * deep + norm * deep + deep * width + norm * width)
    project = 4 * width * width + norm * width
    merge = sum((9 + norm) * i + i * width + norm * width for i in (width + skip, width))
    return encoder + beside + project + shallow * skip + norm * skip + merge + 2 * width + 2


COUNTS = {
    ("unet", "paper"): 31_030_658,
    ("unet", "upsample"): 31_380_245,
    ("unet", "small"): 1_993_188,
    ("unet", "bn"): 7_765_985,
    ("unet", "tiny"): 487_449,
    ("unet", "strided"): 32_090_627,
    ("unet", "narrow"): 1_942_306,
    ("fcn32s", "paper"): 134_346_581,
    ("fcn16s", "paper"): 134_346_581 + 10_773,
    ("fcn8s", "paper"): 134_346_581 + 10_773 + 5_397,
    ("resnet34-unet", "linknet"): 21_656_897,
    ("lite-unet", "lite0"): LITE_ENCODER_16 + lite_decoder((8, 24, 40, 80), 112),
    ("lite-unet", "lite0-deep"): LITE_ENCODER + lite_decoder((8, 24, 40, 80, 160), 320),
    ("deeplabv3+", "resnet34"): deeplab(RESNET34_ENCODER, 64, 512),
    ("deeplabv3+", "lite0"): deeplab(LITE_ENCODER, 24, 320),
    ("unet++", "paper"): 9_163_560,
    ("u2net", "paper"): 44_009_869,
    ("u2netp", "paper"): 1_131_181,
}


def test_every_preset_is_counted() -> None:
    assert set(COUNTS) == {(network.name, preset) for network in NETWORKS for preset in network.presets}


@pytest.mark.parametrize(("name", "preset"), COUNTS)
def test_parameters_are_as_published(name: str, preset: str) -> None:
    with torch.device("meta"):
        network = build_network(name, {"preset": preset}).eval()
        config = find_network(name).presets[preset]
        assert sum(parameter.numel() for parameter in network.parameters()) == COUNTS[name, preset]
        edge = config.geometry.input_edge(config.geometry.smallest_output_edge(384))
        lost = int(str(network.lost))
        assert network(torch.empty(1, config.in_channels, edge, edge)).shape == (
            1,
            config.classes,
            *[edge - 2 * lost] * 2,
        )


@pytest.mark.slow
@pytest.mark.parametrize(("name", "preset"), COUNTS)
def test_one_window_through_the_whole_network(name: str, preset: str) -> None:
    torch.manual_seed(0)
    network = build_network(name, {"preset": preset}).eval()
    config = find_network(name).presets[preset]
    edge = config.geometry.input_edge(config.geometry.smallest_output_edge(64))
    with torch.inference_mode():
        logits = network(torch.rand(1, config.in_channels, edge, edge))
    assert logits.shape[1] == config.classes and bool(torch.isfinite(logits).all()) and float(logits.std()) > 0
