"""Errors become exit codes and one line; what nobody foresaw keeps its traceback."""

from __future__ import annotations

import errno
import json
import signal
from collections.abc import Callable

import pytest

from unettile import cli
from unettile.commands.failures import Told, explain
from unettile.commands.signals import StopNow
from unettile.errors import Incomplete, InputError, Interrupted, UsageError


@pytest.mark.parametrize(
    ("error", "exit_code", "part"),
    [
        (UsageError("wrong option"), 2, "wrong option"),
        (InputError("bad\nfile\x1b[31m"), 3, "bad file [31m"),
        (Incomplete("block 3"), 75, "block 3"),
        (Interrupted(15), 143, "same command again"),
        (MemoryError(), 3, "more memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), 3, "more memory"),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), 3, "more memory"),
        (RuntimeError("can't start new thread"), 75, "ulimit -u"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), 75, "ulimit -u"),
        (OSError(errno.EMFILE, "Too many open files", "/data/a.tif"), 75, "ulimit -n"),
        (ImportError("x.so: cannot open shared object file: Too many open files"), 75, "ulimit -n"),
        (OSError(errno.ENOSPC, "No space left", "/data/out.tif"), 3, "/data/out.tif: no space"),
        (OSError(errno.ENOSPC, "No space left"), 3, "no space"),
        (PermissionError(errno.EACCES, "denied", "x"), 3, "x: permission denied"),
        (OSError(errno.EROFS, "read-only", "x"), 3, "read-only"),
        (OSError(errno.EDQUOT, "quota", "x"), 3, "quota"),
        (FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"), 3, "TMPDIR"),
    ],
)
def test_explained(error: BaseException, exit_code: int, part: str) -> None:
    failure = explain(error)
    assert failure is not None
    assert failure.exit_code == exit_code and part in failure.message and "\n" not in failure.message


@pytest.mark.parametrize(
    ("cause", "exit_code", "part"),
    [
        (OSError(errno.EMFILE, "Too many open files"), 75, "ulimit -n"),
        (RuntimeError("can't start new thread"), 75, "ulimit -u"),
        (MemoryError(), 3, "out of memory"),
        (ValueError("truncated"), 3, "cannot read a.tif"),
        (None, 3, "cannot read a.tif"),
    ],
)
def test_an_image_is_not_to_blame_for_the_machine(cause: Exception | None, exit_code: int, part: str) -> None:
    try:
        raise InputError("cannot read a.tif") from cause
    except InputError as error:
        failure = explain(error)
    assert failure is not None and failure.exit_code == exit_code and part in failure.message


@pytest.mark.parametrize("error", [ValueError("x"), FileNotFoundError(errno.ENOENT, "x", "y"), RuntimeError("shapes")])
def test_our_own_defects_are_not_explained_away(error: BaseException) -> None:
    assert explain(error) is None


def raising(error: BaseException) -> Callable[[object], int]:
    def invoke(arguments: object) -> int:
        raise error

    return invoke


def test_a_defect_shows_its_traceback_and_where_to_report(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "_invoke", raising(ZeroDivisionError("oops")))
    assert cli.run([]) == 1
    shown = capsys.readouterr().err
    assert "Traceback" in shown and "ZeroDivisionError: oops" in shown and "please report" in shown


@pytest.mark.parametrize(
    ("error", "exit_code"), [(KeyboardInterrupt(), 130), (StopNow(15), 143), (StopNow(2), 130), (Interrupted(2), 130)]
)
def test_signals_have_their_codes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, exit_code: int
) -> None:
    monkeypatch.setattr(cli, "_invoke", raising(error))
    assert cli.run([]) == exit_code
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["segmentt", "x"], ["segmentt", "unettile --help"]),
        (["segment", "--til", "3"], ["--til", "unettile segment --help"]),
        (["segment"], ["IMAGE", "unettile segment --help"]),
        (["segment", "x.tif"], ["--output", "unettile segment --help"]),
        (["segment", "x.tif", "-o", "y.tif", "--batch", "many"], ["--batch", "integer", "unettile segment --help"]),
        (["segment", "x.tif", "-o", "y.tif", "--write", "masks"], ["--write", "masks", "classes", "probabilities"]),
        (["segment", "x.tif", "-o", "y.tif", "--shard", "8/8"], ["8/8", "0 <= I < N"]),
        (["segment", "x.tif", "-o", "y.tif", "--channel", "0,-1"], ["--channel", "0,-1", "0,1,2"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_a_wrong_command_line_takes_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str], parts: list[str]
) -> None:
    assert cli.run(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1
    assert all(part in shown.err for part in parts), shown.err


def test_out_of_memory_names_the_options() -> None:
    import torch

    cpu = "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"
    full = (
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"  # by others, before we begin
    )
    for error in (torch.OutOfMemoryError("CUDA out of memory"), RuntimeError(cpu), RuntimeError(full), MemoryError()):
        failure = explain(error, "segment")
        assert failure is not None and failure.exit_code == 3 and "--tile or --batch" in failure.message
        for command in ("train", "objects", "stitch", ""):
            failure = explain(error, command)
            assert failure is not None and failure.exit_code == 3, command
            assert "--tile" not in failure.message and "--batch" not in failure.message, "there are no tiles"


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (InputError("a.tif is bad"), 3, "refused"),
        (UsageError("no"), 2, "usage"),
        (Incomplete("later"), 75, "incomplete"),
        (Interrupted(15), 143, "stopped"),
        (StopNow(int(signal.SIGUSR1)), 75, "incomplete"),
        (ZeroDivisionError("oops"), 1, "failed"),
        (Told(InputError("a.tif is bad"), {"image": "b\udcff.tif"}), 3, "refused"),
    ],
)
def test_json_tells_of_failures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, status: str
) -> None:
    monkeypatch.setattr(cli, "_invoke", raising(error))
    assert cli.run(["segment", "--json"]) == code
    shown = capsys.readouterr()
    told = json.loads(shown.out)
    assert (told["status"], told["code"]) == (status, code) and shown.out.count("\n") == 1
    assert told["message"] in shown.err or code == 1
    assert told.get("image") == ("b\udcff.tif" if isinstance(error, Told) else None)
    assert cli.run(["segment"]) == code and capsys.readouterr().out == ""
