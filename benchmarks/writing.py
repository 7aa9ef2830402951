"""How fast a finished run is written, in each format, against reading its blocks back; and what that takes in memory.

Ways through one synthetic run directory, in turn, as often as asked:

    read        every block decoded and checked, nothing written
    .tif …      `write_output`: read, levels of the pyramid, compression, file
    tifffile    read, and the largest resolution alone written by tifffile with zlib's level 6

The ratios read / way, of seconds, are the result. The peaks of memory (Linux) are those of processes of their own, for
an image of the given edge and one of an eighth of it.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
import zarr
from numpy.typing import NDArray

from unettile import __version__
from unettile.geometry import Geometry
from unettile.images.normalize import Scaling
from unettile.limits import count_threads
from unettile.segmentation.blockreader import BlockReader
from unettile.segmentation.output import write_output
from unettile.segmentation.plan import Plan
from unettile.segmentation.rundir import RunDirectory

ENDINGS = (".tif", ".ome.tif", ".ome.zarr")
BLOCK_EDGE = 3072


def make_run(path: Path, edge: int) -> RunDirectory:
    """Write a run directory of three classes in smooth shapes of about 50 px, the same in every block."""
    block = min(edge, BLOCK_EDGE)
    plan = Plan(
        image={},
        shape=(edge, edge),
        model={"network": "none", "sha256": "0" * 64},
        geometry=Geometry(92, 16, 4),
        output_edge=388,
        block_edge=BLOCK_EDGE,
        precision="fp32",
        device="cpu",
        scaling=Scaling((0.0,), (1.0,)),
        write=("classes",),
        class_names=("background", "nucleus", "border"),
        palette=((0, 0, 0), (255, 220, 51), (178, 89, 255)),
        pixel_size_um=(0.25, 0.25),
    )
    y, x = np.mgrid[:block, :block] / 8
    height = np.sin(y + np.sin(x / 3)) + np.cos(x + np.sin(y / 5))
    classes: NDArray[np.uint8] = np.digitize(height, [0.7, 1.3]).astype(np.uint8)
    run = RunDirectory.join(path, plan)
    for one in plan.blocks:
        run.write_block(one, np.ascontiguousarray(classes[: one.box.height, : one.box.width]))
    return run


def read_back(run: RunDirectory) -> None:
    with BlockReader(run) as blocks:
        for block in run.plan.blocks:
            blocks.read(block)


def write(run: RunDirectory, output: Path) -> None:
    with BlockReader(run) as blocks:
        write_output(blocks, output)


def write_with_tifffile(run: RunDirectory, output: Path) -> None:
    """Write the largest resolution from memory, which takes as much as the image has pixels."""
    pixels = np.empty(run.plan.shape, np.uint8)
    with BlockReader(run) as blocks:
        for block in run.plan.blocks:
            pixels[block.box.slices] = blocks.read(block)
    tifffile.imwrite(output, pixels, tile=(512, 512), compression="zlib", maxworkers=count_threads())


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(edge: int, repeats: int, endings: tuple[str, ...] = ENDINGS) -> dict[str, object]:
    """Run the ways in turn and return the figures as JSON values."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        run = make_run(place / "run", edge)
        ways: dict[str, Callable[[], None]] = {"read": lambda: read_back(run)}
        for ending in endings:
            ways[ending] = lambda ending=ending: write(run, place / f"mask{ending}")  # type: ignore[misc]
        ways["tifffile"] = lambda: write_with_tifffile(run, place / "plain.tif")
        for work in ways.values():  # warm-up
            work()
        rounds = [{name: timed(work) for name, work in ways.items()} for _ in range(repeats)]
        sizes = (edge // 8, edge)
        runs = {size: make_run(place / f"run{size}", size).path for size in sizes}
        peaks = {f"{size} {ending}": peak_mib(runs[size], ending) for size in sizes for ending in endings}
    return {
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "threads": count_threads(),
            "python": platform.python_version(),
            "imagecodecs": imagecodecs.__version__,
            "zarr": zarr.__version__,
            "unettile": __version__,
        },
        "case": {"edge": edge, "repeats": repeats},
        "read_over": {name: spread([r["read"] / r[name] for r in rounds]) for name in ways if name != "read"},
        "peak_mib": peaks,
    }


def peak_mib(run: Path, ending: str) -> float:
    """Return the peak of memory of a process that writes a run to a file, MiB; its libraries are part of it."""
    words = [sys.executable, __file__, "--write", str(run), str(run.with_name(f"peak{ending}"))]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return round(float(done.stdout), 1)


def spread(ratios: list[float]) -> dict[str, float]:
    """Return median, lowest and highest, of ratios taken round by round."""
    return {
        "median": round(statistics.median(ratios), 3),
        "lowest": round(min(ratios), 3),
        "highest": round(max(ratios), 3),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, help="JSON file; without it the result is shown")
    parser.add_argument("--edge", type=int, default=16384, help="of the image, px")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--write", nargs=2, type=Path, help="write this run to this file; show the peak of memory, MiB")
    given = parser.parse_args()
    if given.write:
        write(RunDirectory.open(given.write[0]), given.write[1])
        print(int(re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[0]) / 1024)  # noqa: T201
        sys.exit()
    text = json.dumps(measure(given.edge, given.repeats), indent=1) + "\n"
    if given.output:
        given.output.parent.mkdir(parents=True, exist_ok=True)
        given.output.write_text(text, "utf-8")
    else:
        print(text, end="")  # noqa: T201
