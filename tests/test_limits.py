"""Limits: the job's processors and memory, read from trees of files as the kernel shows them; never the machine's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from unettile.limits import count_threads, memory_limit

GIB = 2**30


def make_tree(root: Path, membership: str, mounts: list[str], files: dict[str, str]) -> Path:
    """Write what a process sees of its control groups; returns the root."""
    mountinfo = "\n".join(f"{n} 20 0:{n} {mount}" for n, mount in enumerate(mounts, start=30))
    meminfo = f"MemTotal: {64 * 2**20} kB\nMemAvailable: {32 * 2**20} kB"
    basics = {"proc/self/cgroup": membership, "proc/self/mountinfo": mountinfo, "proc/meminfo": meminfo}
    for name, text in (basics | files).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def version_2(root: Path, files: dict[str, str], membership: str = "0::/slurm/job_7/step_0", top: str = "/") -> Path:
    mounts = [f"{top} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"]
    return make_tree(root, membership, mounts, {f"sys/fs/cgroup/{name}": text for name, text in files.items()})


def version_1(root: Path, files: dict[str, str]) -> Path:
    membership = "4:memory:/job_7\n3:cpu,cpuacct:/job_7\n1:name=systemd:/x\n0::/"
    mounts = [
        "/ /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory",
        "/ /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct",
        "/ /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw",
    ]
    return make_tree(root, membership, mounts, {f"sys/fs/cgroup/{name}": text for name, text in files.items()})


@pytest.fixture(autouse=True)
def eight_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)


def test_threads_in_order_of_precedence(tmp_path: Path) -> None:
    slurm = {"SLURM_CPUS_PER_TASK": "2"}
    assert count_threads(None, {}, tmp_path) == 8
    assert count_threads(None, slurm, tmp_path) == 2
    assert count_threads(None, slurm | {"OMP_NUM_THREADS": "3,1"}, tmp_path) == 3
    assert count_threads(None, slurm | {"OMP_NUM_THREADS": "many"}, tmp_path) == 2
    assert count_threads(None, {"OMP_NUM_THREADS": "0"}, tmp_path) == 8
    assert count_threads(5, slurm | {"OMP_NUM_THREADS": "3"}, tmp_path) == 5


@pytest.mark.parametrize(
    ("own", "above", "threads"),
    [
        ("max 100000", "max 100000", 8),
        ("400000 100000", "max 100000", 4),
        ("max 100000", "250000 100000", 2),
        ("50000 100000", "max 100000", 1),
        ("2000000 100000", "max 100000", 8),
    ],
)
def test_a_quota_of_version_2(tmp_path: Path, own: str, above: str, threads: int) -> None:
    tree = version_2(tmp_path, {"slurm/job_7/step_0/cpu.max": own, "slurm/cpu.max": above})
    assert count_threads(None, {}, tree) == threads
    assert count_threads(None, {"OMP_NUM_THREADS": "6"}, tree) == 6


def test_a_quota_of_version_1(tmp_path: Path) -> None:
    files = {"cpu,cpuacct/job_7/cpu.cfs_quota_us": "300000", "cpu,cpuacct/job_7/cpu.cfs_period_us": "100000"}
    assert count_threads(None, {}, version_1(tmp_path, files)) == 3
    unlimited = version_1(tmp_path, files | {"cpu,cpuacct/job_7/cpu.cfs_quota_us": "-1"})
    assert count_threads(None, {}, unlimited) == 8


def test_memory_of_version_2_is_that_of_the_tightest_ancestor(tmp_path: Path) -> None:
    step, job = "slurm/job_7/step_0/memory.max", "slurm/job_7/memory.max"
    assert memory_limit({}, version_2(tmp_path, {step: "max", job: "max"})) == 32 * GIB
    assert memory_limit({}, version_2(tmp_path, {step: "max", job: str(4 * GIB)})) == 4 * GIB
    assert memory_limit({}, version_2(tmp_path, {step: str(2 * GIB), job: str(4 * GIB)})) == 2 * GIB


def test_memory_of_version_1(tmp_path: Path) -> None:
    name = "memory/job_7/memory.limit_in_bytes"
    assert memory_limit({}, version_1(tmp_path, {name: "9223372036854771712"})) == 32 * GIB
    assert memory_limit({}, version_1(tmp_path, {name: str(3 * GIB)})) == 3 * GIB
    assert memory_limit({}, version_1(tmp_path, {name: str(3 * GIB), "memory/memory.limit_in_bytes": "7"})) == 7


def test_a_container_sees_its_own_group_as_the_root(tmp_path: Path) -> None:
    hidden = version_2(tmp_path, {"memory.max": str(GIB)}, membership="0::/docker/abc", top="/docker/abc")
    assert memory_limit({}, hidden) == GIB
    stranger = version_2(tmp_path, {"memory.max": str(GIB)}, membership="0::/../elsewhere")
    assert memory_limit({}, stranger) == GIB


def test_memory_of_a_slurm_job(tmp_path: Path) -> None:
    tree = version_2(tmp_path, {})
    assert memory_limit({"SLURM_MEM_PER_NODE": "2048"}, tree) == 2 * GIB
    assert memory_limit({"SLURM_MEM_PER_NODE": "0"}, tree) == 32 * GIB
    assert memory_limit({"SLURM_MEM_PER_CPU": "1024", "SLURM_CPUS_ON_NODE": "4"}, tree) == 4 * GIB
    assert memory_limit({"SLURM_MEM_PER_CPU": "1024"}, tree) == 32 * GIB


def test_where_nothing_says(tmp_path: Path) -> None:
    assert memory_limit({}, tmp_path) is None
    assert count_threads(None, {}, tmp_path) == 8


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="no /proc: not Linux")
def test_this_machine_says_something() -> None:
    limit = memory_limit()
    assert limit is not None and limit > 2**20


@pytest.mark.parametrize(("said", "holds"), [(None, "'0'"), ("ACTIVE", "'30000000000'")])
def test_threads_that_wait_do_not_spin_unless_told_to(said: str | None, holds: str) -> None:
    """OpenMP says how often a thread looks before it sleeps, as it is loaded with torch; left alone, 300,000 times."""
    told = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    told |= {"OMP_DISPLAY_ENV": "VERBOSE"} | ({} if said is None else {"OMP_WAIT_POLICY": said})
    command = [sys.executable, "-m", "unettile", "models", "nuclei", "--json"]
    done = subprocess.run(command, env=told, capture_output=True, text=True, check=True)
    assert f"GOMP_SPINCOUNT = {holds}" in done.stderr
