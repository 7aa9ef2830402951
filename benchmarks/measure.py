"""What all benches share: the machine, clocks, rounds, spreads, peaks of memory, and the JSON file of results.

The contract that these functions keep is in benchmarks/README.md. Benches are modules: run them from the repository's
root, as in `python -m benchmarks.tiling`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from unettile import __version__
from unettile.limits import count_threads

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"

# The peak that a parent is told of its child is at least its own: a process has to look at itself. What it writes to
# stderr last are its peak of resident memory, KiB, and the seconds of its processors.
_LOOK_AT_ITSELF = """
import re, resource, runpy, sys
sys.argv[0] = module = sys.argv.pop(1)
try:
    runpy.run_module(module, run_name="__main__", alter_sys=True)
finally:
    used = resource.getrusage(resource.RUSAGE_SELF)
    with open("/proc/self/status") as status:
        peak = re.search(r"VmHWM:\\s+(\\d+) kB", status.read())[1]
    print(f"\\n{peak} {used.ru_utime + used.ru_stime}", file=sys.stderr)
"""


class Child(NamedTuple):
    """What a process of its own did.

    Args:
        stdout: what it printed.
        seconds: from its start to its end.
        peak_mib: of its resident memory, libraries included.
        cpu_seconds: of all its threads.
    """

    stdout: str
    seconds: float
    peak_mib: int
    cpu_seconds: float


def machine(*packages: str, device: str = "cpu") -> dict[str, Any]:
    """Return what a result depends on: processor, threads, and the versions of Python, unettile and some packages.

    A package that is not installed is None.
    """
    result: dict[str, Any] = {"processor": _processor(), "threads": count_threads()}
    if "torch" in packages:
        import torch

        result["capability"] = torch.backends.cpu.get_cpu_capability()
        if device.startswith("cuda"):
            result["gpu"] = torch.cuda.get_device_name(device)
    versions = {name: found_version(name) for name in packages}
    return result | {"python": platform.python_version(), "unettile": __version__, **versions}


def found_version(package: str) -> str | None:
    """Return the version of an installed package, or None."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def timed(work: Callable[[], object], device: str = "cpu") -> float:
    """Return the seconds of one call, on a GPU until it is idle again."""
    synchronise(device)
    start = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - start


def synchronise(device: str) -> None:
    """Wait until a GPU has done what it was given; a CPU has."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)


def rounds_of(
    ways: Mapping[str, Callable[[], object]], rounds: int, device: str = "cpu", *, warm_up: bool = True
) -> list[dict[str, float]]:
    """Return the seconds of each way in each round: all ways in turn, so that all see the same machine."""
    if warm_up:
        for work in ways.values():
            work()
    return [{name: timed(work, device) for name, work in ways.items()} for _ in range(rounds)]


def ratios(rounds: Iterable[Mapping[str, float]], above: str, below: str) -> dict[str, float]:
    """Return the spread of above / below, of seconds, taken round by round."""
    return spread([seconds[above] / seconds[below] for seconds in rounds])


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, lowest and highest, of four digits."""
    return {
        "median": rounded(statistics.median(values)),
        "lowest": rounded(min(values)),
        "highest": rounded(max(values)),
    }


def rounded(value: float) -> float:
    return float(f"{value:.4g}")


def run_child(module: str, arguments: Sequence[object], threads: int | None = None) -> Child:
    """Run `python -m module arguments` (Linux).

    Raises:
        RuntimeError: it failed; what it said.
    """
    environ = dict(os.environ) | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})
    environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), environ.get("PYTHONPATH"))))
    command = [sys.executable, "-c", _LOOK_AT_ITSELF, module, *map(str, arguments)]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, env=environ)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"{module} ended with status {done.returncode}: {done.stderr}")
    peak, cpu = done.stderr.split()[-2:]
    return Child(done.stdout, seconds, round(int(peak) / 2**10), float(cpu))


def make_parser(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser that shows a bench's docstring, with the option that all have."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, help="JSON file; without it the result is shown")
    return parser


def finish(result: Mapping[str, Any], output: Path | None) -> None:
    """Write a result as JSON, or show it."""
    text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
    if output is None:
        sys.stdout.write(text)
    else:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(text, "utf-8")


def _processor() -> str:
    """Return the processor's name, which Linux tells in a file."""
    try:
        names = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text("utf-8"), re.MULTILINE)
    except OSError:
        names = []
    return str(names[0]) if names else platform.processor() or platform.machine()
