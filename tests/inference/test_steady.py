"""Layers of every kind that networks use: the same bits for any window size, batch and number of threads."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from unettile.inference.steady import HalvingMax, OneDnnConv, PhasedConvTranspose, SteadyBilinear, steady
from unettile.networks.folding import fold_batch_norm
from unettile.networks.lite_unet import Group, LiteBlock

SIZES = (48, 96, 197, 320, 340, 379)
LAYERS = {
    "3×3": nn.Conv2d(16, 16, 3, padding=1),
    "3×3, grey": nn.Conv2d(1, 8, 3),
    "3×3, then ReLU": nn.Sequential(nn.Conv2d(16, 16, 3), nn.Identity(), nn.ReLU(inplace=True)),
    "3×3, colour": nn.Conv2d(3, 8, 3, padding=1),
    "3×3, stride 2": nn.Conv2d(16, 24, 3, stride=2, padding=1),
    "7×7, stride 2": nn.Conv2d(3, 16, 7, stride=2, padding=3),
    "7×7": nn.Conv2d(8, 16, 7, padding=3),
    "3×3, dilated": nn.Conv2d(16, 16, 3, padding=4, dilation=4),
    "1×1, stride 2": nn.Conv2d(16, 24, 1, stride=2),
    "1×1 to one logit": nn.Conv2d(16, 1, 1),
    "transposed 2×2": nn.ConvTranspose2d(16, 8, 2, stride=2),
    "transposed 3×3": nn.ConvTranspose2d(16, 16, 3, stride=2, padding=1, output_padding=1),
    "transposed 4×4": nn.ConvTranspose2d(16, 8, 4, stride=2, padding=1),
    "bilinear": nn.Upsample(scale_factor=2, mode="bilinear"),
    "bilinear ×8": nn.Upsample(scale_factor=8, mode="bilinear"),
    "nearest": nn.Upsample(scale_factor=2),
    "2×2 max": nn.MaxPool2d(2),
    "3×3 max, stride 2": nn.MaxPool2d(3, stride=2, padding=1),
    "LeakyReLU": nn.LeakyReLU(),
}


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    if request.param == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("oneDNN has no bfloat16 on this processor")
    chosen: torch.dtype = request.param
    return chosen


@pytest.mark.parametrize("name", LAYERS)
def test_size_batch_and_threads_change_no_bit(name: str, dtype: torch.dtype, threads: None) -> None:
    torch.manual_seed(0)
    layer = copy.deepcopy(LAYERS[name])
    first = layer[0] if isinstance(layer, nn.Sequential) else layer
    channels = getattr(first, "in_channels", 2 if name.startswith("bilinear") else 8)
    network = steady(nn.Sequential(layer).to(dtype), dtype)
    x = torch.rand(2, channels, 400, 400 if "×8" not in name else 24).to(dtype)
    whole = run(network, x[:1])
    for size in SIZES:
        part = run(network, x[:1, :, :size, :size])
        inner = part.shape[2] - 16, min(part.shape[3], whole.shape[3]) - 16
        assert torch.equal(part[:, :, : inner[0], : inner[1]], whole[:, :, : inner[0], : inner[1]]), size
    assert torch.equal(run(network, x)[:1], whole)
    torch.set_num_threads(3)
    assert torch.equal(run(network, x[:1]), whole)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "more"),
    [(3, 2, 1, 1), (4, 2, 1, 0), (3, 2, 0, 0), (5, 3, 1, 2), (8, 4, 2, 0), (4, 2, 0, 1), (6, 2, 2, 0)],
)
def test_phases_make_the_transposed_convolution(kernel: int, stride: int, padding: int, more: int) -> None:
    torch.manual_seed(0)
    conv = nn.ConvTranspose2d(6, 5, kernel, stride=stride, padding=padding, output_padding=more)
    x = torch.rand(2, 6, 17, 23)
    torch.testing.assert_close(run(PhasedConvTranspose(conv), x), run(conv, x))


@pytest.mark.parametrize("channels", [1, 3, 4, 7])
@pytest.mark.parametrize("factor", [2.0, 3.0, 16.0])
def test_bilinear_is_what_torch_makes(channels: int, factor: float) -> None:
    x = torch.rand(2, channels, 17, 23)
    torch.testing.assert_close(
        run(SteadyBilinear(factor), x), run(nn.Upsample(scale_factor=factor, mode="bilinear"), x)
    )


@pytest.mark.parametrize("shape", [(2, 3, 16, 20), (1, 1, 17, 21), (2, 5, 3, 2)])
def test_halving_is_what_torch_makes(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape).to(dtype)
    x[0, 0, 1, 1] = float("nan")  # an overflow must reach the output, which is looked at
    halved = run(HalvingMax(), x)
    assert torch.equal(halved.nan_to_num(9), run(nn.MaxPool2d(2), x).nan_to_num(9)) and halved.isnan().any()


def test_a_relu_joins_the_convolution_before_it(dtype: torch.dtype) -> None:
    """To the same bits; not where something lies between, nor where there is no order of layers."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.LeakyReLU(), nn.ReLU()).to(dtype)
    x = torch.randn(1, 4, 60, 70).to(dtype)
    joined = steady(copy.deepcopy(plain), dtype)
    assert [type(module) for module in joined] == [OneDnnConv, nn.Identity, OneDnnConv, nn.LeakyReLU, nn.ReLU]
    apart = nn.Sequential(*(steady(nn.Sequential(layer), dtype)[0] for layer in plain))
    assert torch.equal(run(joined, x), run(apart, x))
    named = steady(nn.ModuleDict({"conv": nn.Conv2d(1, 1, 3), "relu": nn.ReLU()}), torch.float32)
    assert isinstance(named["relu"], nn.ReLU)


def test_activations_join_where_a_module_says_what_follows(dtype: torch.dtype) -> None:
    """The blocks of EfficientNet-Lite: ReLU6 after two of three convolutions, to the same bits."""
    torch.manual_seed(0)
    block = LiteBlock(8, Group(3, 8, 6, 1), stride=1).eval()
    block.bn0.bias.data.fill_(5.0)  # so that some values reach the upper bound
    x = torch.randn(1, 8, 60, 70)
    plain = fold_batch_norm(copy.deepcopy(block)).to(dtype)
    x = x.to(dtype)
    joined = steady(copy.deepcopy(plain), dtype)
    assert type(joined.relu0) is nn.Identity and type(joined.relu1) is nn.Identity
    apart = copy.deepcopy(plain)
    for name in ("expand_conv", "depthwise_conv", "project_conv"):
        setattr(apart, name, OneDnnConv(getattr(plain, name)))
    assert torch.equal(run(joined, x), run(apart, x))
    assert run(nn.Sequential(joined.bn0, joined.expand_conv), x).max() == 6

    unfolded = steady(copy.deepcopy(block).to(dtype), dtype)
    assert type(unfolded.relu0) is nn.ReLU6, "batch norm lies between"


def test_every_convolution_is_replaced_wherever_it_stands() -> None:
    network = nn.Sequential(nn.Sequential(nn.Conv2d(2, 2, 3)), nn.ModuleList([nn.ConvTranspose2d(2, 2, 3, stride=2)]))
    steady(network, torch.float32)
    assert isinstance(network[0][0], OneDnnConv) and isinstance(network[1][0], PhasedConvTranspose)


def run(network: nn.Module, x: Tensor) -> Tensor:
    with torch.inference_mode():
        result: Tensor = network(x.contiguous(memory_format=torch.channels_last))
    return result
