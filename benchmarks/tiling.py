"""What reading, mirroring, scaling, stitching and writing cost beside the network itself, in one run.

Three ways to the same 2,304² px mask, in turn, as often as asked:

    file      `segment_image`, file to file
    network   the same windows through the same predictor, from memory to memory
    plain     the same windows through the same network as torch builds it: default layout, float32

The ratios file / network and file / plain, of pixels per second, are the result.

    python -m benchmarks.tiling -o benchmarks/results/tiling.json
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks.cases import write_mosaic
from benchmarks.measure import finish, machine, make_parser, ratios, rounds_of
from unettile.checkpoint import load_checkpoint
from unettile.devices import keep_freed_memory, set_threads
from unettile.inference.predict import Predictor
from unettile.models import find_model
from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.segment import segment_image

OUTPUT_EDGE = 388


def measure(edge: int, repeats: int, precision: str) -> dict[str, object]:
    """Run the three ways in turn and return the figures as JSON values."""
    set_threads()
    keep_freed_memory()
    checkpoint = load_checkpoint(find_model("nuclei-valid"))
    predictor = Predictor(checkpoint, "cpu", precision)
    plain = checkpoint.build()
    windows = (-(-edge // checkpoint.geometry.write_edge(OUTPUT_EDGE))) ** 2
    shape = (1, *[checkpoint.geometry.input_edge(OUTPUT_EDGE)] * 2, checkpoint.in_channels)
    window = np.random.default_rng(0).random(shape, np.float32)
    tensor = torch.from_numpy(window).permute(0, 3, 1, 2).contiguous()

    def through_network() -> None:
        for _ in range(windows):
            predictor.planes(("classes",), window)

    def through_plain() -> None:
        with torch.inference_mode():
            for _ in range(windows):
                plain(tensor).argmax(dim=1)

    with tempfile.TemporaryDirectory() as folder:
        image, mask = Path(folder) / "image.tif", Path(folder) / "mask.tif"
        write_mosaic(image, edge)
        options = SegmentOptions(output_edge=OUTPUT_EDGE, diameter="off")

        def from_file_to_file() -> None:
            segment_image(image, mask, predictor, options, overwrite=True)

        ways = {"file": from_file_to_file, "network": through_network, "plain": through_plain}
        rounds = rounds_of(ways, repeats)
    return {
        "bench": "tiling",
        "machine": machine("torch"),
        "case": {"edge": edge, "tile": OUTPUT_EDGE, "precision": predictor.precision, "repeats": repeats},
        "file_over_network": ratios(rounds, "network", "file"),
        "file_over_plain": ratios(rounds, "plain", "file"),
    }


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--edge", type=int, default=2304, help="of the image, px")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"))
    given = parser.parse_args()
    finish(measure(given.edge, given.repeats, given.precision), given.output)
