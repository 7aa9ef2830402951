"""Device, precision and threads: what was asked for, or a refusal; never a silent substitute."""

from __future__ import annotations

import pytest
import torch

from unettile.devices import choose_device, choose_precision, keep_freed_memory, set_threads
from unettile.errors import UsageError

CPU = torch.device("cpu")


def test_cpu_and_auto() -> None:
    assert choose_device("cpu") == CPU
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize(("name", "message"), [("gpu", "not known"), ("cuda:99", "CUDA devices"), ("mps", "not known")])
def test_a_device_that_is_not_here_is_refused(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        choose_device(name)


def test_precision() -> None:
    assert choose_precision("fp32", CPU) == "fp32"
    assert choose_precision("bf16", CPU) == "bf16"
    assert choose_precision("auto", CPU) in ("fp32", "bf16")
    with pytest.raises(UsageError, match="fp16 needs a CUDA device"):
        choose_precision("fp16", CPU)
    with pytest.raises(UsageError, match="tf32 needs a CUDA device"):
        choose_precision("tf32", CPU)
    with pytest.raises(UsageError, match="auto, fp32, tf32, bf16, fp16"):
        choose_precision("float32", CPU)


@pytest.mark.parametrize(
    ("capability", "auto", "tf32"),
    [((9, 0), "bf16", True), ((8, 0), "bf16", True), ((7, 5), "fp16", False), ((6, 1), "fp32", False)],
)
def test_precision_of_a_gpu(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], auto: str, tf32: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    gpu = torch.device("cuda", 0)
    assert choose_precision("auto", gpu) == auto
    if tf32:
        assert choose_precision("tf32", gpu) == "tf32"
    else:
        with pytest.raises(UsageError, match="capability"):
            choose_precision("tf32", gpu)


def test_threads_follow_the_job_and_not_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    try:
        monkeypatch.setenv("OMP_NUM_THREADS", "2")
        assert set_threads() == torch.get_num_threads() == 2
        assert set_threads(3) == torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_keeping_freed_memory_leaves_arithmetic_alone() -> None:
    keep_freed_memory()
    assert float(torch.ones(2**22).sum()) == 2**22
