"""Errors → exit codes and one line each. What is not listed here is a defect of unettile."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from unettile.commands.console import one_line
from unettile.errors import InputError, UnettileError

REFUSED = {
    errno.ENOSPC: "no space is left on the disk: free some, or write elsewhere",
    errno.EDQUOT: "your disk quota is used up: free some, or write elsewhere",
    errno.EFBIG: "the file would be larger than allowed here: raise the limit, or write elsewhere",
    errno.EACCES: "permission denied: change its permissions, or choose another path",
    errno.EPERM: "operation not permitted: change its permissions, or choose another path",
    errno.EROFS: "the file system is read-only: write elsewhere",
    errno.ENOTDIR: "a part of the path is not a directory: correct the path",
    errno.EISDIR: "is a directory: give a file",
    errno.ENAMETOOLONG: "the name is too long: choose a shorter one",
    errno.ELOOP: "the symbolic links run in a circle: correct the path",
    errno.EIO: "the disk or the network file system failed: try again, then ask who runs it",
    errno.ESTALE: "the network file system lost the file: try again",
}
"""Errors of the operating system that are the surroundings' fault, not ours, and what to do about them."""

OUT_OF_MEMORY = "out of memory: give a smaller --tile or --batch, or more memory"


WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""Errors that only writing meets. The system names no file when a write into an open one fails."""


@dataclass(frozen=True)
class Failure:
    """How a command ends: the exit code and the line that says why."""

    exit_code: int
    message: str


def explain(error: BaseException) -> Failure | None:
    """Return how to report an error, or None for a defect of ours, which deserves its traceback."""
    if isinstance(error, UnettileError):
        return Failure(error.exit_code, one_line(str(error)))
    if isinstance(error, MemoryError) or _is_torch_out_of_memory(error):
        return Failure(InputError.exit_code, OUT_OF_MEMORY)
    if isinstance(error, OSError) and error.errno in REFUSED:
        path = error.filename2 or error.filename
        where = f"{path}: " if path is not None else ""
        return Failure(InputError.exit_code, one_line(f"{where}{REFUSED[error.errno]}"))
    return None


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Name the destination in an error of writing that names no file."""
    try:
        yield
    except OSError as error:
        if error.errno in WRITE_ERRORS and error.filename is None:
            error.filename = str(path)
        raise


def _is_torch_out_of_memory(error: BaseException) -> bool:
    torch = sys.modules.get("torch")  # an error of torch's cannot come before torch does
    if torch is None or not isinstance(error, RuntimeError):
        return False
    # On the CPU torch raises a bare RuntimeError.
    return isinstance(error, torch.OutOfMemoryError) or "not enough memory" in str(error) or "alloc_cpu" in str(error)
