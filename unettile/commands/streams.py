"""The standard streams as every command needs them: open, and able to write whatever a name holds."""

from __future__ import annotations

import io
import os
import sys


def mend_streams() -> None:
    """Open what the shell closed (`>&-`) into nothing, and have stdout escape what its encoding does not know.

    A stream that is closed would lend its number to the next file that is opened, and messages of libraries would be
    written into that.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
