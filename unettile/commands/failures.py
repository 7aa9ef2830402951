"""Errors → exit codes and one line each. What is not listed here is a defect of unettile."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unettile.commands.console import one_line
from unettile.errors import Incomplete, InputError, UnettileError

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

NO_THREADS = (
    "this machine lets you start no more threads or processes (ulimit -u or -v, or the limit of the job): end others or"
    " raise the limit, then give the same command again"
)
NO_FILES = (
    "this machine lets you open no more files (ulimit -n): raise the limit, then give the same command again; nothing"
    " that is finished is lost"
)
USED_UP = {errno.EAGAIN: NO_THREADS, errno.EMFILE: NO_FILES, errno.ENFILE: NO_FILES}
"""Limits of the machine. Nothing is wrong with the input, and the same command goes on once there is room."""

NO_TEMPORARY = "no directory for temporary files can be written: set TMPDIR to one"

OUT_OF_MEMORY = "out of memory"
LESS_MEMORY = {
    "segment": "give a smaller --tile or --batch, or more memory",
    "train": "give a smaller run.batch or run.output_edge with --set, fewer --workers, or more memory",
}
"""What each command can do to need less."""

MORE_MEMORY = "give the command more memory (ulimit -v, or the limit of the job)"

WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""Errors that only writing meets. The system names no file when a write into an open one fails."""


@dataclass(frozen=True)
class Failure:
    """How a command ends: the exit code and the line that says why."""

    exit_code: int
    message: str


class Told(Exception):
    """An error of which a command knows more than a line: what `--json` prints besides.

    Args:
        error: what ends the command.
        details: JSON.
    """

    def __init__(self, error: Exception, details: dict[str, Any]) -> None:
        super().__init__(str(error))
        self.error = error
        self.details = details


def explain(error: BaseException, command: str = "") -> Failure | None:
    """Return how to report an error, or None for a defect of ours, which deserves its traceback.

    Args:
        command: whose options the advice may name.
    """
    if isinstance(error, UnettileError) and not isinstance(error, InputError):
        return Failure(error.exit_code, one_line(str(error)))
    limit = _limit(error, command)
    if limit is not None or isinstance(error, InputError):
        return limit or Failure(InputError.exit_code, one_line(str(error)))
    if isinstance(error, FileNotFoundError) and "temporary directory" in str(error):  # what tempfile says
        return Failure(InputError.exit_code, NO_TEMPORARY)
    if isinstance(error, OSError) and error.errno in REFUSED:
        path = error.filename2 or error.filename
        where = f"{path}: " if path is not None else ""
        return Failure(InputError.exit_code, one_line(f"{where}{REFUSED[error.errno]}"))
    return None


def _limit(error: BaseException | None, command: str) -> Failure | None:
    """Return how to report a limit of the machine; None if the error is none, and was not made of one.

    Who reads an image calls it unreadable, whatever the reason.
    """
    if error is None:
        return None
    if _is_out_of_memory(error):
        return Failure(InputError.exit_code, f"{OUT_OF_MEMORY}: {LESS_MEMORY.get(command, MORE_MEMORY)}")
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return Failure(Incomplete.exit_code, NO_THREADS)
    if isinstance(error, ImportError) and "Too many open files" in str(error):
        return Failure(Incomplete.exit_code, NO_FILES)
    if isinstance(error, OSError) and error.errno in USED_UP:
        return Failure(Incomplete.exit_code, USED_UP[error.errno])
    return _limit(error.__cause__, command)


@contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Name the destination in an error of writing that names no file."""
    try:
        yield
    except OSError as error:
        if error.errno in WRITE_ERRORS and error.filename is None:
            error.filename = str(path)
        raise


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    text = str(error)
    if isinstance(error, ImportError):  # what the loader of libraries says where it may map no more
        return "failed to map segment" in text or "cannot allocate memory" in text.lower()
    torch = sys.modules.get("torch")  # an error of torch's cannot come before torch does
    if torch is None or not isinstance(error, RuntimeError):
        return False
    # On the CPU torch raises a bare RuntimeError, and so does CUDA that finds no room for itself on a GPU.
    words = ("not enough memory", "alloc_cpu", "CUDA error: out of memory")
    return isinstance(error, torch.OutOfMemoryError) or any(said in text for said in words)
