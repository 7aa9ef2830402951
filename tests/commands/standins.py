"""`unettile` with small blocks and its processor for two GPUs: python -m tests.commands.standins ARGUMENT...

With SLOW in the environment a block takes 0.3 s to be written.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

PROGRAM = [sys.executable, "-m", "tests.commands.standins"]


def write_slowly() -> None:
    """Let a block take its time."""
    from unettile.segmentation.run.directory import RunDirectory

    write = RunDirectory.write_block

    def write_and_wait(self: RunDirectory, *arguments: Any) -> None:
        write(self, *arguments)
        time.sleep(0.3)

    RunDirectory.write_block = write_and_wait  # type: ignore[method-assign]


def main() -> None:
    """Run the command line."""
    from unettile import cli, devices, tiling
    from unettile.commands import gpus

    tiling.BLOCK_EDGE = 64
    devices.list_cuda = lambda: ("cpu", "cpu")
    gpus.program_words = lambda: PROGRAM
    if "SLOW" in os.environ:
        write_slowly()
    cli.main()


if __name__ == "__main__":
    main()
