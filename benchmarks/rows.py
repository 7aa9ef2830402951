"""What computing by rows saves against computing by tiles, on the same image with the same parameters, in one run.

Networks: nuclei-valid, and the U-Net paper's of 64 channels with random parameters; in float32 and in bfloat16.
Both ways give the same mask, which is checked. The ratio of pixels per second, file to file, is the result.

    python -m benchmarks.rows -o benchmarks/results/rows.json
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.cases import random_unet, write_mosaic
from benchmarks.measure import finish, machine, make_parser, ratios, rounded, rounds_of
from unettile.checkpoint import Checkpoint, load_checkpoint
from unettile.devices import keep_freed_memory, set_threads
from unettile.inference.cpu import CpuEngine
from unettile.inference.engine import Cut, Task
from unettile.inference.predict import Predictor
from unettile.models import find_model
from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.segment import segment_image


class ByTiles(CpuEngine):
    """The engine of the CPU, which never goes by rows."""

    def cut(self, task: Task) -> Cut:
        """Return whole blocks."""
        return Cut(task.blocks.edge, task.blocks.edge)


def measure(edges: dict[str, int], precisions: tuple[str, ...], repeats: int) -> dict[str, object]:
    """Return the figures as JSON values.

    Args:
        edges: of the image, px, for each network.
    """
    set_threads()
    keep_freed_memory()
    figures: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, edge in edges.items():
            image = Path(folder, f"{edge}.tif")
            write_mosaic(image, edge)
            checkpoint = _network(name, Path(folder))
            figures += [_compare(name, checkpoint, image, edge, precision, repeats) for precision in precisions]
    return {"bench": "rows", "machine": machine("torch"), "case": {"repeats": repeats}, "figures": figures}


def _network(name: str, folder: Path) -> Checkpoint:
    if name == "nuclei-valid":
        return load_checkpoint(find_model("nuclei-valid"))
    return random_unet(64, folder / "paper.safetensors")


def _compare(name: str, checkpoint: Checkpoint, image: Path, edge: int, precision: str, repeats: int) -> dict[str, Any]:
    rows, tiles = (Predictor(checkpoint, "cpu", precision) for _ in range(2))
    tiles.engine = ByTiles(tiles)
    options = SegmentOptions(diameter="off")
    outputs = {way: image.with_name(f"{way}.tif") for way in ("rows", "tiles")}
    ways = {
        way: partial(segment_image, image, outputs[way], predictor, options, overwrite=True)
        for way, predictor in (("rows", rows), ("tiles", tiles))
    }
    rounds = rounds_of(ways, repeats)
    assert outputs["rows"].read_bytes() == outputs["tiles"].read_bytes()
    fastest = min(seconds["rows"] for seconds in rounds)
    return {
        "network": name,
        "edge": edge,
        "precision": precision,
        "rows_over_tiles": ratios(rounds, "tiles", "rows"),
        "rows_mpx_per_second": rounded(edge**2 / fastest / 1e6),
    }


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--edge", type=int, default=3072, help="of the image for nuclei-valid, px; half for the other")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"], choices=("fp32", "bf16"))
    given = parser.parse_args()
    edges = {"nuclei-valid": given.edge, "paper": given.edge // 2}
    finish(measure(edges, tuple(given.precisions), given.repeats), given.output)
