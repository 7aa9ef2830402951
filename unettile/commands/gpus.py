"""The processes of `segment --device cuda:all`: this one on the first GPU, and one more for each of the others.

Each of the others is given the same command with a share of the run, and a pipe on which nothing is ever written. Its
end tells them to stop, whether this process wants it or is no more: that needs no signal, and holds on any system.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

from unettile.commands.again import program_words
from unettile.commands.batch import Task
from unettile.commands.console import one_line
from unettile.commands.signals import GRACE_S
from unettile.errors import Incomplete, InputError, UsageError

if TYPE_CHECKING:
    from unettile.segmentation.share import Share

LEFT_OUT = (
    "images",
    "output",
    "into_labels",
    "ending",
    "overwrite",
    "verify",
    "show_profile",
    "dry_run",
    "device",
    "precision",
    "shard",
    "shards",
    "share",
    "max_time",
    "quiet",
    "json",
)
"""Parameters of `segment` that the other processes are given in their own way, or that are not theirs."""

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_AFTER_GRACE_S = 5.0  # to leave, for a process that was asked to stop


@dataclass(frozen=True)
class Gpus:
    """How the processes of a command are started.

    Args:
        devices: of all, that of this process first.
        options: of `segment`, beyond image, output, device and share.
        threads: of each process.
        into_labels: the label image's name, where results go into the images.
        deadline: when to stop, by `time.monotonic`, s; None for never.
    """

    devices: tuple[str, ...]
    options: tuple[str, ...]
    threads: int
    into_labels: str | None = None
    deadline: float | None = None

    def of(self, task: Task) -> ImageCrew:
        """Return those who help with an image."""
        from unettile.images.urls import url_of

        image = str(task.image if url_of(task.image) is not None else task.image.absolute())
        place = ["--output", str(task.output.absolute())]
        if self.into_labels is not None:
            place = ["--into-labels", self.into_labels]
        words = [*program_words(), "segment", image, *place, *self.options, "--quiet", "--json"]
        return ImageCrew(self.devices, words, self.threads, self.deadline)


@dataclass(frozen=True)
class ImageCrew:
    """The other processes of an image; see `unettile.segmentation.crew.Crew`.

    Args:
        words: of their command, but for device and share.
    """

    devices: tuple[str, ...]
    words: Sequence[str]
    threads: int
    deadline: float | None = None

    @contextmanager
    def start(self, shares: Sequence[Share]) -> Iterator[Callable[[], bool]]:
        helpers: list[_Helper] = []
        try:
            for device, share in zip(self.devices[1:], shares, strict=False):
                name, seeing = pin(device, os.environ)
                words = [*self.words, "--device", name, "--share", str(share)]
                if self.deadline is not None:
                    words += ["--max-time", f"{max(1, int(self.deadline - time.monotonic()))}s"]
                helpers.append(_Helper(device, words, {**os.environ, **seeing, "OMP_NUM_THREADS": str(self.threads)}))
            yield lambda: all([helper.is_finished() for helper in helpers])
        finally:
            _end(helpers)


@dataclass
class _Helper:
    """A process that computes a share.

    Args:
        device: as a person calls it.
    """

    device: str
    words: Sequence[str]
    environment: Mapping[str, str]
    out: IO[bytes] = field(default_factory=tempfile.TemporaryFile)
    err: IO[bytes] = field(default_factory=tempfile.TemporaryFile)

    def __post_init__(self) -> None:
        self.process = subprocess.Popen(
            self.words, stdin=subprocess.PIPE, stdout=self.out, stderr=self.err, env=self.environment
        )

    def is_finished(self) -> bool:
        """Whether its share is computed.

        Raises:
            InputError, UsageError, Incomplete: as it ended; a signal that killed it leaves the run incomplete.
            RuntimeError: a defect of ours.
        """
        code = self.process.poll()
        if code:
            raise self._failure(code)
        return code == 0

    def _failure(self, code: int) -> Exception:
        if code < 0:
            why = ", mostly for want of memory" if code == -signal.SIGKILL else ""
            return Incomplete(
                f"the process on {self.device} was killed by signal {-code}{why}; what is finished is kept: give the"
                " same command again to go on"
            )
        self.out.seek(0)
        self.err.seek(0)
        said = self.err.read().decode("utf-8", "replace").strip()
        try:
            message = str(json.loads(self.out.read())["message"])
        except (ValueError, KeyError, TypeError):  # it ended before it could say so in JSON
            message = said.splitlines()[-1] if said else f"ended with code {code}"
        if code == Incomplete.exit_code:  # its time is up, or the machine's limits are met: that concerns all devices
            return Incomplete(message)
        for kind in (InputError, UsageError):
            if code == kind.exit_code:
                return kind(one_line(f"{self.device}: {message}"))
        return RuntimeError(f"the process on {self.device} ended with code {code}:\n{said}")


def pin(device: str, environ: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Return the name of a device for a process of its own, and what its environment says besides.

    A process that sees one GPU alone can leave no context, and no pinned memory, on any other by accident.

    Args:
        environ: of this process, whose numbers of GPUs count what is visible to it.

    >>> pin("cuda:1", {"CUDA_VISIBLE_DEVICES": "4,6"}), pin("cpu", {})
    (('cuda', {'CUDA_VISIBLE_DEVICES': '6'}), ('cpu', {}))
    """
    kind, _, number = device.partition(":")
    if kind != "cuda" or not number:
        return device, {}
    visible = environ.get(_VISIBLE)
    return "cuda", {_VISIBLE: number if visible is None else visible.split(",")[int(number)].strip()}


def check_device(device: str, shard: str | None, shards: int | None) -> None:
    """Refuse all GPUs for what is done by one process.

    Raises:
        UsageError: says what to give instead.
    """
    if shard is not None:
        raise UsageError(
            f"--device {device} parts the image by itself: give --shard {shard} with one device, cuda or cuda:N, or"
            " leave it out"
        )
    if shards is not None:
        raise UsageError(f"--device {device} is of one machine: give --shards with --device cuda, a GPU for each job")


def end_with_parent() -> None:
    """Stop this process, as SIGUSR1 does, once standard input ends; kill it if it does not stop."""

    def wait() -> None:
        with suppress(OSError):
            while os.read(0, 1):
                pass
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(GRACE_S + _AFTER_GRACE_S)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, name="parent", daemon=True).start()


def _end(helpers: Sequence[_Helper]) -> None:
    """Tell those that still run to stop, and return when all have; each keeps what it has finished."""
    for helper in helpers:
        assert helper.process.stdin is not None
        helper.process.stdin.close()
    try:
        _wait(helpers, GRACE_S + _AFTER_GRACE_S)
    finally:  # a second signal, or the end of the time that one gives
        _wait(helpers, _AFTER_GRACE_S)
        for helper in helpers:
            helper.process.kill()
            helper.process.wait()
            helper.out.close()
            helper.err.close()


def _wait(helpers: Sequence[_Helper], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    for helper in helpers:
        with suppress(subprocess.TimeoutExpired):
            helper.process.wait(max(0.0, deadline - time.monotonic()))
