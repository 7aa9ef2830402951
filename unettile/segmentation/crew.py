"""Crew: processes that compute one run together, each its share; the first of them is this one.

    this process:  begin the run | start the others | compute its share | wait | write the file
    the others:                                     | compute theirs    |

They meet in the run directory alone. What they do is a run's own work, so that whoever goes on with it, alone or with
others, finds blocks as one process leaves them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from unettile.errors import InputError
from unettile.limits import memory_limit
from unettile.segmentation.run.directory import marked
from unettile.segmentation.run.watch import Tally, Watch
from unettile.segmentation.share import Share, deal

POLL_S = 0.1
"""How often this process looks after the others once its own share is done, seconds."""

_COUNT_S = 1.0  # between two looks into the run directory, and at least twenty times what one takes


class Crew(Protocol):
    """Whoever starts the other processes.

    Attributes:
        devices: one a process, that of this one first.
    """

    @property
    def devices(self) -> tuple[str, ...]: ...

    def start(self, shares: Sequence[Share]) -> AbstractContextManager[Callable[[], bool]]:
        """Start a process for each share, on the devices after the first; leaving ends those that still run.

        Yields:
            What tells whether all of them have finished; it raises what ended one that did not.
        """
        ...


@dataclass(frozen=True)
class Work:
    """A run that is to be computed together.

    Args:
        paths: run directories of its planes, which need not exist yet.
        blocks: of a plane.
        area: px of a plane.
        memory: tells how many bytes a process needs.
    """

    paths: Sequence[Path]
    blocks: int
    area: int
    memory: Callable[[], int]

    def count_marked(self) -> int:
        """Return how many blocks are finished."""
        return sum(len(marked(path)) for path in self.paths)

    def tally(self, there: int) -> Tally:
        """Return what all processes did, of a run in which so many blocks were there before."""
        computed = max(0, self.blocks * len(self.paths) - there)
        return Tally(computed, there, self.area * computed // self.blocks)


@dataclass(frozen=True)
class Own:
    """What this process has of the work.

    Args:
        share: that it computes.
        watch: of its own work.
        tally: of the work of all, once it is done; None where it is alone, and counts itself.
    """

    share: Share
    watch: Watch
    tally: Tally | None = None


@contextmanager
def together(crew: Crew | None, work: Work, watch: Watch) -> Iterator[Own]:
    """Have others compute their shares while the body computes its own; return when all is computed.

    Args:
        crew: None for this process alone.
        watch: told of the progress of all; asked, beside the others, whether to go on.

    Raises:
        InputError: the memory does not hold so many processes; or what ended one of them.
        Incomplete, Interrupted: `watch` asked to stop, or a process was stopped or killed; what is finished is kept.
    """
    if crew is None:
        yield Own(Share.whole(len(work.paths)), watch)
        return
    there = [marked(path) for path in work.paths]
    own, *others = deal(there, work.blocks, len(crew.devices))
    before = sum(map(len, there))
    if not others:
        yield Own(own, watch)
        return
    devices = crew.devices[: 1 + len(others)]
    _check_room(work.memory(), devices)
    watch.advise(f"computed by {len(devices)} processes, on {', '.join(devices)}")
    progress = _Progress(work, watch)
    with crew.start(others) as finished:

        def should_stop() -> int | None:
            signum = watch.should_stop()
            if signum is None:  # what stops all of them is not the failure of one
                finished()
            return signum

        seen = replace(watch, on_progress=lambda done, total: progress.look(), should_stop=should_stop)
        yield Own(own, seen, work.tally(before))
        while True:
            seen.check()
            if finished():
                break
            progress.look()
            time.sleep(POLL_S)
    progress.finish()


class _Progress:
    """How far all of them are, as the run directory shows it: looked at now and then."""

    def __init__(self, work: Work, watch: Watch) -> None:
        self._work, self._watch = work, watch
        self._total = work.area * len(work.paths)
        self._next = 0.0

    def look(self) -> None:
        start = time.monotonic()
        if start < self._next:
            return
        pixels = self._work.area * self._work.count_marked() // self._work.blocks
        self._watch.on_progress(min(pixels, self._total), self._total)
        now = time.monotonic()
        self._next = now + max(_COUNT_S, 20 * (now - start))

    def finish(self) -> None:
        self._watch.on_progress(self._total, self._total)


def _check_room(memory_bytes: int, devices: Sequence[str]) -> None:
    """Refuse to start more processes than the memory holds."""
    limit, needed = memory_limit(), memory_bytes * len(devices)
    if limit is not None and needed > limit:
        raise InputError(
            f"{len(devices)} processes, on {', '.join(devices)}, need about {needed / 2**30:.1f} GiB of memory, and"
            f" {limit / 2**30:.1f} GiB are free: give a smaller --tile or --batch, more memory, or one --device"
        )
