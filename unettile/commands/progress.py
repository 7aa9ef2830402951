"""Progress on stderr: a bar on a terminal, plain lines for a log."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unettile.duration import format_duration

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

PLAIN_INTERVAL_S = 30.0
"""Seconds between two lines of progress where stderr is not a terminal."""

RATE_WINDOW_S = 60.0
"""Seconds over which a rate is taken."""


@dataclass(frozen=True)
class Unit:
    """What is counted.

    Args:
        name: as shown.
        size: how many of the counted things make one of the unit.
        decimals: of totals; rates have one more.
    """

    name: str
    size: int = 1
    decimals: int = 0

    def amount(self, count: int) -> str:
        return f"{count / self.size:.{self.decimals}f} {self.name}"

    def rate(self, per_second: float) -> str:
        return f"{per_second / self.size:.{self.decimals + 1}f} {self.name}/s"


MEGAPIXELS = Unit("Mpx", 1_000_000, 1)
STEPS = Unit("steps")
IMAGES = Unit("images")


class Pace:
    """The rate of a run over its last minute, from its first figure on: what an earlier run had done does not count.

    Args:
        clock: seconds, monotonic; a parameter so that tests need not wait.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start = clock()
        self._seen: deque[tuple[float, int]] = deque()
        self.done = self.total = 0

    def update(self, done: int, total: int) -> None:
        now = self.now
        self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[1][0] >= RATE_WINDOW_S:
            self._seen.popleft()
        self.done, self.total = done, total

    @property
    def now(self) -> float:
        return self._clock()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self.now - self._start

    @property
    def per_second(self) -> float:
        if not self._seen:
            return 0.0
        (then, before), (now, done) = self._seen[0], self._seen[-1]
        return (done - before) / max(now - then, 1e-9)


class PlainProgress:
    """Progress as lines of text for logs: no carriage returns, at most one line every 30 s.

    Args:
        label: begins every line.
        unit: what is counted.
        write: takes a line without its end.
    """

    def __init__(self, label: str, unit: Unit, write: Callable[[str], None], pace: Pace) -> None:
        self._label, self._unit, self._write, self._pace = label, unit, write, pace
        self._last = pace.now
        self._note = ""

    def update(self, done: int, total: int, note: str = "") -> None:
        """Note how far the work is, and write a line if the last one is 30 s old."""
        self._pace.update(done, total)
        self._note = note
        now = self._pace.now
        if now - self._last >= PLAIN_INTERVAL_S:
            self._last = now
            self._write(self._line())

    def finish(self) -> None:
        """Write the last line."""
        if self._pace.total:
            self._write(self._line())

    def _line(self) -> str:
        pace = self._pace
        percent = 100 * pace.done // pace.total
        parts = [f"{percent} % of {self._unit.amount(pace.total)}"]
        if pace.done >= pace.total:
            parts.append(format_duration(pace.elapsed))
        elif pace.per_second > 0:
            parts.append(self._unit.rate(pace.per_second))
            parts.append(f"time left {format_duration((pace.total - pace.done) / pace.per_second)}")
        if self._note:
            parts.append(self._note)
        return f"{self._label}: {', '.join(parts)}"


def make_bar() -> Progress:
    """Return a rich progress bar on stderr; colours follow NO_COLOR and the terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        TextColumn("{task.fields[note]}", markup=False),
        console=Console(stderr=True),
    )


class BarProgress:
    """Feeds one task of a rich progress bar."""

    def __init__(self, progress: Progress, label: str, unit: Unit) -> None:
        self._progress, self._unit = progress, unit
        self._pace = Pace()
        self._task: TaskID = progress.add_task(label, total=None, rate="", note="")

    def update(self, done: int, total: int, note: str = "") -> None:
        self._pace.update(done, total)
        rate = self._unit.rate(self._pace.per_second)
        self._progress.update(self._task, completed=done, total=total, rate=rate, note=note)
