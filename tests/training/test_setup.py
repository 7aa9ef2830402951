"""What a run needs of a GPU's libraries before its first step, as far as a CPU can tell."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from unettile.devices import PRECISIONS
from unettile.errors import UsageError
from unettile.training.parts import OptimizerPart
from unettile.training.processes import FABRIC_PRECISION, _choose_kernels, make_fabric
from unettile.training.schedule import make_optimizer


@pytest.fixture(autouse=True)
def flags() -> Iterator[None]:
    """Leave the choice of kernels as it was."""
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic
    precision = torch.get_float32_matmul_precision()
    yield
    cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic = before
    torch.set_float32_matmul_precision(precision)


def test_fabric_knows_every_precision() -> None:
    assert FABRIC_PRECISION.keys() == set(PRECISIONS) - {"auto"}


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_float32_is_float32_unless_it_is_to_be_tf32(precision: str) -> None:
    _choose_kernels(precision)
    assert torch.backends.cudnn.allow_tf32 is torch.backends.cuda.matmul.allow_tf32 is (precision == "tf32")
    assert torch.backends.cudnn.deterministic and not torch.backends.cudnn.benchmark


@pytest.mark.parametrize("before", ["high", "medium"])
def test_a_precision_that_a_user_has_set_is_no_obstacle(before: str) -> None:
    """Fabric asks for it, which torch refuses where it was set in one way and changed in another."""
    torch.set_float32_matmul_precision(before)
    _choose_kernels("fp32")
    assert torch.get_float32_matmul_precision() == "highest"


def test_each_process_needs_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UsageError, match=r"2 processes .* need a GPU each, and 1 are here: .* --nproc-per-node"):
        make_fabric(torch.device("cuda", 0), "fp32")


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_gradients_of_fp16_can_be_clipped(name: str) -> None:
    """A fused optimiser takes off the scale only in its step, so that Fabric refuses to clip before it."""
    network = nn.Conv2d(1, 1, 3)
    optimizer = make_optimizer(network, OptimizerPart(name=name), fused=False)
    assert not getattr(optimizer, "_step_supports_amp_scaling", False)
