"""What every network promises: a true geometry, one answer whatever the tiles, a faithful checkpoint, learning."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tests.networks.cases import CASES, Case
from unettile.checkpoint import Checkpoint, ClassInfo, load_checkpoint, save_checkpoint
from unettile.geometry import Geometry
from unettile.images.normalize import Normalization
from unettile.inference.predict import Predictor
from unettile.networks import NETWORKS, build_network, config_values, find_network, parse_config
from unettile.networks.background import shift_background
from unettile.networks.margin import receptive_field_of
from unettile.probing import measure_geometry
from unettile.segmentation.segment import SegmentOptions, segment_image
from unettile.training.losses import weighted_cross_entropy


@pytest.fixture(params=CASES.values(), ids=CASES.keys())
def case(request: pytest.FixtureRequest) -> Case:
    torch.manual_seed(3)
    value: Case = request.param
    return value


def make_network(case: Case) -> nn.Module:
    """Return a network whose batch norm is as training leaves it, not as it begins, and whose classes are balanced."""
    network = build_network(*case)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1)
            nn.init.uniform_(module.bias, 0.1, 0.5)  # a narrow network of dead neurons shows nothing
    return network


def make_checkpoint(case: Case) -> Checkpoint:
    config = parse_config(*case)
    network = make_network(case)
    with torch.no_grad():  # a mask of one class would hide a misplaced tile
        last = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m.out_channels <= config.classes][-1]
        assert last.bias is not None
        window = torch.rand(1, config.in_channels, *[edge_of(config.geometry, 64)] * 2)
        means = network.eval()(window).mean(dim=(0, 2, 3))
        last.bias -= means[-last.out_channels :]
    classes = tuple(ClassInfo(f"class {i}", (i, 0, 255)) for i in range(config.classes))
    parameters = dict(network.state_dict())
    return Checkpoint(case[0], config_values(config), config.geometry, Normalization(), classes, parameters)


def edge_of(geometry: Geometry, length: int) -> int:
    return geometry.input_edge(geometry.smallest_output_edge(length))


def forward(network: nn.Module, window: NDArray[np.float32]) -> NDArray[np.float32]:
    with torch.inference_mode():
        result: NDArray[np.float32] = network.eval()(torch.from_numpy(window)[None])[0].numpy()
    return result


def test_every_network_has_a_case() -> None:
    assert {name for name, _ in CASES.values()} == {network.name for network in NETWORKS}


def test_declared_geometry_and_receptive_field_are_what_a_nan_shows(case: Case) -> None:
    network, config = make_network(case), parse_config(*case)
    assert network.geometry == config.geometry
    field = receptive_field_of(find_network(case[0]).build, config)
    measured = measure_geometry(lambda window: forward(network, window), config.in_channels, largest=1536, field=True)
    if config.geometry.exact:
        assert measured.geometry == config.geometry
        assert measured.receptive_field == field
    else:
        assert not measured.geometry.exact
        assert field is None or field > 1536


def test_outputs_have_their_shape_and_windows_that_do_not_fit_are_refused(case: Case) -> None:
    network, config = make_network(case), parse_config(*case)
    geometry, lost = config.geometry, int(str(network.lost))
    assert lost in (0, geometry.margin)
    height, width = (2 * lost + geometry.base * bool(lost) + geometry.stride * k for k in (2, 3))
    windows = torch.rand(2, config.in_channels, height, width)
    expected = (2, config.classes, height - 2 * lost, width - 2 * lost)
    outputs = network.train()(windows)
    for logits in outputs if isinstance(outputs, list) else [outputs]:
        assert logits.shape == expected
    single = network.eval()(windows)
    assert isinstance(single, Tensor) and single.shape == expected
    with pytest.raises(ValueError, match="does not fit"):
        network(windows[..., 1:])
    with pytest.raises(ValueError, match="need images"):
        network(windows[:, :0])


def test_the_logit_of_the_background_can_be_shifted_alone(case: Case) -> None:
    network, config = make_network(case).eval(), parse_config(*case)
    window = np.random.default_rng(0).random((config.in_channels, *[edge_of(config.geometry, 64)] * 2), np.float32)
    before = forward(network, window)
    shift_background(network, config.in_channels, -0.75)
    change = forward(network, window) - before
    np.testing.assert_allclose(change[0] - change[1:], -0.75, atol=1e-4)


def test_shifting_by_less_than_the_stride_changes_the_answer(case: Case) -> None:
    network, config = make_network(case), parse_config(*case)
    edge = edge_of(config.geometry, 64)
    image = np.random.default_rng(0).random((config.in_channels, edge + 1, edge + 1), np.float32)
    whole, off = forward(network, image[:, :-1, :-1]), forward(network, image[:, 1:, 1:])
    middle = slice(whole.shape[-1] // 2 - 16, whole.shape[-1] // 2 + 16)
    after = slice(middle.start - 1, middle.stop - 1)
    assert np.abs(whole[:, middle, middle] - off[:, after, after]).max() > 1e-5 * np.abs(whole).max()


def test_tiles_of_any_size_make_the_mask_of_one_window(case: Case, tmp_path: Path) -> None:
    """Equal bytes where the geometry is exact; where it is not, the same pixels come out, nearly."""
    checkpoint = make_checkpoint(case)
    predictor = Predictor(checkpoint, "cpu", "fp32")
    geometry, channels = checkpoint.geometry, checkpoint.in_channels
    pixels = np.random.default_rng(0).integers(0, 256, (211, 230, channels), np.uint8)
    tifffile.imwrite(tmp_path / "image.tif", pixels, photometric="rgb" if channels == 3 else "minisblack")
    masks = []
    for least, batch in ((230, 1), (96, 2), (160, 1)) if geometry.exact else ((230, 1), (96, 1)):
        options = SegmentOptions(("probabilities",), geometry.smallest_output_edge(least), batch)
        segment_image(tmp_path / "image.tif", tmp_path / "mask.tif", predictor, options, overwrite=True)
        masks.append(tifffile.imread(tmp_path / "mask.tif"))
    assert len(np.unique(masks[0])) > 3, "a mask of one value shows nothing"
    for mask in masks[1:]:
        if geometry.exact:
            np.testing.assert_array_equal(mask, masks[0])
        else:
            assert np.abs(mask.astype(int) - masks[0]).mean() < 3


def test_checkpoint_round_trip_and_folding(case: Case, tmp_path: Path) -> None:
    made = make_checkpoint(case)
    network = build_network(made.network, made.config)
    network.load_state_dict(made.parameters)
    saved = save_checkpoint(made, tmp_path / "a.safetensors")
    save_checkpoint(replace(made, difference=saved.difference), tmp_path / "b.safetensors")
    loaded = load_checkpoint(tmp_path / "a.safetensors")
    assert loaded.sha256 == saved.sha256 != ""
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert (loaded.network, loaded.config, loaded.geometry) == (made.network, made.config, made.geometry)
    assert (loaded.normalization, loaded.classes) == (made.normalization, made.classes)
    assert (loaded.difference is None) == made.geometry.exact

    folded = loaded.build()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    window = np.random.default_rng(1).random((made.in_channels, *[edge_of(made.geometry, 64)] * 2), np.float32)
    plain = forward(network, window)
    np.testing.assert_allclose(forward(folded, window), plain, atol=2e-5 * np.abs(plain).max())


def test_a_few_steps_lower_the_loss(case: Case) -> None:
    network, config = build_network(*case).train(), parse_config(*case)
    lost = int(str(network.lost))
    edge = edge_of(config.geometry, 32) if lost else max(64, 2 * config.geometry.stride)
    windows = torch.rand(2, config.in_channels, edge, edge, generator=torch.Generator().manual_seed(1))
    coarse = nn.functional.avg_pool2d(windows[:, :1], 16, stride=1, padding=8)[:, 0, :edge, :edge]
    inner = slice(lost, edge - lost)
    classes = (coarse > coarse.median()).long()[:, inner, inner]
    weights = torch.ones(classes.shape)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(25):
        optimizer.zero_grad()
        outputs = network(windows)
        loss = torch.stack(
            [weighted_cross_entropy(o, classes, weights) for o in (outputs if isinstance(outputs, list) else [outputs])]
        ).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-3:]) < 0.97 * losses[0]


def test_channels_last_and_bfloat16_agree_with_float32(case: Case) -> None:
    network, config = make_network(case).eval(), parse_config(*case)
    edge = edge_of(config.geometry, 32)
    window = torch.rand(1, config.in_channels, edge, edge, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        plain = network(window)
        last = network.to(memory_format=torch.channels_last)(window.contiguous(memory_format=torch.channels_last))
        half = network.to(torch.bfloat16)(window.to(torch.bfloat16)).float()
    scale = float(plain.abs().max())
    assert float((plain - last).abs().max()) < 2e-5 * scale
    assert float((plain - half).abs().max()) < 0.06 * scale  # 8 bits of mantissa through up to a hundred layers
