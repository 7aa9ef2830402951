"""Writing a file so that its final name never shows half of it."""

from __future__ import annotations

import errno
import os
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
    temporary = final.with_name(f".{final.name}.{socket.gethostname()}.{os.getpid()}.tmp")
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(final)
        _sync(final.parent)
    except OSError as error:
        ours = error.filename is None or Path(error.filename) in (temporary, final, final.parent)
        if ours and error.errno in REFUSALS:  # of another file, an input say, the caller knows what to say
            raise InputError(f"cannot write {final}: {REFUSALS[error.errno]}; nothing was left there") from error
        raise
    finally:
        with suppress(OSError):
            temporary.unlink()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
