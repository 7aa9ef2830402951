"""What every network promises: a true geometry, outputs that shift with the window, a faithful checkpoint, learning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from unettile.checkpoint import Checkpoint, ClassInfo, load_checkpoint, save_checkpoint
from unettile.geometry import Geometry, measure_geometry
from unettile.images.normalize import Normalization
from unettile.networks import build_network
from unettile.training.losses import weighted_cross_entropy

NARROW = {"in_channels": 1, "classes": 2, "widths": [2, 3, 4, 5, 6]}
CASES = {
    "unet": ("unet", NARROW),
    "unet, batch norm, colour, 3 classes": (
        "unet",
        {"in_channels": 3, "classes": 3, "widths": [2, 2, 3, 3, 4], "batch_norm": True, "dropout": 0.5},
    ),
    "unet, depth 2": ("unet", {"in_channels": 2, "classes": 2, "widths": [3, 3, 3]}),
    "unet, depth 3": ("unet", {"in_channels": 1, "classes": 2, "widths": [2, 2, 2, 2]}),
}


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request: pytest.FixtureRequest) -> tuple[str, dict[str, object]]:
    torch.manual_seed(3)
    value: tuple[str, dict[str, object]] = request.param
    return value


def _forward(network: nn.Module, window: NDArray[np.float32]) -> NDArray[np.float32]:
    with torch.inference_mode():
        result: NDArray[np.float32] = network.eval()(torch.from_numpy(window)[None])[0].numpy()
    return result


def _geometry(network: nn.Module) -> Geometry:
    assert isinstance(network.geometry, Geometry)
    return network.geometry


def test_declared_geometry_is_what_a_nan_shows(case: tuple[str, dict[str, object]]) -> None:
    network = build_network(*case)
    channels = int(str(case[1]["in_channels"]))
    assert measure_geometry(lambda window: _forward(network, window), channels) == _geometry(network)


def test_shifting_the_window_by_the_stride_shifts_the_output_and_by_less_does_not(
    case: tuple[str, dict[str, object]],
) -> None:
    network = build_network(*case)
    geometry = _geometry(network)
    edge = geometry.input_edge(geometry.smallest_output_edge(3 * geometry.stride))
    channels = int(str(case[1]["in_channels"]))
    image = np.random.default_rng(0).random((channels, edge + geometry.stride, edge + geometry.stride), np.float32)
    whole = _forward(network, image[:, :edge, :edge])
    s = geometry.stride
    moved = _forward(network, image[:, s : s + edge, s : s + edge])
    # torch picks its kernels by shape; that `segment` gets equal bytes nevertheless is a law of its own
    np.testing.assert_allclose(whole[:, s:, s:], moved[:, :-s, :-s], rtol=1e-5, atol=1e-5)
    off = _forward(network, image[:, 1 : 1 + edge, 1 : 1 + edge])
    assert np.abs(whole[:, 1:, 1:] - off[:, :-1, :-1]).max() > 1e-4


def test_checkpoint_round_trip(case: tuple[str, dict[str, object]], tmp_path: Path) -> None:
    network = build_network(*case)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # as training leaves them, not as they begin
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    classes = tuple(ClassInfo(f"class {i}", (i, 0, 255)) for i in range(int(str(case[1]["classes"]))))
    config = {"dropout": 0.0, "batch_norm": False, **case[1]}
    made = Checkpoint(case[0], config, _geometry(network), Normalization(), classes, dict(network.state_dict()))
    saved = save_checkpoint(made, tmp_path / "a.safetensors")
    save_checkpoint(made, tmp_path / "b.safetensors")
    loaded = load_checkpoint(tmp_path / "a.safetensors")
    assert loaded.sha256 == saved.sha256 != ""
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert (loaded.network, loaded.config, loaded.geometry) == (made.network, made.config, made.geometry)
    assert (loaded.normalization, loaded.classes) == (made.normalization, made.classes)

    geometry = _geometry(network)
    edge = geometry.input_edge(geometry.smallest_output_edge(20))
    window = np.random.default_rng(1).random((int(str(case[1]["in_channels"])), edge, edge), np.float32)
    np.testing.assert_allclose(_forward(loaded.build(), window), _forward(network, window), rtol=1e-4, atol=1e-4)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in loaded.build().modules())


def test_a_few_steps_lower_the_loss(case: tuple[str, dict[str, object]]) -> None:
    network = build_network(*case).train()
    geometry = _geometry(network)
    output = geometry.smallest_output_edge(20)
    generator = torch.Generator().manual_seed(1)
    channels = int(str(case[1]["in_channels"]))
    window = torch.rand(2, channels, *[geometry.input_edge(output)] * 2, generator=generator)
    m = geometry.margin
    classes = (window[:, 0, m:-m, m:-m] > 0.5).long()
    weights = torch.ones(classes.shape)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        loss = weighted_cross_entropy(network(window), classes, weights)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_channels_last_and_bfloat16_agree_with_float32(case: tuple[str, dict[str, object]]) -> None:
    network = build_network(*case).eval()
    geometry = _geometry(network)
    edge = geometry.input_edge(geometry.smallest_output_edge(20))
    window = torch.rand(1, int(str(case[1]["in_channels"])), edge, edge, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        plain = network(window)
        last = network.to(memory_format=torch.channels_last)(window.contiguous(memory_format=torch.channels_last))
        half = network.to(torch.bfloat16)(window.to(torch.bfloat16)).float()
    scale = float(plain.abs().max())
    assert float((plain - last).abs().max()) < 1e-5 * scale
    assert float((plain - half).abs().max()) < 0.05 * scale  # 8 bits of mantissa through up to 23 layers
