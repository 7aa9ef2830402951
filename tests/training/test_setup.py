"""What a run needs of a GPU's libraries before its first step, as far as a CPU can tell."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from unettile.devices import PRECISIONS
from unettile.training.parts import OptimizerPart
from unettile.training.processes import FABRIC_PRECISION, _choose_kernels
from unettile.training.schedule import make_optimizer


@pytest.fixture(autouse=True)
def flags() -> Iterator[None]:
    """Leave the choice of kernels as it was."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark, cudnn.deterministic
    yield
    cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark, cudnn.deterministic = before


def test_fabric_knows_every_precision() -> None:
    assert FABRIC_PRECISION.keys() == set(PRECISIONS) - {"auto"}


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_float32_is_float32_unless_it_is_to_be_tf32(precision: str) -> None:
    _choose_kernels(precision)
    assert torch.backends.cudnn.allow_tf32 is torch.backends.cuda.matmul.allow_tf32 is (precision == "tf32")
    assert torch.backends.cudnn.deterministic and not torch.backends.cudnn.benchmark


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_gradients_of_fp16_can_be_clipped(name: str) -> None:
    """A fused optimiser takes off the scale only in its step, so that Fabric refuses to clip before it."""
    network = nn.Conv2d(1, 1, 3)
    optimizer = make_optimizer(network, OptimizerPart(name=name), fused=False)
    assert not getattr(optimizer, "_step_supports_amp_scaling", False)
