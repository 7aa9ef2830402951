"""`segment --device cuda:all`: the file is that of one device, whatever befalls its processes; stood in for by CPUs.

Unless a test says otherwise, this process is the first of two, and the other one is a real process.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import tifffile

import unettile
from tests.commands.standins import PROGRAM
from tests.conftest import ROOT
from tests.scenarios.conftest import Cli, cli, make_model, make_pixels
from unettile.cli import run
from unettile.commands import gpus
from unettile.errors import UsageError
from unettile.segmentation.run.directory import RunDirectory, marked
from unettile.segmentation.share import Share
from unettile.tiling import Block

__all__ = ["cli"]

ALL = ("--device", "cuda:all")
FIRST = 4
"""Blocks of 9 that this process has; the first block of the other one has this number."""

Started = list[subprocess.Popen[bytes]]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, an image of 9 blocks, and its mask by one device."""
    place = tmp_path_factory.mktemp("given")
    make_model(place / "model.safetensors", 1)
    tifffile.imwrite(place / "image.tif", make_pixels(190, 180))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("unettile.tiling.BLOCK_EDGE", 64)
        assert run(words(place, place / "image.tif", place / "mask.tif", "--device", "cpu", "--quiet")) == 0
    return place


def words(given: Path, image: Path, out: Path, *more: str) -> list[str]:
    """Return the words of a command."""
    return ["segment", str(image), "-m", str(given / "model.safetensors"), "-o", str(out), "--tile", "68", *more]


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Started:
    """The processes that this one has started, of a machine that has two stand-ins for GPUs."""
    found: Started = []
    popen = subprocess.Popen

    def noting(*arguments: object, **options: object) -> subprocess.Popen[bytes]:
        found.append(popen(*arguments, **options))  # type: ignore[call-overload]
        return found[-1]

    monkeypatch.setattr(gpus.subprocess, "Popen", noting)
    monkeypatch.setattr(gpus, "program_words", lambda: PROGRAM)
    monkeypatch.setattr("unettile.devices.list_cuda", lambda: ("cpu", "cpu"))
    monkeypatch.setattr("unettile.tiling.BLOCK_EDGE", 64)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    return found


@pytest.fixture
def own(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The blocks that this process has computed."""
    found: list[int] = []
    write = RunDirectory.write_block

    def noting(self: RunDirectory, block: Block, pixels: np.ndarray) -> None:
        found.append(block.index)
        write(self, block, pixels)

    monkeypatch.setattr(RunDirectory, "write_block", noting)
    return found


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


def test_the_file_is_that_of_one_device(
    cli: Cli, given: Path, tmp_path: Path, started: Started, own: list[int]
) -> None:
    both = ("--write", "instances", "--write", "probabilities", "--skip-background", "--verify")
    files = [tmp_path / f"{name}.ome.tif" for name in ("one", "all")]
    assert run(words(given, given / "image.tif", files[0], *both, "--device", "cpu", "--quiet")) == 0
    own.clear()
    done = cli(*words(given, given / "image.tif", files[1], *both, *ALL, "--json"))
    assert done.code == 0, done.err
    assert files[0].read_bytes() == files[1].read_bytes() and sorted(tmp_path.iterdir()) == sorted(files)
    assert own == [*range(FIRST)], "the rest is the other's"
    assert done.err.splitlines()[0] == "computed by 2 processes, on cpu, cpu"
    assert "image.tif: 100 %" in done.err and done.err.count("wrote ") == 1, "the other one says nothing"
    told = json.loads(done.out)
    assert (told["blocks_computed"], told["blocks_resumed"], told["devices"]) == (9, 0, ["cpu", "cpu"])
    assert told["verify"]["differing_pixels"] == 0 and "left_out" in told
    [helper] = started
    assert helper.returncode == 0 and len(started) == 1
    again = cli(*words(given, given / "image.tif", files[1], *both, *ALL))
    assert again.code == 0 and "finished already" in again.err and len(started) == 1


def test_the_processes_share_the_threads(started: Started, given: Path, tmp_path: Path) -> None:
    """Two threads are one for each; the time that is left is the others', too."""
    task = gpus.Task(given / "image.tif", tmp_path / "mask.tif")
    crew = gpus.Gpus(("cuda:0", "cuda:2"), ("--tile", "68"), 1, "cells", time.monotonic() + 90).of(task)
    seen: list[tuple[list[str], dict[str, str]]] = []

    def note(words: list[str], env: dict[str, str], **options: object) -> subprocess.Popen[bytes]:
        seen.append((words, env))
        return popen([sys.executable, "-c", ""], stdin=subprocess.PIPE)

    popen = gpus.subprocess.Popen
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpus.subprocess, "Popen", note)
        patch.setenv("CUDA_VISIBLE_DEVICES", "3, 5, GPU-8a")
        with crew.start([Share(0, 1, 4, 9, 9)]) as finished:
            while not finished():
                time.sleep(0.02)
    [(given_words, environment)] = seen
    text = " ".join(given_words)
    assert "--into-labels cells --tile 68 --quiet --json --device cuda --share 0:1/4:9/9 --max-time" in text
    assert 80 <= int(given_words[-1].removesuffix("s")) <= 90
    assert environment["CUDA_VISIBLE_DEVICES"] == "GPU-8a" and environment["OMP_NUM_THREADS"] == "1"


def test_a_stack_is_shared_by_planes(given: Path, tmp_path: Path, started: Started, own: list[int]) -> None:
    planes = np.stack([make_pixels(100, 90, seed=seed) for seed in range(3)])
    tifffile.imwrite(tmp_path / "stack.tif", planes, imagej=True, metadata={"axes": "ZYX"})
    files = [tmp_path / f"{name}.tif" for name in ("one", "all")]
    for file, device in zip(files, ("cpu", "cuda:all"), strict=True):
        own.clear()
        more = ("--z", "all", "--diameter", "off", "--device", device, "--quiet")
        assert run(words(given, tmp_path / "stack.tif", file, *more)) == 0
    assert files[0].read_bytes() == files[1].read_bytes()
    assert own == [*range(4)], "one plane of three, of four blocks each"
    assert {path.name for path in tmp_path.iterdir()} == {"stack.tif", "one.tif", "all.tif"}


def test_of_a_folder_one_image_after_the_other(cli: Cli, given: Path, tmp_path: Path, started: Started) -> None:
    """An image of one block needs no other process, and one that cannot be read is refused once, by a line."""
    images = tmp_path / "images"
    images.mkdir()
    (images / "bad.tif").write_bytes(b"no image")
    (images / "large.tif").write_bytes((given / "image.tif").read_bytes())
    tifffile.imwrite(images / "small.tif", make_pixels(50, 60))
    done = cli(*words(given, images, tmp_path / "masks", *ALL, "--format", "tif"))
    assert done.code == 3 and done.err.count("cannot read") == 1, done.err
    assert "1 of 3 images was refused (2 done, 1 refused)" in done.err
    assert (tmp_path / "masks" / "large.tif").read_bytes() == (given / "mask.tif").read_bytes()
    assert {path.name for path in (tmp_path / "masks").iterdir()} == {"large.tif", "small.tif"}
    assert [helper.returncode for helper in started] == [0]


def test_a_process_that_is_killed(
    cli: Cli, given: Path, tmp_path: Path, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line with the device, and 75; the same image goes on by one device, the same way as by two."""
    monkeypatch.setenv("STANDIN", "slow")
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
    """It ends as one process does, and the other one with it: what that had finished stays."""
    monkeypatch.setenv("STANDIN", "slow")
    out, place = tmp_path / "mask.tif", tmp_path / "mask.tif.run"
    with when(helping(place), lambda: os.kill(os.getpid(), number)):
        done = cli(*words(given, given / "image.tif", out, *ALL, "--quiet"))
    assert done.code == code and done.err.count("\n") == 1 and "same command again" in done.err, done.err
    assert started[0].returncode == 75, "it was told to stop, and stopped by itself"
    assert FIRST < len(marked(place)) < 9
    assert run(words(given, given / "image.tif", out, "--device", "cpu", "--quiet")) == 0
    assert out.read_bytes() == (given / "mask.tif").read_bytes()


def test_when_the_first_process_is_killed_no_other_stays(
    given: Path, tmp_path: Path, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run goes on with another number of devices than it was begun with."""
    out, place = tmp_path / "mask.tif", tmp_path / "mask.tif.run"
    command = [*PROGRAM, *words(given, given / "image.tif", out, *ALL, "--quiet")]
    first = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "STANDIN": "slow"})
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


def test_its_time_is_up(cli: Cli, given: Path, tmp_path: Path, started: Started) -> None:
    out = tmp_path / "mask.tif"
    done = cli(*words(given, given / "image.tif", out, *ALL, "--quiet", "--max-time", "1s"))
    if done.code == 0:  # what remains of a second is enough for a machine that is quick
        return
    assert done.code == 75 and done.err.count("\n") == 1 and "stopped by --max-time" in done.err, done.err
    assert all(helper.returncode is not None for helper in started) and not out.exists()
    assert run(words(given, given / "image.tif", out, "--device", "cpu", "--quiet")) == 0
    assert out.read_bytes() == (given / "mask.tif").read_bytes()


@pytest.mark.parametrize(
    ("what", "code", "said"), [("refuse", 3, "unettile: cpu: the disk is full"), ("defect", 1, "")]
)
def test_a_process_that_fails(
    cli: Cli,
    given: Path,
    tmp_path: Path,
    started: Started,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    code: int,
    said: str,
) -> None:
    """Its exit code is that of the command; its line is told once, with the device; a defect shows where it was."""
    monkeypatch.setenv("STANDIN", what)
    out = tmp_path / "mask.tif"
    done = cli(*words(given, given / "image.tif", out, *ALL, "--quiet"))
    assert done.code == code and not out.exists(), done.err
    if said:
        assert done.err == f"{said}\n"
    else:
        assert "ZeroDivisionError: nobody foresaw it" in done.err and "in write_otherwise" in done.err
    assert [*marked(tmp_path / "mask.tif.run")] == [*range(FIRST)]


def test_where_there_is_none_or_one(
    cli: Cli, given: Path, tmp_path: Path, started: Started, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unettile.devices.list_cuda", lambda: ())
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    refused = [
        cli(*words(given, given / "image.tif", tmp_path / "no.tif", "--device", name)) for name in ("cuda", "cuda:all")
    ]
    assert refused[0] == refused[1] and refused[0].code == 2 and "0 CUDA devices" in refused[0].err
    monkeypatch.setattr("unettile.devices.list_cuda", lambda: ("cpu",))
    done = cli(*words(given, given / "image.tif", tmp_path / "one.tif", *ALL, "--json"))
    assert done.code == 0 and "processes" not in done.err and "devices" not in json.loads(done.out)
    assert (tmp_path / "one.tif").read_bytes() == (given / "mask.tif").read_bytes()
    assert not started


def test_refusals(cli: Cli, given: Path, tmp_path: Path, started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line each, before any process is started."""
    image, out = given / "image.tif", tmp_path / "mask.tif"
    planned = cli(*words(given, image, out, *ALL, "--dry-run"))
    assert planned.code == 0 and "shared by cpu, cpu, a process for each" in planned.err
    cases: list[tuple[list[str], int, str]] = [
        (words(given, image, tmp_path / "a.run", *ALL, "--shard", "0/2"), 2, "parts the image by itself"),
        (words(given, image, out, *ALL, "--shards", "2", "--dry-run"), 2, "--device cuda, a GPU for each job"),
        (words(given, image, out, *ALL, "--share", "1"), 2, "share"),
        (words(given, tmp_path / "no.tif", out, *ALL), 3, "no such file"),
        (["train", str(given), str(given), "-o", str(tmp_path / "m.safetensors"), *ALL], 2, "torchrun"),
    ]
    for command, code, said in cases:
        done = cli(*command)
        assert (done.code, done.err.count("\n")) == (code, 1) and said in done.err, done.err
    with pytest.raises(UsageError, match="unettile segment"):
        unettile.load(given / "model.safetensors", device="cuda:all")
    monkeypatch.setattr("unettile.segmentation.crew.memory_limit", lambda: 2**29)
    done = cli(*words(given, image, out, *ALL, "--quiet"))
    assert done.code == 3 and "2 processes, on cpu, cpu, need about" in done.err and done.err.count("\n") == 1
    assert not started and list(tmp_path.iterdir()) == []
