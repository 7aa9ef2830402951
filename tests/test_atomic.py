"""A final name shows a whole file or nothing."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
from pathlib import Path

import pytest

from unettile import atomic
from unettile.atomic import atomic_group, atomic_path, naming, remove_leftovers
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


def make_group(folder: Path, content: bytes, *, overwrite: bool = False) -> None:
    """Write a file and a directory that belong together."""
    file, directory = folder / "a.bin", folder / "b.zarr"
    with atomic_group((file, directory), overwrite=overwrite) as temporary:
        temporary[file].write_bytes(content)
        temporary[directory].mkdir()
        (temporary[directory] / "c").write_bytes(content)


def test_a_group_appears_together_and_replaces_the_old_one(tmp_path: Path) -> None:
    make_group(tmp_path, b"old")
    make_group(tmp_path, b"new", overwrite=True)
    assert (tmp_path / "a.bin").read_bytes() == (tmp_path / "b.zarr" / "c").read_bytes() == b"new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "b.zarr"]


def test_what_is_missing_of_a_group_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put, names = atomic._put, []

    def stop_at_the_second(temporary: Path, final: Path) -> None:
        names.append(final.name)
        if len(names) == 2:
            raise KeyboardInterrupt
        put(temporary, final)

    monkeypatch.setattr(atomic, "_put", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        make_group(tmp_path, b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]
    monkeypatch.undo()
    inode = (tmp_path / "a.bin").stat().st_ino
    make_group(tmp_path, b"x")
    assert (tmp_path / "a.bin").stat().st_ino == inode and (tmp_path / "b.zarr" / "c").read_bytes() == b"x"


@pytest.mark.parametrize("there", ["a.bin", "b.zarr/c", "b.zarr/d"])
def test_another_file_that_is_there_keeps_the_whole_group_away(tmp_path: Path, there: str) -> None:
    (tmp_path / there).parent.mkdir(exist_ok=True)
    (tmp_path / there).write_bytes(b"mine")
    with pytest.raises(InputError, match="--overwrite"):
        make_group(tmp_path, b"x")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / there]


def test_the_file_of_a_group_that_met_a_full_disk_is_named(tmp_path: Path) -> None:
    finals = tmp_path / "a.bin", tmp_path / "b.bin"
    with (
        pytest.raises(InputError, match=r"cannot write .*b\.bin: the disk is full"),
        atomic_group(finals, overwrite=False) as temporary,
    ):
        temporary[finals[0]].write_bytes(b"x")
        with naming(finals[1]):
            raise OSError(errno.ENOSPC, "no")
    assert not list(tmp_path.iterdir())


def test_the_longest_names_have_temporary_ones(tmp_path: Path) -> None:
    final = tmp_path / ("n" * 251 + ".tif")
    with atomic_path(final) as temporary:
        temporary.write_text("x")
    assert final.read_text() == "x" and [path.name for path in tmp_path.iterdir()] == [final.name]
    host = socket.gethostname()
    dead = temporary.with_name(temporary.name.replace(f".{os.getpid()}.tmp", ".99999999.tmp"))
    assert host in dead.name
    dead.write_text("left behind")
    remove_leftovers(final)
    assert not dead.exists() and final.exists()
