"""Run all benches, each as a command of its own, write their results, and the page that is made of them.

The minutes are those that a bench takes on two cores; the ones whose figures matter most come first. A bench
that would not end within --minutes is left out, as its line says. What was measured stays when a later bench fails.

    python -m benchmarks.all --only ceiling peers
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Collection
from typing import NamedTuple

from benchmarks.measure import RESULTS, ROOT
from unettile.limits import count_threads


class Bench(NamedTuple):
    name: str
    minutes: float


BENCHES = (
    Bench("ceiling", 20),
    Bench("peers", 23),
    Bench("startup", 1),
    Bench("tiling", 2),
    Bench("rows", 6),
    Bench("memory", 2),
    Bench("scaling", 14),
    Bench("objects", 3),
    Bench("writing", 3),
    Bench("training", 2),
    Bench("weights", 9),
    Bench("held", 12),
    Bench("abroad", 175),
    Bench("recipes", 230),
)
"""All but gpu.py, which needs one."""


def choose(only: Collection[str], minutes: float) -> list[Bench]:
    """Return the benches that are asked for, without those that no longer fit."""
    chosen = []
    for bench in BENCHES:
        if (not only or bench.name in only) and bench.minutes <= minutes:
            chosen.append(bench)
            minutes -= bench.minutes
    return chosen


def run(bench: Bench) -> bool:
    """Run one bench; return whether it gave a result."""
    output = RESULTS / f"{bench.name}.json"
    return subprocess.run([sys.executable, "-m", f"benchmarks.{bench.name}", "-o", output], cwd=ROOT).returncode == 0


def tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    """Run them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=(), choices=[bench.name for bench in BENCHES])
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="that there are; default: all that it takes"
    )
    parser.add_argument("--list", action="store_true", help="show what would run")
    given = parser.parse_args()
    chosen = choose(given.only, given.minutes)
    for bench in BENCHES:
        tell(f"{bench.name:10}{bench.minutes:4g} min{'' if bench in chosen else '   left out'}")
    tell(f"{'together':10}{sum(bench.minutes for bench in chosen):4g} min, {count_threads()} threads")
    if given.list:
        return
    failed = []
    for bench in chosen:
        start = time.monotonic()
        done = run(bench)
        tell(f"{bench.name}: {(time.monotonic() - start) / 60:.1f} min{'' if done else ', FAILED'}")
        failed += [] if done else [bench.name]
    subprocess.run([sys.executable, ROOT / "docs" / "make_benchmarks.py"], check=True)
    if failed:
        sys.exit(f"no result of {', '.join(failed)}")


if __name__ == "__main__":
    main()
