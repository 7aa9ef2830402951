"""Kernels: which ones cuDNN may take, and none that waits for the device."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch.backends import cudnn


@contextmanager
def steady_kernels(*, tf32: bool) -> Iterator[None]:
    """Let cuDNN neither time its kernels against each other, nor take those that add up in any order.

    Args:
        tf32: float32 may be rounded to 10 bits before it is multiplied; else it stays what it is.
    """
    before = cudnn.enabled, cudnn.benchmark, cudnn.deterministic
    try:
        cudnn.enabled, cudnn.benchmark, cudnn.deterministic = True, False, True
        with _float32(tf32):
            yield
    finally:
        cudnn.enabled, cudnn.benchmark, cudnn.deterministic = before


@contextmanager
def _float32(tf32: bool) -> Iterator[None]:
    """Say what float32 is, by the older flag of all of cuDNN and, from torch 2.9 on, by those of its parts, which must
    agree: torch refuses to tell the older one where a user has set the newer ones to differ from it."""
    found: tuple[Any, ...] = (getattr(cudnn, "conv", None), getattr(cudnn, "rnn", None))
    parts = [part for part in found if hasattr(part, "fp32_precision")]
    before, older = [part.fp32_precision for part in parts], None
    with suppress(RuntimeError):
        older = cudnn.allow_tf32
    try:
        cudnn.allow_tf32 = tf32
        for part in parts:
            part.fp32_precision = "tf32" if tf32 else "ieee"
        yield
    finally:
        if older is not None:
            cudnn.allow_tf32 = older
        for part, was in zip(parts, before, strict=True):
            part.fp32_precision = was


@contextmanager
def no_waiting() -> Iterator[None]:
    """Let torch refuse whatever waits for the device.

    Raises:
        RuntimeError: something does.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that it may miss some
        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)
