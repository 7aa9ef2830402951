"""SIGINT, SIGTERM and SIGUSR1: stop at once in general, after the step in work where a command asks for it.

A signal never leaves half an output behind: either an exception unwinds the command, whose temporary files remove
themselves on the way, or the run finishes its step and stops. Either way the process then dies of the signal itself,
so that shells, schedulers and parents see it (130 and 143). After SIGUSR1, by which batch systems tell that the time
is nearly over, it exits with 75: the work is incomplete, and the job may be queued again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
SIGPIPE = int(signal.SIGPIPE)

SHOW_CURSOR = "\x1b[?25h"
"""A progress bar hides the terminal's cursor; a process that dies inside one has to bring it back."""

GRACE_S = 10.0
"""How long a step of `segment` may go on after a signal, seconds; batch systems kill after 30."""

ShouldStop = Callable[[], int | None]
"""Returns the number of the signal that asked the run to stop, or None."""


class StopNow(BaseException):
    """A signal came while nothing was worth finishing. Not an Exception, so that no `except Exception` swallows it."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


@contextmanager
def stop_at_once() -> Iterator[None]:
    """Turn the signals into StopNow, so that `with` and `finally` clean up. Nothing outside the main thread."""

    stopping = False

    def stop(signum: int, frame: FrameType | None) -> None:
        nonlocal stopping
        if stopping and signum == signal.SIGUSR1:  # some batch systems repeat it; cleaning up goes on
            return
        stopping = True
        raise StopNow(signum)

    with _handled_by(stop):
        yield


@contextmanager
def finish_step_first(notice: str = "", grace_s: float = 0.0) -> Iterator[ShouldStop]:
    """Note a signal in a flag that the run asks for between two steps.

    A second signal unwinds at once, as in `stop_at_once`; a third kills, should the unwinding hang. SIGUSR1 counts
    once, however often it comes: batch systems send it to every process of a job, and some of them repeat it.

    Args:
        notice: a line for stderr when the first signal comes.
        grace_s: after so many seconds the run unwinds, whatever it is at; 0 lets it take its time.
    """
    asked: list[int] = []

    def note(signum: int, frame: FrameType | None) -> None:
        if asked and signum == signal.SIGUSR1:
            return
        asked.append(signum)
        if len(asked) == 1:
            _tell(f"\n{notice}\n" if notice else "")
            signal.setitimer(signal.ITIMER_REAL, grace_s)
        elif len(asked) == 2:
            raise StopNow(signum)
        else:
            _tell(SHOW_CURSOR if sys.stderr.isatty() else "")
            die_of(signum)

    def enough(signum: int, frame: FrameType | None) -> None:
        raise StopNow(asked[0])

    with _handled_by(note), _handled_by(enough, (signal.SIGALRM,) if grace_s else ()):
        try:
            yield lambda: asked[0] if asked else None
        finally:
            if asked:
                signal.setitimer(signal.ITIMER_REAL, 0)


def die_of(signum: int) -> None:
    """End this process by the signal, as if it had never been caught."""
    signal.signal(signum, signal.SIG_DFL)
    os.kill(os.getpid(), signum)


def _tell(text: str) -> None:
    # Past Python's buffers: the handler may have interrupted a write to them.
    with contextlib.suppress(OSError):
        os.write(2, text.encode())


@contextmanager
def _handled_by(
    handler: Callable[[int, FrameType | None], None], numbers: Sequence[signal.Signals] = SIGNALS
) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # Python allows handlers in the main thread only
        return
    # A signal that the parent chose to ignore (nohup, a background job of a script) stays ignored.
    before = {number: signal.getsignal(number) for number in numbers}
    handled = [number for number in numbers if before[number] is not signal.SIG_IGN]
    for number in handled:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, before[number])
