"""Lanes: how many windows a device computes at once; fewer where its memory ends."""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import suppress
from itertools import count

import torch

from unettile.box import Box
from unettile.inference.cuda.lane import Lane, Ticket
from unettile.inference.cuda.staging import Staged

DEPTH = 2
"""Windows that wait in a lane, so that it has work while what it made is fetched."""


class Lanes:
    """The lanes of a device for one kind of window; one at least.

    Args:
        make: makes a lane.
        wanted: how many; where the memory ends there are fewer.

    Raises:
        torch.OutOfMemoryError: there is no room for one.
    """

    def __init__(self, make: Callable[[], Lane], wanted: int) -> None:
        self._make = make
        self._most: int | None = None  # once the memory has ended
        self._lanes = [_or_free(make)]
        self._numbers = count()
        self.grow(wanted)

    def __len__(self) -> int:
        return len(self._lanes)

    @property
    def depth(self) -> int:
        """Windows that may be in work at once."""
        return DEPTH * len(self._lanes)

    @property
    def is_short(self) -> bool:
        """Whether kernels were chosen for want of memory."""
        return self._lanes[0].is_short

    @property
    def error(self) -> Exception | None:
        """Why there is no graph, where one was wanted and could not be captured."""
        return self._lanes[0].error

    def grow(self, wanted: int) -> None:
        """Make more lanes, or let go of some, until there are so many, or the memory ends.

        Where it has ended once, it is not tried again: torch may have taken other kernels then, and stays with them.
        All lanes have those of the first.
        """
        wanted = wanted if self._most is None else min(wanted, self._most)
        del self._lanes[wanted:]
        try:
            while len(self._lanes) < wanted:
                self._lanes.append(_like_the_first(_or_free(self._make)))
        except torch.OutOfMemoryError:
            self._most = len(self._lanes)

    def shrink(self) -> bool:
        """Let go of a lane, which must be idle, and of all memory that is kept for later; return whether there was one.

        The last lane stays.
        """
        spare = len(self._lanes) > 1
        if spare:
            self._lanes.pop()
        free_memory()
        return spare

    def submit(self, staged: Staged, region: Box, window: Box, shape: tuple[int, int]) -> Ticket:
        """Queue a window; see `Lane.submit`."""
        lane = self._lanes[next(self._numbers) % len(self._lanes)]
        return lane.submit(staged, region, window, shape)


def _like_the_first(lane: Lane) -> Lane:
    """Return a lane that was made beside others.

    Raises:
        torch.OutOfMemoryError: there was too little for the kernels that the others have.
    """
    if lane.is_short:
        raise torch.OutOfMemoryError("a kernel found no memory to work in")
    return lane


def _or_free(make: Callable[[], Lane]) -> Lane:
    """Make a lane; where memory ends, give back what was taken for it.

    Raises:
        torch.OutOfMemoryError: it ended.
    """
    try:
        return make()
    except torch.OutOfMemoryError as error:
        message = str(error)
    free_memory()  # not while the exception lives, whose frames hold tensors
    raise torch.OutOfMemoryError(message)


def free_memory() -> None:
    """Give back what is kept for later, and what an error that is over still holds in a circle."""
    gc.collect()
    if torch.cuda.is_available():
        with suppress(RuntimeError):  # torch before 2.12 refuses it for ever after a capture that failed
            torch.cuda.empty_cache()
