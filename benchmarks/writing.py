"""How fast a finished run is written, in each format, against reading its blocks back; and what that takes in memory.

Ways through one synthetic run directory, in turn, as often as asked:

    read        every block decoded and checked, nothing written
    .tif …      `write_output`: read, levels of the pyramid, compression, file
    tifffile    read, and the largest resolution alone written by tifffile with zlib's level 6

The ratios read / way, of seconds, are the result. The peaks of memory (Linux) are those of processes of their own, for
an image of the given edge and one of an eighth of it.

    python -m benchmarks.writing -o benchmarks/results/writing.json
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from benchmarks.measure import finish, machine, make_parser, ratios, rounds_of, run_child
from unettile.geometry import Geometry
from unettile.identity import ModelIdentity
from unettile.images.fingerprint import Fingerprint
from unettile.images.normalize import Scaling
from unettile.limits import count_threads
from unettile.segmentation.output import write_output
from unettile.segmentation.plan import Plan
from unettile.segmentation.run.directory import RunDirectory
from unettile.segmentation.run.reader import BlockReader
from unettile.segmentation.run.watch import Watch

ENDINGS = (".tif", ".ome.tif", ".ome.zarr")
BLOCK_EDGE = 3072


def make_run(path: Path, edge: int) -> RunDirectory:
    """Write a run directory of three classes in smooth shapes of about 50 px, the same in every block."""
    block = min(edge, BLOCK_EDGE)
    plan = Plan(
        image=Fingerprint(0, "0" * 64, "0" * 64, "array", (edge, edge), "uint8", 1),
        shape=(edge, edge),
        model=ModelIdentity("none", "0" * 64),
        geometry=Geometry(92, 16, 4),
        output_edge=388,
        block_edge=BLOCK_EDGE,
        precision="fp32",
        device="cpu",
        scaling=Scaling((0.0,), (1.0,)),
        write=("classes",),
        stored=("classes",),
        class_names=("background", "nucleus", "border"),
        palette=((0, 0, 0), (255, 220, 51), (178, 89, 255)),
        pixel_size_um=(0.25, 0.25),
    )
    y, x = np.mgrid[:block, :block] / 8
    height = np.sin(y + np.sin(x / 3)) + np.cos(x + np.sin(y / 5))
    classes: NDArray[np.uint8] = np.digitize(height, [0.7, 1.3]).astype(np.uint8)
    run = RunDirectory.join(path, plan)
    for one in plan.blocks:
        run.write_block(one, np.ascontiguousarray(classes[None, : one.box.height, : one.box.width]))
    return run


def read_back(run: RunDirectory) -> None:
    with BlockReader(run) as blocks:
        for block in run.plan.blocks:
            blocks.read(block)


def write(run: RunDirectory, output: Path) -> None:
    with BlockReader(run) as blocks:
        write_output(blocks, output, Watch(), "0.5")


def write_with_tifffile(run: RunDirectory, output: Path) -> None:
    """Write the largest resolution from memory, which takes as much as the image has pixels."""
    pixels = np.empty(run.plan.shape, np.uint8)
    with BlockReader(run) as blocks:
        for block in run.plan.blocks:
            pixels[block.box.slices] = blocks.read(block)[0]
    tifffile.imwrite(output, pixels, tile=(512, 512), compression="zlib", maxworkers=count_threads())


def measure(edge: int, repeats: int, endings: tuple[str, ...] = ENDINGS) -> dict[str, object]:
    """Run the ways in turn and return the figures as JSON values."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        run = make_run(place / "run", edge)
        ways: dict[str, Callable[[], None]] = {"read": lambda: read_back(run)}
        for ending in endings:
            ways[ending] = lambda ending=ending: write(run, place / f"mask{ending}")  # type: ignore[misc]
        ways["tifffile"] = lambda: write_with_tifffile(run, place / "plain.tif")
        rounds = rounds_of(ways, repeats)
        sizes = (edge // 8, edge)
        runs = {size: make_run(place / f"run{size}", size).path for size in sizes}
        peaks = {f"{size} {ending}": peak_mib(runs[size], ending) for size in sizes for ending in endings}
    return {
        "bench": "writing",
        "machine": machine("imagecodecs", "tifffile", "zarr"),
        "case": {"edge": edge, "repeats": repeats},
        "read_over": {name: ratios(rounds, "read", name) for name in ways if name != "read"},
        "peak_mib": peaks,
    }


def peak_mib(run: Path, ending: str) -> int:
    """Return the peak of memory of a process that writes a run to a file, MiB; its libraries are part of it."""
    return run_child("benchmarks.writing", ("--write", run, run.with_name(f"peak{ending}"))).peak_mib


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--edge", type=int, default=16384, help="of the image, px")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--write", nargs=2, type=Path, help="write this run to this file, no more")
    given = parser.parse_args()
    if given.write:
        write(RunDirectory.open(given.write[0]), given.write[1])
        sys.exit()
    finish(measure(given.edge, given.repeats), given.output)
