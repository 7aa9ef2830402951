"""Writing files so that a final name never shows half of one, and that files which belong together appear together."""

from __future__ import annotations

import errno
import filecmp
import hashlib
import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from unettile.errors import InputError

_LONGEST = 220  # bytes of a name and the host's that leave room for the rest of a temporary one

REFUSALS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota is used up",
    errno.EFBIG: "the file would be larger than allowed there",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EROFS: "the file system is read-only",
    errno.ENOENT: "its directory does not exist",
    errno.ENOTDIR: "its directory is not a directory",
    errno.EISDIR: "it is a directory",
    errno.ENAMETOOLONG: "the name is too long",
}


@contextmanager
def atomic_path(final: Path) -> Iterator[Path]:
    """Give a temporary name in the same directory; on success fsync it and move it to `final`, else remove it.

    The name carries host and process, so that writers on several nodes of one file system never share it.

    Raises:
        InputError: the destination cannot be written, or is full.
    """
    temporary = _beside(final, "tmp")
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(final)
        _sync(final.parent)
    except OSError as error:
        raise _refusal(error, final, temporary) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def atomic_directory(final: Path) -> Iterator[Path]:
    """Give a new directory of a temporary name; on success fsync all of it and move it to `final`, else remove it.

    A directory that is there is moved aside first and removed when the new one has its name: at no moment does the
    name show a part of either.

    Raises:
        InputError: the destination cannot be written, or is full.
    """
    temporary = _beside(final, "tmp")
    try:
        temporary.mkdir()
        made = temporary.stat()
        yield temporary
        if not os.path.samestat(made, temporary.stat()):  # who writes into it may have made it anew
            raise FileNotFoundError(errno.ENOENT, "vanished while it was written", str(temporary))
        _sync_all(temporary)
        _put(temporary, final)
        _sync(final.parent)
    except OSError as error:
        raise _refusal(error, final, temporary) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def atomic_group(finals: Sequence[Path], *, overwrite: bool) -> Iterator[dict[Path, Path]]:
    """Give a temporary name for each of several files or directories that are to appear together, or not at all.

    On success all are made safe on disk, then each gets its name; else all are removed. A process that is killed in
    between leaves some of the names: whoever writes the same again finds these the same, and the others appear.

    Args:
        finals: their names, all different.
        overwrite: replace what is there. Without it, what is there must be the same byte by byte, and stays.

    Yields:
        The temporary name of each, which must exist at the end.

    Raises:
        InputError: another file is there, or the destination cannot be written or is full.
    """
    temporaries = {final: _beside(final, "tmp") for final in finals}
    try:
        yield temporaries
        for temporary in temporaries.values():
            _sync_all(temporary)
        there = [] if overwrite else [final for final in finals if final.exists()]
        for final in there:
            if not _is_same(temporaries[final], final):
                raise InputError(f"{final} exists and is another: choose another name, or give --overwrite")
        for final, temporary in temporaries.items():
            if final not in there:
                _put(temporary, final)
                _sync(final.parent)
    except OSError as error:
        for final, temporary in temporaries.items():
            refusal = _refusal(error, final, temporary)
            if isinstance(refusal, InputError) and error.filename is not None:
                raise refusal from error
        raise
    finally:
        for temporary in temporaries.values():
            _remove(temporary)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name the file that is being written in an error of the system that names none, as a full disk gives it."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def _put(temporary: Path, final: Path) -> None:
    """Give a file or a directory its name; a directory that is there is moved aside first."""
    if not temporary.is_dir():
        temporary.replace(final)
        return
    aside = _beside(final, "old")
    if final.is_dir():
        final.rename(aside)
    try:
        temporary.rename(final)
    except OSError:
        with suppress(OSError):
            aside.rename(final)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _is_same(one: Path, other: Path) -> bool:
    """Whether two files, or two directories with all below them, are the same byte by byte."""
    if one.is_dir() != other.is_dir():
        return False
    if not one.is_dir():
        return filecmp.cmp(one, other, shallow=False)
    names = sorted(path.relative_to(one) for path in one.rglob("*"))
    return names == sorted(path.relative_to(other) for path in other.rglob("*")) and all(
        (one / name).is_dir() or filecmp.cmp(one / name, other / name, shallow=False) for name in names
    )


def _sync_all(path: Path) -> None:
    if path.is_dir():
        for folder, _, names in os.walk(path):
            for name in names:
                _sync(Path(folder, name))
            _sync(Path(folder))
    else:
        _sync(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        path.unlink()


def _beside(final: Path, ending: str) -> Path:
    """Return a hidden name of this process in the same directory."""
    return final.with_name(f"{_start(final)}{os.getpid()}.{ending}")


def _start(final: Path) -> str:
    """Return how temporary names for `final` by processes of this host begin; a long name is shortened to its hash."""
    host = socket.gethostname()
    name = os.fsencode(final.name)
    if len(name) + len(host) > _LONGEST:
        return f".{hashlib.sha256(name).hexdigest()[:32]}.{host[:64]}."
    return f".{final.name}.{host}."


def _refusal(error: OSError, final: Path, temporary: Path) -> Exception:
    """Return what to raise: of another file, an input say, the caller knows what to say."""
    path = None if error.filename is None else Path(error.filename)
    ours = path is None or path in (final, final.parent) or path.is_relative_to(temporary)
    if ours and error.errno in REFUSALS:
        return InputError(f"cannot write {final}: {REFUSALS[error.errno]}; nothing was left there")
    return error


def remove_leftovers(final: Path) -> None:
    """Remove temporary files for `final` that killed processes of this host left behind."""
    endings = ("tmp", "old") if final.exists() else ("tmp",)  # what was moved aside may be all that there is
    _remove_dead(final.parent, _start(final), endings)


def remove_all_leftovers(folder: Path) -> None:
    """Remove temporary files for any file of a folder that killed processes of this host left behind."""
    _remove_dead(folder, ".", ("tmp",))


def _remove_dead(folder: Path, start: str, endings: Sequence[str]) -> None:
    for path in folder.iterdir():
        if not path.name.startswith(start):
            continue
        before, _, ending = path.name.rpartition(".")
        rest, _, number = before.rpartition(".")
        ours = f"{rest}." == start or (start == "." and rest.endswith(f".{socket.gethostname()[:64]}"))
        if ours and number.isdecimal() and ending in endings and not _is_alive(int(number)):
            with suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return True


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
