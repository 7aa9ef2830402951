"""`unettile` with small blocks and its processor for two GPUs: python -m tests.commands.standins ARGUMENT...

The environment may say what befalls a process: STANDIN=slow, and a block takes 0.3 s; in a process that has a share
alone, refuse: nothing can be written; defect: what nobody foresaw.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

PROGRAM = [sys.executable, "-m", "tests.commands.standins"]


def befall(what: str) -> None:
    """Let it happen to this process."""
    from unettile.errors import InputError
    from unettile.segmentation.run.directory import RunDirectory

    write = RunDirectory.write_block

    def write_otherwise(self: RunDirectory, *arguments: Any) -> None:
        if what == "refuse":
            raise InputError("the disk is full")
        if what == "defect":
            raise ZeroDivisionError("nobody foresaw it")
        write(self, *arguments)
        time.sleep(0.3)

    RunDirectory.write_block = write_otherwise  # type: ignore[method-assign]


def main() -> None:
    """Run the command line."""
    from unettile import cli, devices, tiling
    from unettile.commands import gpus

    tiling.BLOCK_EDGE = 64
    devices.list_cuda = lambda: ("cpu", "cpu")
    gpus.program_words = lambda: PROGRAM
    what = os.environ.get("STANDIN", "")
    if what == "slow" or (what and "--share" in sys.argv):
        befall(what)
    cli.main()


if __name__ == "__main__":
    main()
