"""Standard streams: those that a process was started without, those that break, and names that are no text."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
from typing import Any, TextIO

from unettile.errors import InputError

_STDIN, _STDOUT, _STDERR = 0, 1, 2


def open_streams() -> None:
    """Give a process that was started without standard streams (`>&-`) others in their places.

    Otherwise the next file that it opens takes the number of one, and gets what libraries write there. What is written
    to a standard output that was closed is refused; what is said on a standard error that was closed is lost.
    """
    for number, mode in ((_STDIN, os.O_RDONLY), (_STDOUT, os.O_RDONLY), (_STDERR, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            made = os.open(os.devnull, mode)  # takes the lowest number, which is this one
            assert made == number, f"{made} for {number}"
    # the streams last as long as the process
    if sys.stdin is None:
        sys.stdin = open(_STDIN, closefd=False)  # noqa: SIM115
    if sys.stdout is None:
        sys.stdout = open(_STDOUT, "w", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(_STDERR, "w", closefd=False)  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        # PYTHONIOENCODING=ascii has no µ and no ×; raw bytes in names have no letter in any encoding
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def write_result(text: str) -> None:
    """Write to standard output at once.

    Raises:
        BrokenPipeError: nobody reads on.
        InputError: it is closed, or full.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        discard_output()
        why = "it is closed" if error.errno == errno.EBADF else (error.strerror or str(error)).lower()
        raise InputError(f"cannot write to standard output ({why}): give it a file or a pipe") from error


def write_bytes(text: str) -> None:
    """Write a text that a program will read, names in it byte for byte, to standard output at once.

    Raises:
        BrokenPipeError, InputError: as in `write_result`.
    """
    try:
        sys.stdout.flush()
        buffer = sys.stdout.buffer
    except AttributeError:  # a stream without bytes, of a notebook say
        write_result(text)
        return
    with contextlib.suppress(OSError):  # the flush says so again
        buffer.write(text.encode("utf-8", "surrogateescape"))
    write_result("")


def write_error(text: str) -> None:
    """Write to standard error at once; one that is full, or that nobody reads, keeps no work from being finished."""
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.write(text)
        sys.stderr.flush()


def to_json(value: dict[str, Any]) -> str:
    """Return one line of JSON that standard output can hold: what its encoding lacks is escaped.

    >>> to_json({"file": "\\udcff.tif"})
    '{"file": "\\\\udcff.tif"}'
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, allow_nan=False)
    return text


def discard_output() -> None:
    """Send what still waits for standard output nowhere: Python would complain once more when it flushes at exit."""
    _discard(sys.stdout)


def close_streams() -> None:
    """Flush standard output and standard error; what cannot be written is lost without another word."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            _discard(stream)


def _discard(stream: TextIO) -> None:
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
