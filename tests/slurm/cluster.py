"""A real Slurm for the tests: one controller and two nodes on loopback, of Debian's packages, gone when the tests are.

Everything it keeps lies in one directory, its ports are free ones and its nodes are named after them, so that two of
them, or one beside a Slurm of the machine's own, do not meet.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "setpriv")
MEMORY_MB = 6000  # of a node: not checked against the machine's
MEMORY_CGROUP = Path("/sys/fs/cgroup/memory")  # version 1; Debian's Slurm needs systemd for version 2
START_S = 60.0

CONFIG = """\
ClusterName=unettile
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmUser=root
AuthInfo=socket={place}/munge.socket,cred_expire=5
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool.%n
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd.%n.pid
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/slurmd.%n.log
MailProg=/bin/true
{tracking}
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=20
SchedulerParameters=batch_sched_delay=0,bf_interval=5,sched_interval=2
ReturnToService=2
SlurmdParameters=config_overrides
NodeName={nodes[0]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory={memory}
NodeName={nodes[1]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 RealMemory={memory}
PartitionName=main Nodes={nodes[0]},{nodes[1]} Default=YES PriorityTier=1
PartitionName=urgent Nodes={nodes[0]},{nodes[1]} PriorityTier=10 PreemptMode=OFF
"""
WITH_CGROUPS = "ProctrackType=proctrack/cgroup\nTaskPlugin=task/cgroup"
WITHOUT_CGROUPS = "ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none"
CGROUP_CONFIG = "CgroupPlugin=cgroup/v1\nConstrainCores=no\nConstrainRAMSpace=yes\nConstrainSwapSpace=no\n"


class NoSlurmError(Exception):
    """Why there is no Slurm on this machine."""


def install() -> None:
    """Install what is missing of Debian's packages.

    Raises:
        NoSlurmError: it cannot be done here; says why.
    """
    if os.geteuid() != 0:
        raise NoSlurmError("a Slurm of the tests' own needs root")
    if _missing():
        if shutil.which("apt-get") is None:
            raise NoSlurmError(f"there is no {', '.join(_missing())}, and no apt-get to install it with")
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        limits = ("-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20")
        wanted = ("install", "--yes", "--quiet", "--no-install-recommends", *PACKAGES)
        for words in (wanted, ("update", "--quiet"), wanted):  # the lists of packages may be old, or not there yet
            command = ("timeout", "240", "apt-get", *limits, *words)
            done = subprocess.run(command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
            if not _missing():
                break
        else:
            last = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
            raise NoSlurmError(f"apt-get cannot install {' '.join(PACKAGES)}: {last}")


class Cluster:
    """Two nodes of two processors each; `start` and `stop` it, or use it in a `with`."""

    def __init__(self) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="slurm-"))
        self.place.chmod(0o755)  # munged demands that everybody can reach its socket
        self._ports = _free_ports(3)
        self.nodes = tuple(f"u{port}" for port in self._ports[1:])
        self.limits_memory = os.access(MEMORY_CGROUP, os.W_OK) and (MEMORY_CGROUP / "tasks").exists()
        self.environment = {**os.environ, "SLURM_CONF": str(self.place / "slurm.conf")}
        self.daemons: list[subprocess.Popen[bytes]] = []
        self._is_up = False

    def __enter__(self) -> Cluster:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start munged, slurmctld and two slurmd.

        Raises:
            NoSlurmError: they do not come up; shows what they logged last.
        """
        place = self.place
        (place / "munge.key").write_bytes(os.urandom(64))
        (place / "munge.key").chmod(0o400)
        (place / "state").mkdir()
        config = CONFIG.format(
            host=socket.gethostname().split(".")[0],
            place=place,
            ports=self._ports,
            nodes=self.nodes,
            memory=MEMORY_MB,
            tracking=WITH_CGROUPS if self.limits_memory else WITHOUT_CGROUPS,
        )
        (place / "slurm.conf").write_text(config)
        (place / "cgroup.conf").write_text(CGROUP_CONFIG)
        files = [f"--{name}={place}/munge.{name.split('-')[0]}" for name in ("key-file", "socket", "pid-file")]
        self._launch("munged", "--foreground", *files, f"--log-file={place}/munge.log", f"--seed-file={place}/seed")
        self._wait(lambda: (place / "munge.socket").exists(), "munged does not come up")
        self._launch("slurmctld", "-D", "-f", str(place / "slurm.conf"))
        for node in self.nodes:
            (place / f"spool.{node}").mkdir()
            self._launch("slurmd", "-D", "-N", node, "-f", str(place / "slurm.conf"))
        self._wait(self._nodes_are_idle, "the nodes do not come up")
        self._is_up = True

    def stop(self) -> None:
        """End every job and every daemon, and remove the directory."""
        with suppress(subprocess.TimeoutExpired):
            if self._is_up and self._answers("squeue", "--noheader"):
                self.call("scancel", "--user=root")
                self.call("scancel", "--user=root", "--signal=KILL", "--full")
                deadline = time.monotonic() + 40
                while self._answers("squeue", "--noheader") and time.monotonic() < deadline:
                    time.sleep(0.2)
        for daemon in reversed(self.daemons):
            daemon.terminate()
        for daemon in reversed(self.daemons):
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        for node in self.nodes:
            for group in sorted(Path("/sys/fs/cgroup").glob(f"*/slurm_{node}/**/"), reverse=True):
                with suppress(OSError):
                    group.rmdir()
        shutil.rmtree(self.place, ignore_errors=True)

    def call(self, *words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run one of Slurm's commands, or a script that does; jobs write their logs beside the configuration."""
        return subprocess.run(
            words, input=stdin, env=self.environment, cwd=self.place, capture_output=True, text=True, timeout=60
        )

    def jobs(self, job: str) -> dict[str, dict[str, str]]:
        """Return what Slurm knows of a job, or of every task of an array: JobState, ExitCode, Restarts, …

        Keyed by the index in the array, or by the number of the job.
        """
        records = self.call("scontrol", "--oneliner", "show", "job", job).stdout.splitlines()
        parsed = [dict(word.split("=", 1) for word in record.split() if "=" in word) for record in records]
        return {record.get("ArrayTaskId", record["JobId"]): record for record in parsed if "JobId" in record}

    def wait_for(self, job: str, until: Callable[[dict[str, dict[str, str]]], bool], seconds: float = 200) -> None:
        """Wait until what `jobs` returns is as wanted."""
        self._wait(lambda: until(self.jobs(job)), f"job {job} does not get there", seconds)

    def wait_until_over(self, job: str) -> dict[str, dict[str, str]]:
        """Wait until no task of a job is waiting or running; return how each ended."""
        over = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "OUT_OF_MEMORY", "NODE_FAIL")
        self.wait_for(job, lambda tasks: bool(tasks) and all(task["JobState"] in over for task in tasks.values()))
        return self.jobs(job)

    def _answers(self, *words: str) -> str:
        return self.call(*words).stdout.strip()

    def _nodes_are_idle(self) -> bool:
        states = self._answers("sinfo", "--noheader", "--Node", "--partition=main", "--format=%T").split()
        return states == ["idle", "idle"]

    def _launch(self, *words: str) -> None:
        log = (self.place / f"{words[0]}.out").open("ab")
        # the kernel ends the daemons should the tests be killed
        command = ("setpriv", "--pdeathsig", "TERM", *words)
        self.daemons.append(
            subprocess.Popen(command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        )
        log.close()

    def _wait(self, ready: Callable[[], bool], complaint: str, seconds: float = START_S) -> None:
        deadline = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > deadline or any(daemon.poll() is not None for daemon in self.daemons):
                logs = [*self.place.glob("*.log"), *self.place.glob("*.out")]
                said = "\n".join(f"{log.name}: {line}" for log in logs for line in _last_lines(log))
                raise NoSlurmError(f"{complaint}:\n{said}")
            time.sleep(0.2)


def _missing() -> list[str]:
    return [program for program in PROGRAMS if shutil.which(program) is None]


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _last_lines(log: Path) -> list[str]:
    return log.read_text("utf-8", "replace").splitlines()[-8:]
