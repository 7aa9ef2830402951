"""Kernels: which ones cuDNN may take, and none that waits for the device."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.backends import cudnn


@contextmanager
def steady_kernels(*, tf32: bool) -> Iterator[None]:
    """Let cuDNN neither time its kernels against each other, nor take those that add up in any order.

    Args:
        tf32: float32 may be rounded to 10 bits before it is multiplied; else it stays what it is.
    """
    # since torch 2.9 each operation has a flag; the one of all of cuDNN cannot be asked where a user has set the others
    own: Any = getattr(cudnn, "conv", None)
    holder, name = (cudnn, "allow_tf32") if own is None else (own, "fp32_precision")
    said = tf32 if own is None else "tf32" if tf32 else "ieee"
    flags, before = (cudnn.enabled, cudnn.benchmark, cudnn.deterministic), getattr(holder, name)
    try:
        cudnn.enabled, cudnn.benchmark, cudnn.deterministic = True, False, True
        setattr(holder, name, said)
        yield
    finally:
        cudnn.enabled, cudnn.benchmark, cudnn.deterministic = flags
        setattr(holder, name, before)


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
