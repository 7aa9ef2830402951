"""A process that runs commands in children of its own, each with limits of memory and time.

Reads a JSON list of arguments a line, answers with a JSON object a line. It imports what commands need once, and uses
none of it, so that a child is ready within milliseconds and as fresh as a new process.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import signal
import sys
import tempfile
import time
from pathlib import Path

CPU_S = 60  # some cases compile loops first
WALL_S = 240.0  # on a machine that is busy otherwise, too
DATA_BYTES = 3 * 2**30
WARM = (
    "torch",
    "zarr",
    "tifffile",
    "imagecodecs",
    "unettile.segmentation.segment",
    "unettile.segmentation.stitch",
    "unettile.segmentation.planning",
    "unettile.objects.job",
    "unettile.objects.write",
    "unettile.weighting.write",
    "unettile.report.page",
    "unettile.training.loop",
    "unettile.training.request",
    "unettile.models",
    "unettile.program",
    "unettile.face.train",
    "unettile.face.objects",
    "unettile.face.weights",
)


def serve() -> None:
    """Answer lines until there are none."""
    from unettile.cli import run

    for name in WARM:
        with contextlib.suppress(ImportError):  # an older version has other modules
            importlib.import_module(name)
    for line in sys.stdin:
        with tempfile.TemporaryFile() as told:
            start = time.monotonic()
            child = os.fork()
            if child == 0:
                _become_command(told.fileno())
                os._exit(run(json.loads(line)))
            code, peak = _wait(child, start + WALL_S)
            told.seek(0)
            text = told.read().decode("utf-8", "replace")
        answer = {"code": code, "seconds": time.monotonic() - start, "mib": peak, "said": text[-4000:]}
        print(json.dumps(answer), flush=True)  # noqa: T201


def _become_command(output: int) -> None:
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_DATA, (DATA_BYTES, DATA_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**28, 2**28))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


def _wait(child: int, until: float) -> tuple[int, float]:
    """Return the exit code, below 0 for a signal, and the peak of memory in MiB."""
    while True:
        found, status, used = os.wait4(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status), used.ru_maxrss / 1024
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            until = float("inf")
        time.sleep(0.005)


if __name__ == "__main__":
    serve()
