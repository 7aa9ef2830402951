"""`segment --device cuda:all`, stopped, killed or failing: what is finished stays, no process does, and it goes on.

The processor stands in for GPUs; this process is the first of two.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.commands.conftest import FIRST, Started, words
from tests.commands.standins import PROGRAM
from tests.conftest import ROOT
from tests.scenarios.conftest import Cli
from unettile.cli import run
from unettile.commands import gpus
from unettile.segmentation.run.directory import marked

ALL = ("--device", "cuda:all")


@contextmanager
def when(condition: Callable[[], bool], act: Callable[[], None]) -> Iterator[None]:
    """Act from a thread as soon as something is so while the body runs."""
    over, acted = threading.Event(), threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            if condition():
                acted.set()
                act()
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert acted.is_set(), "the body was over before it happened"


def helping(run_directory: Path) -> Callable[[], bool]:
    """Return what tells whether this process has done its share, and the other has finished a block."""
    return lambda: len(there := marked(run_directory)) > FIRST and max(there) >= FIRST


def test_a_process_that_is_killed(
    cli: Cli, given: Path, tmp_path: Path, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line with the device, and 75; the same image goes on by one device, the same way as by two."""
    monkeypatch.setenv("SLOW", "1")
    out, place = tmp_path / "mask.tif", tmp_path / "mask.tif.run"
    with when(helping(place), lambda: started[0].kill()):
        done = cli(*words(given, given / "image.tif", out, *ALL, "--quiet"))
    assert done.code == 75 and done.err.count("\n") == 1, done.err
    assert "the process on cpu was killed by signal 9" in done.err and "same command again" in done.err
    assert FIRST < len(marked(place)) < 9 and not out.exists()
    assert run(words(given, given / "image.tif", out, "--device", "cpu", "--quiet")) == 0
    assert out.read_bytes() == (given / "mask.tif").read_bytes() and list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGUSR1, 75)])
def test_stopped_by_a_signal(
    cli: Cli,
    given: Path,
    tmp_path: Path,
    started: Started,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    code: int,
) -> None:
    """It ends as one process does, and the other one with it: what that had finished stays.

    A terminal interrupts both; SIGUSR1 comes to the first alone, as Slurm's `--signal=B:USR1` sends it.
    """

    def stop() -> None:
        os.kill(os.getpid(), number)
        if number == signal.SIGINT:
            started[0].send_signal(number)

    monkeypatch.setenv("SLOW", "1")
    out, place = tmp_path / "mask.tif", tmp_path / "mask.tif.run"
    with when(helping(place), stop):
        done = cli(*words(given, given / "image.tif", out, *ALL, "--quiet"))
    assert done.code == code and done.err.count("\n") == 1 and "same command again" in done.err, done.err
    assert started[0].returncode == (75 if number == signal.SIGUSR1 else -number), "it stopped by itself"
    assert FIRST < len(marked(place)) < 9
    assert run(words(given, given / "image.tif", out, "--device", "cpu", "--quiet")) == 0
    assert out.read_bytes() == (given / "mask.tif").read_bytes()


@pytest.mark.timeout(600)  # four processes are started, on a machine that may have other work
def test_when_the_first_process_is_killed_no_other_stays(
    given: Path, tmp_path: Path, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run goes on with another number of devices than it was begun with."""
    out, place = tmp_path / "mask.tif", tmp_path / "mask.tif.run"
    command = [*PROGRAM, *words(given, given / "image.tif", out, *ALL, "--quiet")]
    first = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "SLOW": "1"})
    deadline = time.monotonic() + 200
    while not helping(place)():
        assert first.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    children = Path(f"/proc/{first.pid}/task/{first.pid}/children")
    others = children.read_text().split() if children.exists() else []
    first.kill()
    first.wait()
    while any(is_running(number) for number in others):
        assert time.monotonic() < deadline, "it is still there"
        time.sleep(0.05)
    assert len(others) == 1 and len(marked(place)) < 9 and not out.exists()
    monkeypatch.setattr("unettile.devices.list_cuda", lambda: ("cpu", "cpu", "cpu"))
    before, left = len(started), 9 - len(marked(place))
    assert run(words(given, given / "image.tif", out, *ALL, "--quiet")) == 0
    assert len(started) - before == min(2, left - 1)
    assert out.read_bytes() == (given / "mask.tif").read_bytes() and list(tmp_path.iterdir()) == [out]


def is_running(number: str) -> bool:
    """Whether a process is there, and is no more than waited for by whoever has inherited it."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_its_time_is_up(
    cli: Cli, given: Path, tmp_path: Path, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLOW", "1")  # the other one's five blocks take longer than that, on any machine
    out = tmp_path / "mask.tif"
    done = cli(*words(given, given / "image.tif", out, *ALL, "--quiet", "--max-time", "1s"))
    assert done.code == 75 and done.err.count("\n") == 1 and "stopped by --max-time" in done.err, done.err
    assert all(helper.returncode is not None for helper in started) and not out.exists()
    assert run(words(given, given / "image.tif", out, "--device", "cpu", "--quiet")) == 0
    assert out.read_bytes() == (given / "mask.tif").read_bytes()


def ending(code: int, out: str = "", err: str = "") -> list[str]:
    """Return the words of a program that ends in such a way, whatever it is told."""
    return [sys.executable, "-c", f"import sys; sys.stdout.write({out!r}); sys.stderr.write({err!r}); sys.exit({code})"]


@pytest.mark.parametrize(
    ("program", "code", "said"),
    [
        (ending(3, '{"message": "the disk is full"}', "unettile: the disk is full"), 3, "cpu: the disk is full"),
        (ending(2, '{"message": "no such device"}'), 2, "cpu: no such device"),
        (ending(75, '{"message": "no room for threads"}'), 75, "no room for threads"),
        (ending(3, "", "one\nno interpreter\n"), 3, "cpu: no interpreter"),
        (ending(3), 3, "cpu: ended with code 3"),
    ],
    ids=["input", "usage", "limits", "no JSON", "silent"],
)
def test_a_process_that_fails(
    cli: Cli,
    given: Path,
    tmp_path: Path,
    started: Started,
    monkeypatch: pytest.MonkeyPatch,
    program: list[str],
    code: int,
    said: str,
) -> None:
    """Its exit code is that of the command; its line is told once, with the device; what is finished stays."""
    monkeypatch.setattr(gpus, "program_words", lambda: program)
    out = tmp_path / "mask.tif"
    done = cli(*words(given, given / "image.tif", out, *ALL, "--quiet"))
    assert (done.code, done.err) == (code, f"unettile: {said}\n") and len(started) == 1
    assert set(marked(tmp_path / "mask.tif.run")) <= {*range(FIRST)} and not out.exists()


def test_a_defect_shows_where_it_was(
    cli: Cli, given: Path, tmp_path: Path, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = "Traceback: line 7\nZeroDivisionError: nobody foresaw it\n"
    monkeypatch.setattr(gpus, "program_words", lambda: ending(1, "", trace))
    done = cli(*words(given, given / "image.tif", tmp_path / "mask.tif", *ALL, "--quiet"))
    assert done.code == 1 and trace in done.err and "the process on cpu ended with code 1" in done.err, done.err
