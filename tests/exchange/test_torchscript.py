"""TorchScript is read with trust alone, and then is a model like any other."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from unettile.errors import InputError
from unettile.geometry import Geometry
from unettile.networks.cost import measure_cost
from unettile.program import load_model


def script(path: Path, network: nn.Module) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(network.eval()), path)
    return path


def test_it_is_read_with_trust_alone_and_measured(tmp_path: Path) -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(2), nn.Upsample(scale_factor=2), nn.Conv2d(4, 2, 1)
    )
    path = script(tmp_path / "net.pt", network)
    with pytest.raises(InputError, match=r"source code that runs when it is read.*--trust") as caught:
        load_model(path)
    assert "\n" not in str(caught.value)
    model = load_model(path, trust=True)
    assert model.geometry == Geometry(margin=2, stride=2, base=0) and model.in_channels == 3
    assert len(model.sha256) == 64 and measure_cost(model.build_shapes(), 3, 64).flops > 0
    x = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(model.build()(x), network(x))


def test_channels_that_it_does_not_tell_are_asked_for(tmp_path: Path) -> None:
    path = script(tmp_path / "net.pt", nn.AvgPool2d(1))
    with pytest.raises(InputError, match=r'say it in net\.json: {"channels": 3}'):
        load_model(path, trust=True)
    path.with_suffix(".json").write_text(json.dumps({"channels": 2}))
    assert load_model(path, trust=True).in_channels == 2


def test_a_damaged_one_is_refused_in_a_line(tmp_path: Path) -> None:
    path = script(tmp_path / "net.pt", nn.Conv2d(1, 2, 1))
    path.write_bytes(path.read_bytes().replace(b"__torch__", b"__porch__", 3))
    with pytest.raises(InputError) as caught:
        load_model(path, trust=True)
    assert "\n" not in str(caught.value)
