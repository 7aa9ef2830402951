"""Where the time of a run went: which part of the work each thread was in, and for how long."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OTHER = "other"


@dataclass
class Spent:
    """Seconds in one part of the work: by the clock, and those in which a processor worked on this thread."""

    wall: float = 0.0
    busy: float = 0.0


class Profile:
    """Clocks for the parts of the work; cheap enough to run always.

    A thread is in one part at a time: an inner part stops the clock of the outer one. The thread that makes the profile
    is in `other` where it is in no part, so that its parts add up to the seconds since then.
    """

    def __init__(self) -> None:
        self._spent: dict[tuple[str, str], Spent] = {}
        self._lock = threading.Lock()
        self._local = threading.local()
        self._before = Spent(_process_age(), time.process_time())
        self._main = threading.get_ident()
        self._switch([OTHER])

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Be in a part of the work."""
        outer = self._parts
        self._switch([*outer, name])
        try:
            yield
        finally:
            self._switch(outer)

    def to_dict(self) -> dict[str, Any]:
        """Return as JSON what was spent until now; the shares are of the seconds since the process was started."""
        self._switch(self._parts)
        with self._lock:
            spent = {("main", "start-up"): self._before} | self._spent
        wall = sum(one.wall for (thread, _), one in spent.items() if thread == "main")
        return {
            "seconds": round(wall, 3),
            "processor_seconds": round(time.process_time(), 3),
            "parts": [
                {
                    "thread": thread,
                    "part": part,
                    "seconds": round(one.wall, 3),
                    "busy_seconds": round(one.busy, 3),
                    "share": round(one.wall / wall, 4),
                }
                for (thread, part), one in sorted(spent.items(), key=lambda item: (item[0][0] != "main", -item[1].wall))
            ],
        }

    @property
    def _parts(self) -> list[str]:
        parts: list[str] = getattr(self._local, "parts", [])
        return parts

    def _switch(self, parts: list[str]) -> None:
        """Give the time since the last switch to the part that this thread was in; go on with the last of `parts`."""
        wall, busy = time.perf_counter(), time.thread_time()
        if self._parts:
            since = self._local.since
            with self._lock:
                spent = self._spent.setdefault((self._thread, self._parts[-1]), Spent())
                spent.wall += wall - since.wall
                spent.busy += busy - since.busy
        self._local.parts, self._local.since = parts, Spent(wall, busy)

    @property
    def _thread(self) -> str:
        """What a table calls this thread: pools number theirs, as in `reader_0`."""
        return "main" if threading.get_ident() == self._main else threading.current_thread().name.rsplit("_", 1)[0]


def _process_age() -> float:
    """Return the seconds since this process was started; where the system does not say, those that it computed."""
    try:
        ticks = int(Path("/proc/self/stat").read_text("ascii", "replace").rpartition(")")[2].split()[19])
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError):
        return time.process_time()
