"""Writing a file so that its final name never shows half of it."""

from __future__ import annotations

import errno
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from unettile.errors import InputError

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
    temporary, aside = _beside(final, "tmp"), _beside(final, "old")
    try:
        temporary.mkdir()
        made = temporary.stat()
        yield temporary
        if not os.path.samestat(made, temporary.stat()):  # who writes into it may have made it anew
            raise FileNotFoundError(errno.ENOENT, "vanished while it was written", str(temporary))
        for folder, _, names in os.walk(temporary):
            for name in names:
                _sync(Path(folder, name))
            _sync(Path(folder))
        if final.is_dir():
            final.rename(aside)
        try:
            temporary.rename(final)
        except OSError:
            with suppress(OSError):
                aside.rename(final)
            raise
        _sync(final.parent)
    except OSError as error:
        raise _refusal(error, final, temporary) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(aside, ignore_errors=True)


def _beside(final: Path, ending: str) -> Path:
    """Return a hidden name of this process in the same directory."""
    return final.with_name(f".{final.name}.{socket.gethostname()}.{os.getpid()}.{ending}")


def _refusal(error: OSError, final: Path, temporary: Path) -> Exception:
    """Return what to raise: of another file, an input say, the caller knows what to say."""
    path = None if error.filename is None else Path(error.filename)
    ours = path is None or path in (final, final.parent) or path.is_relative_to(temporary)
    if ours and error.errno in REFUSALS:
        return InputError(f"cannot write {final}: {REFUSALS[error.errno]}; nothing was left there")
    return error


def remove_leftovers(final: Path) -> None:
    """Remove temporary files for `final` that killed processes of this host left behind."""
    start = f".{final.name}.{socket.gethostname()}."
    for path in final.parent.iterdir():
        if not path.name.startswith(start):
            continue
        number, _, ending = path.name[len(start) :].partition(".")
        endings = ("tmp", "old") if final.exists() else ("tmp",)  # what was moved aside may be all that there is
        if number.isdigit() and ending in endings and not _is_alive(int(number)):
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
