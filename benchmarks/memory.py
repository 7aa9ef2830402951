"""Memory at its peak, against the size of the image; and what computing equal windows once saves on a plain background.

The slide is RGB, of glass with some tiles of noise; all tiles of glass are one and the same piece of the file, so that
a slide of any size is a small file, and most of its windows are alike. Every size is segmented with nuclei-valid by a
command of its own, so that peaks do not mix.

    python -m benchmarks.memory -o benchmarks/results/memory.json
"""

from __future__ import annotations

import json
import struct
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import finish, machine, make_parser, run_child, spread

TILE = 512
GLASS = 235


def write_sparse_tiff(path: Path, edge: int, tissue: int) -> None:
    """Write an RGB TIFF of edge × edge px in deflated tiles: `tissue` of them noise, the others of one colour.

    The standard lets entries of the table of tiles point to one place; a writer that compresses tile by tile does not
    make use of that, hence the file is put together by hand.
    """
    rng = np.random.default_rng(0)
    count = (-(-edge // TILE)) ** 2
    places, sizes = [0] * count, [0] * count
    with path.open("wb") as file:
        file.write(bytes(8))

        def put(data: bytes) -> int:
            file.write(bytes(file.tell() % 2))
            start = file.tell()
            file.write(data)
            return start

        glass = zlib.compress(np.full((TILE, TILE, 3), GLASS, np.uint8).tobytes())
        places, sizes = [put(glass)] * count, [len(glass)] * count
        for number in range(tissue):
            index = (number * count // tissue + count // 2) % count
            data = zlib.compress(rng.integers(0, 255, (TILE, TILE, 3), np.uint8).tobytes(), 1)
            places[index], sizes[index] = put(data), len(data)
        short, long = 3, 4
        tags = (
            (256, long, 1, edge),  # width
            (257, long, 1, edge),  # height
            (258, short, 3, put(struct.pack("<3H", 8, 8, 8))),  # bits per sample
            (259, short, 1, 8),  # deflate
            (262, short, 1, 2),  # RGB
            (277, short, 1, 3),  # samples per pixel
            (284, short, 1, 1),  # interleaved
            (322, long, 1, TILE),
            (323, long, 1, TILE),
            (324, long, count, put(struct.pack(f"<{count}I", *places))),
            (325, long, count, put(struct.pack(f"<{count}I", *sizes))),
        )
        directory = put(struct.pack("<H", len(tags)))
        for tag in tags:
            file.write(struct.pack("<HHII", *tag))
        file.write(bytes(4))
        file.seek(0)
        file.write(b"II*\0" + struct.pack("<I", directory))


def segment(image: Path, output: Path, *options: object, threads: int | None = None) -> dict[str, Any]:
    """Segment with the command line; return the peak of resident memory, MiB, and the pixels a second, in millions."""
    arguments = ("segment", image, "-o", output, "-m", "nuclei-valid", "--device", "cpu", "--quiet", "--overwrite")
    arguments += ("--json", "--diameter", "off", *options)
    child = run_child("unettile", arguments, threads)
    return {
        "peak_mib": child.peak_mib,
        "seconds": round(child.seconds, 1),
        "mpx_per_s": round(json.loads(child.stdout)["pixels_per_second"] / 1e6, 2),
    }


def compare_recall(image: Path, folder: Path, repeats: int) -> dict[str, float]:
    """Return how many times longer the blocks of an image take if equal windows are not computed once, in rounds."""
    from unettile.checkpoint import load_checkpoint
    from unettile.devices import keep_freed_memory, set_threads
    from unettile.inference.cpu import CpuEngine
    from unettile.inference.predict import Predictor
    from unettile.inference.recall import RECALL_BYTES
    from unettile.models import find_model
    from unettile.segmentation.compute.loop import Loop
    from unettile.segmentation.compute.pixels import PixelReader
    from unettile.segmentation.options import SegmentOptions
    from unettile.segmentation.planning import make_plan, open_image
    from unettile.segmentation.run.directory import RunDirectory
    from unettile.segmentation.run.watch import Watch

    set_threads()
    keep_freed_memory()
    predictor, options = Predictor(load_checkpoint(find_model("nuclei-valid")), "cpu"), SegmentOptions(diameter="off")

    def seconds(limit: int, name: str) -> float:
        with open_image(image, options) as slide:
            run = RunDirectory.join(folder / name, make_plan(slide, predictor, options))
            loop = Loop(run, PixelReader(slide, run.plan), CpuEngine(predictor, limit), 1)
            start = time.monotonic()
            loop.do(range(len(run.plan.blocks)), Watch())
            run.remove()
        return time.monotonic() - start

    seconds(RECALL_BYTES, "warm-up")
    return spread([seconds(0, "without") / seconds(RECALL_BYTES, "with") for _ in range(repeats)])


def measure(edges: list[int], tissue: int, repeats: int) -> dict[str, object]:
    """Return the figures as JSON values.

    Args:
        edges: of the slides, px.
        tissue: tiles of noise in each.
        repeats: of the comparison with and without what is remembered, on a slide of the first size.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        peaks = {}
        for edge in edges:
            write_sparse_tiff(folder / "slide.tif", edge, tissue)
            peaks[str(edge)] = segment(folder / "slide.tif", folder / "mask.tif")
        write_sparse_tiff(folder / "slide.tif", edges[0], tissue)
        ratios = compare_recall(folder / "slide.tif", folder, repeats)
    return {
        "bench": "memory",
        "machine": machine("torch"),
        "tissue_tiles": tissue,
        "slides": peaks,
        "without_over_with_recall": ratios,
    }


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--edges", type=int, nargs="+", default=[4000, 40000], help="of the slides, px")
    parser.add_argument("--tissue", type=int, default=16, help="tiles of noise in each slide")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    finish(measure(given.edges, given.tissue, given.repeats), given.output)
