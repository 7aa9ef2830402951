"""Probing finds the truth for layers of every kind, and says where there is none to find."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from unettile.geometry import Geometry
from unettile.probing import Forward, measure_geometry


def forward_of(network: nn.Module) -> Forward:
    def forward(window: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            result: NDArray[np.float32] = network.eval()(torch.from_numpy(window)[None])[0].numpy()
        return result

    return forward


LAYERS = {
    "pointwise": (nn.Conv2d(1, 2, 1), Geometry(0, 1, 0), 1),
    "valid": (nn.Conv2d(1, 2, 5), Geometry(2, 1, 0), 5),
    "padded": (nn.Conv2d(1, 2, 5, padding=2), Geometry(2, 1, 0), 5),
    "dilated": (nn.Conv2d(1, 2, 3, padding=4, dilation=4), Geometry(4, 1, 0), 9),
    "two": (nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1)), Geometry(2, 1, 0), 5),
    "strided and back": (
        nn.Sequential(nn.Conv2d(1, 2, 3, stride=2, padding=1), nn.ConvTranspose2d(2, 2, 2, stride=2)),
        Geometry(2, 2, 0),
        3,
    ),
    "pooled, rounding up, and back": (
        nn.Sequential(nn.MaxPool2d(2, ceil_mode=True), nn.Upsample(scale_factor=2)),
        Geometry(0, 2, 0),
        2,
    ),
    "batch norm, nearest": (
        nn.Sequential(nn.AvgPool2d(4), nn.BatchNorm2d(1), nn.LeakyReLU(), nn.Upsample(scale_factor=4)),
        Geometry(0, 4, 0),
        4,
    ),
    "bilinear": (
        nn.Sequential(nn.MaxPool2d(2), nn.Upsample(scale_factor=2, mode="bilinear")),
        Geometry(2, 2, 0),
        4,
    ),
    "looks back alone": (
        nn.Sequential(nn.ZeroPad2d((3, 0, 3, 0)), nn.Conv2d(1, 2, 4)),
        Geometry(3, 1, 0),
        4,
    ),
}


@pytest.mark.parametrize(("network", "geometry", "field"), LAYERS.values(), ids=LAYERS.keys())
def test_layers(network: nn.Module, geometry: Geometry, field: int) -> None:
    measured = measure_geometry(forward_of(network), 1, field=True)
    assert (measured.geometry, measured.receptive_field) == (geometry, field)


def test_a_rectangle_is_as_wide_as_its_longer_side() -> None:
    network = nn.Conv2d(1, 1, (3, 7), padding=(1, 3))
    assert measure_geometry(forward_of(network), 1).geometry.margin == 3


@pytest.mark.parametrize("network", [nn.InstanceNorm2d(1), nn.Softmax(dim=-1)])
def test_what_looks_at_everything_is_not_exact(network: nn.Module) -> None:
    assert not measure_geometry(forward_of(network), 1, largest=256).geometry.exact


@pytest.mark.parametrize("network", [nn.AdaptiveAvgPool2d(1), nn.MaxPool2d(2), nn.Upsample(scale_factor=2)])
def test_what_follows_no_law_is_refused(network: nn.Module) -> None:
    with pytest.raises(ValueError, match="no geometry fits"):
        measure_geometry(forward_of(network), 1)
