"""Objects of a synthetic mask of E × E px: pixels per second of every stage, and the peak of memory, by size.

Speeds are told by the clock, and by processor time, which is what the work costs even where others work beside it.

The mask is a field of discs, about 2,500 in a Mpx as in a dense tissue, many of which touch. It is written once as a
tiled TIFF, and every size is worked on in a process of its own, so that peaks do not mix.

    python -m benchmarks.objects -o benchmarks/results/objects.json
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import finish, machine, make_parser, run_child
from unettile.box import Box
from unettile.images.canvas import Canvas
from unettile.images.formats import write_image
from unettile.objects.job import find_objects
from unettile.objects.products import Products, Sources
from unettile.objects.rules import Foreground, Labelling, Splitting
from unettile.objects.scan import OnProgress

PATCH = 1280  # px; the field repeats in a way that no block edge divides


def discs() -> NDArray[np.uint8]:
    """Return a field of discs of 5 to 10 px radius that can be laid side by side."""
    rng = np.random.default_rng(0)
    field = np.zeros((PATCH, PATCH), np.uint8)
    y, x = np.indices((21, 21)) - 10
    for _ in range(PATCH * PATCH // 400):
        top, left = rng.integers(0, PATCH, 2)
        inside = y**2 + x**2 <= rng.uniform(5, 10) ** 2
        rows, columns = (top + np.arange(21)) % PATCH, (left + np.arange(21)) % PATCH
        field[np.ix_(rows, columns)] |= inside
    return field


def write_mask(path: Path, edge: int) -> None:
    """Write the mask, streamed."""
    field = discs()

    def read(box: Box) -> NDArray[np.uint8]:
        rows, columns = np.arange(box.y0, box.y1) % PATCH, np.arange(box.x0, box.x1) % PATCH
        return np.ascontiguousarray(field[rows][:, columns])

    write_image(path, Canvas((edge, edge)), read)


def work(mask: Path, folder: Path, split: bool) -> dict[str, object]:
    """Do all of it, and return the figures as JSON values."""
    stages: dict[str, tuple[float, float]] = {}
    files = ("ids.tif", "cells.csv", "cells.geojson", "cells.png")

    @contextmanager
    def stage(name: str) -> Iterator[OnProgress]:
        start, worked = time.perf_counter(), time.process_time()
        yield lambda done, total: None
        stages[name.split()[0]] = time.perf_counter() - start, time.process_time() - worked

    labelling = Labelling(Splitting(smallest=30) if split else None, min_size=30)
    begin, worked = time.perf_counter(), time.process_time()
    found = find_objects(
        Sources(mask),
        Foreground(),
        labelling,
        Products(*(folder / name for name in files)),
        overwrite=True,
        stage=stage,
    )
    total, processor = time.perf_counter() - begin, time.process_time() - worked
    mpx = found.shape[0] * found.shape[1] / 1e6
    return {
        "edge": found.shape[0],
        "split": split,
        "objects": found.count,
        "mpx_per_s": {name: round(mpx / clock, 1) for name, (clock, _) in stages.items()},
        "mpx_per_s_all": round(mpx / total, 1),
        "mpx_per_processor_s": {name: round(mpx / spent, 1) for name, (_, spent) in stages.items()},
        "mpx_per_processor_s_all": round(mpx / processor, 1),
        "processor_s": round(processor, 2),
        "bytes": {name: (folder / name).stat().st_size for name in files},
    }


def measure(edges: list[int], place: Path | None = None) -> dict[str, object]:
    """Work on every size in a process of its own, and return the figures as JSON values."""
    results = []
    with tempfile.TemporaryDirectory(dir=place) as name:
        folder = Path(name)
        for edge in (512, *edges):  # the first warms the compiler's cache, and does not count
            write_mask(folder / "mask.tif", edge)
            for options in ((), ("--split",)):
                child = run_child("benchmarks.objects", ("--work", folder / "mask.tif", folder, *options))
                if edge in edges:
                    results.append(json.loads(child.stdout) | {"peak_mib": child.peak_mib})
    return {"bench": "objects", "machine": machine("numpy", "numba", "connected-components-3d"), "results": results}


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--edges", type=int, nargs="+", default=[4096, 8192])
    parser.add_argument("--folder", type=Path, help="where the mask and the results go; default: a temporary one")
    parser.add_argument("--work", nargs=2, type=Path, help="work on this mask into this folder, and show the figures")
    parser.add_argument("--split", action="store_true", help="with --work: split objects that touch")
    given = parser.parse_args()
    if given.work:
        finish(work(*given.work, given.split), given.output)
    else:
        finish(measure(given.edges, given.folder), given.output)
