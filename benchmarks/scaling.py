"""Whether time for a pixel and memory stay the same as images grow; and what threads and shards give.

Every run is a process of its own, `unettile segment` with the model nuclei-valid on a mosaic of nuclei, none of whose
windows comes twice. Times are those that the command tells, without the start of Python.

    size      seconds a pixel over those of the first size, in the same round; and the peak of memory
    threads   seconds with one thread over those with two, at one size
    shards    the seconds of all shards together, and of the longest, over those of the whole; shards one after another

    python -m benchmarks.scaling -o benchmarks/results/scaling.json
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.cases import write_mosaic
from benchmarks.measure import finish, machine, make_parser, ratios, run_child, spread
from unettile.limits import count_threads


def segment(image: Path, output: Path, threads: int, *options: object) -> tuple[float, int]:
    """Return the seconds that a run took, and its peak of memory, MiB."""
    base = ("segment", image, "-o", output, "-m", "nuclei-valid", "--device", "cpu")
    base += ("--diameter", "off", "--quiet", "--json")
    child = run_child("unettile", (*base, *options), threads)
    return float(json.loads(child.stdout)["seconds"]), child.peak_mib


def shards_over_whole(image: Path, folder: Path, count: int, threads: int) -> tuple[float, float]:
    """Return the seconds of all shards of an image, one after another, and of the longest."""
    run = folder / "run"
    seconds = [segment(image, run, threads, "--shard", f"{number}/{count}")[0] for number in range(count)]
    shutil.rmtree(run)
    return sum(seconds), max(seconds)


def measure(edges: list[int], at: int, shards: list[int], rounds: int) -> dict[str, object]:
    """Run everything in turn and return the figures as JSON values.

    Args:
        edges: of the images, px.
        at: edge at which threads and shards are compared, px.
        shards: how many.
    """
    most = count_threads()
    counts = sorted({1, most})
    per_pixel: list[dict[str, float]] = []
    by_threads: list[dict[str, float]] = []
    by_shards: dict[int, list[tuple[float, float]]] = {count: [] for count in shards}
    peaks: dict[int, list[int]] = {edge: [] for edge in edges}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for edge in {*edges, at}:
            write_mosaic(folder / f"{edge}.tif", edge)
        for _ in range(rounds):
            seconds = {}
            for edge in edges:
                taken, peak = segment(folder / f"{edge}.tif", folder / "mask.tif", most, "--overwrite")
                seconds[str(edge)] = taken / edge**2
                peaks[edge].append(peak)
            per_pixel.append(seconds)
            image = folder / f"{at}.tif"
            times = {count: segment(image, folder / "mask.tif", count, "--overwrite")[0] for count in counts}
            by_threads.append({str(count): taken for count, taken in times.items()})
            for count in shards:
                total, longest = shards_over_whole(image, folder, count, most)
                by_shards[count].append((total / times[most], longest / times[most]))
    return {
        "bench": "scaling",
        "machine": machine("torch"),
        "case": {"threads_and_shards_at": at, "rounds": rounds},
        "sizes": [
            {
                "edge": edge,
                "mpx": round(edge**2 / 1e6, 1),
                "time_per_pixel_over_first": ratios(per_pixel, str(edge), str(edges[0])),
                "peak_mib": spread(peaks[edge]),
            }
            for edge in edges
        ],
        "one_thread_over": {str(count): ratios(by_threads, "1", str(count)) for count in counts},
        "shards": [_row(count, by_shards[count]) for count in shards],
    }


def _row(count: int, found: list[tuple[float, float]]) -> dict[str, Any]:
    return {
        "count": count,
        "sum_over_whole": spread([total for total, _ in found]),
        "longest_over_whole": spread([longest for _, longest in found]),
    }


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument(
        "--edges", type=int, nargs="+", default=[2048, 4096, 8192, 16384, 32768], help="of the images, px"
    )
    parser.add_argument("--at", type=int, default=8192, help="edge at which threads and shards are compared, px")
    parser.add_argument("--shards", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=1)
    given = parser.parse_args()
    finish(measure(given.edges, given.at, given.shards, given.rounds), given.output)
