"""Write the tables of docs/benchmarks.md and its plots from benchmarks/results: `python docs/make_benchmarks.py`.

What stands between `<!-- made: NAME -->` and `<!-- end -->` is made of NAME.json, everything else is written by hand. A
result that is not there is said not to be measured yet. --check fails if something is out of date.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from benchmark_plots import PLOTS
from benchmark_tables import TABLES, Result

HERE = Path(__file__).parent
RESULTS = HERE.parent / "benchmarks" / "results"
MARKED = re.compile(r"(<!-- made: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def make(page: Path, results: Path) -> dict[Path, str | None]:
    """Return the text of every file that is made of results; None for a plot that has none."""

    def made(found: re.Match[str]) -> str:
        result = read(results, found[2])
        return f"{found[1]}{'Not measured yet.' if result is None else TABLES[found[2]](result)}\n{found[3]}"

    files: dict[Path, str | None] = {page: MARKED.sub(made, page.read_text("utf-8"))}
    for name, plot in PLOTS.items():
        result = read(results, name)
        files[page.with_name(f"benchmarks-{name}.svg")] = None if result is None else plot(result)
    return files


def read(results: Path, name: str) -> Result | None:
    path = results / f"{name}.json"
    if not path.is_file():
        return None
    result: Result = json.loads(path.read_text("utf-8"))
    return result


def main() -> None:
    """Write the files, or check them."""
    for path, text in make(HERE / "benchmarks.md", RESULTS).items():
        if "--check" in sys.argv[1:]:
            if (path.read_text("utf-8") if path.is_file() else None) != text:
                sys.exit(f"{path.name} is out of date: run python docs/make_benchmarks.py")
        elif text is None:
            path.unlink(missing_ok=True)
        else:
            path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
