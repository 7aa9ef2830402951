"""Regular files: read whole, up to a size, and nothing else: a pipe or a device would never end."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader, FileIO
from pathlib import Path


def open_regular(path: Path) -> BufferedReader:
    """Open a file for reading.

    Raises:
        OSError: it is not there or cannot be read; or it is no file but a pipe, a device or a socket (EINVAL).
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe without a writer would wait for one
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return BufferedReader(FileIO(handle, "rb"))
    kind = errno.EISDIR if stat.S_ISDIR(os.fstat(handle).st_mode) else errno.EINVAL
    os.close(handle)
    raise OSError(kind, os.strerror(kind) if kind == errno.EISDIR else "it is no regular file", str(path))


def read_regular(path: Path, most: int) -> bytes:
    """Return what is in a file of at most so many bytes.

    Raises:
        OSError: as `open_regular`; or it is larger (EFBIG).
    """
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"it has more than {most} bytes", str(path))
    return content
