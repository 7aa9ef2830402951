"""Watch: what a run tells whoever started it, and when it is to stop."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field

from unettile.errors import Incomplete, Interrupted
from unettile.segmentation.run.profile import Profile

OnProgress = Callable[[int, int], None]
"""Takes pixels done and pixels in all."""

PART_S = 30.0
"""Seconds after which the finished tiles of blocks in work are stored: a kill costs those, and the tiles in work."""


@contextmanager
def _untold(name: str) -> Iterator[OnProgress]:
    yield lambda done, total: None


@dataclass
class Tally:
    """What was done: blocks computed, blocks that were there, and the pixels of the former."""

    computed: int = 0
    resumed: int = 0
    pixels: int = 0


@dataclass(frozen=True)
class Watch:
    """What is told to, and asked of, whoever started a run.

    Args:
        on_progress: takes pixels done and pixels in all, as long as blocks are computed.
        should_stop: asked after each batch of windows; returns the number of a signal, or None to go on.
        deadline: when the run's time is up, by `time.monotonic`, s; None for never.
        on_advice: takes a line that the user should read before the first block is done.
        profile: told which part of the work a thread is in.
        stage: opens a later stage of the work, by its name; gives what takes its progress.
    """

    on_progress: OnProgress = lambda done, total: None
    should_stop: Callable[[], int | None] = lambda: None
    deadline: float | None = None
    on_advice: Callable[[str], None] = lambda line: None
    profile: Profile = field(default_factory=Profile)
    stage: Callable[[str], AbstractContextManager[OnProgress]] = _untold

    def advise(self, line: str | None) -> None:
        """Pass a line on, if there is one."""
        if line is not None:
            self.on_advice(line)

    def check(self, ahead: float = 0.0) -> None:
        """Return if there is time for what comes next.

        Args:
            ahead: how long that takes, s.

        Raises:
            Interrupted: a signal asked the run to stop.
            Incomplete: its time would be up before the next step is done, or SIGUSR1 says that it nearly is.
        """
        signum = self.should_stop()
        if signum == signal.SIGUSR1:
            raise Incomplete("stopped by SIGUSR1; what is finished is kept: give the same command again to go on")
        if signum is not None:
            raise Interrupted(signum)
        if self.deadline is not None and time.monotonic() + ahead >= self.deadline:
            raise Incomplete("stopped by --max-time; what is finished is kept: give the same command again to go on")
