"""Limits: how many processors and how much memory this process may use; a job often owns a part of its machine.

A control group (cgroup) limits its members and those of the groups below it, so that the tightest of a group and its
ancestors holds. Version 2 has one tree of groups; version 1 has one for each controller, `memory` and `cpu` among them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from unettile.errors import Incomplete

ROOT = Path("/")

_POOLS, _OTHERS = 3, 6  # pools of threads, one of each library; threads besides them

_UNLIMITED = 2**60  # version 1 writes about 2**63 where there is no limit


def count_threads(given: int | None = None, environ: Mapping[str, str] | None = None, root: Path = ROOT) -> int:
    """Return how many threads this process should compute with, at least 1; never the machine's count by itself.

    `given`, else OMP_NUM_THREADS, else SLURM_CPUS_PER_TASK, else the processors that the scheduler lets it run on, of
    which a quota of its control groups may pay for fewer.

    Args:
        environ: of the process.
        root: of the file system with `proc` and the mounted control groups.
    """
    environ = os.environ if environ is None else environ
    for threads in (given, *(_positive(environ, name) for name in ("OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK"))):
        if threads is not None:
            return threads
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = min((group.processors() for group in _groups("cpu", root)), default=float("inf"))
    return max(1, int(min(processors, quota)))  # rounded down: a thread too many makes all others wait for it


def check_threads(threads: int) -> None:
    """Refuse to begin where the threads that a command needs cannot be started.

    Libraries of compiled code do not ask: some end the process where they can start no thread, some send it a signal.

    Args:
        threads: that are computed with; three libraries have as many each, and a few more read and write.

    Raises:
        Incomplete: there is no room for them.
    """
    wanted = _POOLS * (threads - 1) + _OTHERS
    release, started = Event(), list[Thread]()
    try:
        for _ in range(wanted):
            thread = Thread(target=release.wait, daemon=True)
            thread.start()
            started.append(thread)
    except RuntimeError as error:
        raise Incomplete(
            f"this machine lets you start {len(started)} threads more, and the command needs {wanted} (ulimit -u, the"
            " limit of the job, or ulimit -v): end other processes, raise the limit or give fewer with"
            " OMP_NUM_THREADS, then give the same command again"
        ) from error
    finally:
        release.set()
        for thread in started:
            thread.join()


def memory_limit(environ: Mapping[str, str] | None = None, root: Path = ROOT) -> int | None:
    """Return how many bytes this process may hold: the least of its control groups, its Slurm job and what is free.

    Args:
        environ: of the process.
        root: of the file system with `proc` and the mounted control groups.

    Returns:
        Bytes; None where nothing says.
    """
    environ = os.environ if environ is None else environ
    found = [group.memory() for group in _groups("memory", root)]
    found += [_slurm_memory(environ), _available(root)]
    return min((limit for limit in found if limit is not None), default=None)


@dataclass(frozen=True)
class _Group:
    """A control group: the directory that shows its limits, for one controller or, in version 2, for all."""

    path: Path

    def memory(self) -> int | None:
        """Return its limit in bytes, if it has one."""
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = _read(self.path / name)
            if text.isdigit() and int(text) < _UNLIMITED:
                return int(text)
        return None

    def processors(self) -> float:
        """Return how many processors its quota of time pays for; infinity without one."""
        quota, _, period = _read(self.path / "cpu.max").partition(" ")
        if not quota:
            quota, period = _read(self.path / "cpu.cfs_quota_us"), _read(self.path / "cpu.cfs_period_us")
        return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else float("inf")


def _groups(controller: str, root: Path) -> Iterator[_Group]:
    """Yield this process's control groups that may limit what `controller` controls, each before its parent."""
    memberships = [line.split(":", 2) for line in _read(root / "proc/self/cgroup").splitlines()]
    own = {name: path for _, names, path in memberships for name in names.split(",")}  # version 2 has no name
    for line in _read(root / "proc/self/mountinfo").splitlines():
        fields, _, kind = line.partition(" - ")
        kinds, places = kind.split(" "), fields.split(" ")
        if kinds[0] == "cgroup2":
            member = own.get("")
        elif kinds[0] == "cgroup" and controller in kinds[-1].split(","):
            member = own.get(controller)
        else:
            continue
        if member is None:
            continue
        top = root / places[4].lstrip("/")
        # A container may see its own group as the mount's root, under a name that only its host knows.
        below = Path(member).relative_to(places[3]) if Path(member).is_relative_to(places[3]) else Path()
        group = top / below
        while group != top:
            yield _Group(group)
            group = group.parent
        yield _Group(top)


def _slurm_memory(environ: Mapping[str, str]) -> int | None:
    """Return the memory of a Slurm job on this node, bytes; Slurm counts in MiB, and 0 is all of it."""
    node = _positive(environ, "SLURM_MEM_PER_NODE")
    if node is not None:
        return node * 2**20
    each, processors = _positive(environ, "SLURM_MEM_PER_CPU"), _positive(environ, "SLURM_CPUS_ON_NODE")
    return None if each is None or processors is None else each * processors * 2**20


def _available(root: Path) -> int | None:
    """Return what Linux says can be had without swapping, bytes."""
    for line in _read(root / "proc/meminfo").splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return None


def _positive(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name, "").split(",")[0].strip()  # OpenMP allows a list, one for each nesting level
    return int(text) if text.isdigit() and int(text) > 0 else None


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace").strip()
    except OSError:
        return ""
