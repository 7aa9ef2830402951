"""Want of a device's memory: under one name, and seen where torch makes up for it in silence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_WORDS = ("out of memory", "ALLOC_FAILED", "unable to find an engine", "find a valid cuDNN algorithm")
"""cuDNN tries one kernel after the other, and says that there is none if none got the memory that it works in."""


@contextmanager
def memory_errors() -> Iterator[None]:
    """Let every want of a device's memory be one error, under whatever name a library reports it.

    Raises:
        torch.OutOfMemoryError: for any of them.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or not is_out_of_memory(error):
            raise
        raise torch.OutOfMemoryError(str(error)) from error


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or what it came from, is a want of memory; a broken capture hides it."""
    while error is not None:
        if isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _WORDS):
            return True
        error = error.__cause__ or error.__context__
    return False


def times_ended(device: torch.device) -> int:
    """Return how often the memory of a device has ended for this process; also where torch went on without a word.

    Where a kernel of cuDNN finds no memory to work in, torch takes the next one, and stays with it (`try_configs` in
    its ATen/native/cudnn/Conv_v8.cpp). Another kernel may round in another way.
    """
    return int(torch.cuda.memory_stats(device).get("num_ooms", 0)) if device.type == "cuda" else 0
