"""A final name shows a whole file or nothing."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
from pathlib import Path

import pytest

from unettile.atomic import atomic_path, remove_leftovers
from unettile.errors import InputError


def test_the_file_appears_whole_and_replaces_the_old_one(tmp_path: Path) -> None:
    final = tmp_path / "a.bin"
    final.write_bytes(b"old")
    with atomic_path(final) as temporary:
        temporary.write_bytes(b"new")
        assert temporary.parent == final.parent and final.read_bytes() == b"old"
    assert final.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [final]


@pytest.mark.parametrize("error", [ValueError("ours"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    final = tmp_path / "a.bin"
    final.write_bytes(b"old")
    with pytest.raises(type(error)), atomic_path(final) as temporary:
        temporary.write_bytes(b"half")
        raise error
    assert final.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [final]


@pytest.mark.parametrize(
    ("number", "message"),
    [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "read-only"), (errno.EDQUOT, "quota")],
)
def test_a_destination_that_refuses_is_named(tmp_path: Path, number: int, message: str) -> None:
    with pytest.raises(InputError, match=f"cannot write .*a.bin.*{message}"), atomic_path(tmp_path / "a.bin") as path:
        path.write_bytes(b"half")
        raise OSError(number, "no")
    assert not list(tmp_path.iterdir())


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "none" / "a.bin"
    with pytest.raises(InputError, match="its directory does not exist"), atomic_path(missing) as path:
        path.write_bytes(b"")


def test_a_failure_of_another_file_is_not_blamed_on_the_destination(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "a.bin"):
        (tmp_path / "vanished").read_bytes()


def test_leftovers_of_the_dead_are_removed(tmp_path: Path) -> None:
    final = tmp_path / "a.tif"
    dead = subprocess.Popen(["true"])
    dead.wait()
    host = socket.gethostname()
    gone = tmp_path / f".a.tif.{host}.{dead.pid}.tmp"
    stay = [tmp_path / f".a.tif.{host}.{os.getpid()}.tmp", tmp_path / f".a.tif.elsewhere-{host}.{dead.pid}.tmp"]
    stay += [tmp_path / f".b.tif.{host}.{dead.pid}.tmp", tmp_path / f".a.tif.{host}.tmp", final]
    for path in (gone, *stay):
        path.write_text("x")
    remove_leftovers(final)
    assert sorted(tmp_path.iterdir()) == sorted(stay)
