"""Staging: pixels on their way to a GPU, and what was made of them on its way back, beside the computing.

    caller's memory --copy--> pinned memory --upload stream--> GPU --lanes--> GPU --lane's stream--> pinned memory

Only pinned memory is copied while the GPU computes. torch keeps what was pinned for the next copy, and does not give it
out again before the copy from it is done. On a CPU all happens in order, and nothing is copied.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from unettile.inference.cuda.memory import memory_errors
from unettile.inference.cuda.scale import carry


class Stream:
    """A queue of work on a device; on a CPU, where work is done at once, nothing.

    Args:
        priority: -1 goes before 0. Each has 32 streams, which torch gives out in turn and then again: queues of two
            priorities are never one.
    """

    def __init__(self, device: torch.device, priority: int = 0) -> None:
        self.device = device
        self.stream: torch.cuda.Stream | None = None
        if device.type == "cuda":
            self.stream = torch.cuda.Stream(device, priority)  # type: ignore[no-untyped-call]

    @contextmanager
    def current(self) -> Iterator[None]:
        """Queue work here."""
        if self.stream is None:
            yield
            return
        # the device too: where a stream alone is left, torch turns back to the first GPU, and takes memory on it
        with torch.cuda.device(self.device), torch.cuda.stream(self.stream):
            yield

    def mark(self) -> Mark:
        """Return a mark after all that is queued so far."""
        if self.stream is None:
            return Mark(None)
        event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        event.record(self.stream)
        return Mark(event)

    def wait_for(self, mark: Mark) -> None:
        """Let what is queued from now on wait for a mark on another queue."""
        if self.stream is not None and mark.event is not None:
            self.stream.wait_event(mark.event)

    def wait_for_caller(self) -> None:
        """Let what is queued from now on wait for what this thread has queued elsewhere, such as parameters."""
        if self.stream is not None:
            self.stream.wait_stream(torch.cuda.current_stream(self.device))


@dataclass(frozen=True)
class Mark:
    """A point in a queue of work."""

    event: torch.cuda.Event | None

    def wait(self) -> None:
        """Return when all before it is done."""
        if self.event is not None:
            self.event.synchronize()


@dataclass(frozen=True)
class Staged:
    """Pixels on a device; whoever reads them in another queue keeps them until that is done.

    Args:
        pixels: (h, w, C), as `carry` makes them.
        ready: when they are there.
    """

    pixels: Tensor
    ready: Mark


class Stager:
    """Brings pixels to a device, from any number of threads."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._upload = Stream(device, priority=-1)  # no lane's, which it would wait for, and which may be captured

    def stage(self, pixels: NDArray[Any]) -> Staged:
        """Begin to copy pixels (h, w, C); they may be let go at once.

        Raises:
            torch.OutOfMemoryError: the device has no room for them, or the machine for what is pinned.
        """
        with memory_errors(), self._upload.current():
            there = send(carry(pixels), self._device)
        return Staged(there, self._upload.mark())


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Queue a copy of a tensor of the CPU to a device on the current stream; it may be let go at once."""
    if device.type != "cuda":
        return tensor
    pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return pinned.copy_(tensor).to(device, non_blocking=True)


def bring_back(tensor: Tensor) -> Tensor:
    """Queue a copy of a tensor to the CPU on the current stream; it may be read when a mark after it is reached."""
    if tensor.device.type != "cuda":
        return tensor
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)
