"""What reading, mirroring, scaling, stitching and writing cost beside the network itself, in one run.

Three ways to the same 2,304² px mask, in turn, as often as asked:

    file      `segment_image`, file to file
    network   the same windows through the same predictor, from memory to memory
    plain     the same windows through the same network as torch builds it: default layout, float32

The ratios file / network and file / plain, of pixels per second, are the result.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray

from unettile import __version__
from unettile.checkpoint import load_checkpoint
from unettile.devices import keep_freed_memory, set_threads
from unettile.models import DEFAULT_MODEL, find_model
from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.predict import Predictor
from unettile.segmentation.segment import segment_image

SAMPLE = Path(__file__).parent.parent / "sample_data" / "nuclei.tif"
OUTPUT_EDGE = 388


def mosaic(edge: int) -> NDArray[np.uint8]:
    """Return the sample image, repeated and shifted to fill edge × edge px."""
    sample = tifffile.imread(SAMPLE)
    times = (-(-edge // sample.shape[0]), -(-edge // sample.shape[1]))
    filled: NDArray[np.uint8] = np.tile(sample, times)[:edge, :edge]
    return filled


def timed(work: Callable[[], object]) -> float:
    """Return the seconds of one call; on a CPU there is nothing to wait for after it."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(edge: int, repeats: int, precision: str) -> dict[str, object]:
    """Run the three ways in turn and return the figures as JSON values."""
    threads = set_threads()
    keep_freed_memory()
    checkpoint = load_checkpoint(find_model(DEFAULT_MODEL))
    predictor = Predictor(checkpoint, "cpu", precision)
    plain = checkpoint.build()
    windows = (-(-edge // checkpoint.geometry.write_edge(OUTPUT_EDGE))) ** 2
    shape = (1, *[checkpoint.geometry.input_edge(OUTPUT_EDGE)] * 2, checkpoint.in_channels)
    window = np.random.default_rng(0).random(shape, np.float32)
    tensor = torch.from_numpy(window).permute(0, 3, 1, 2).contiguous()

    def through_network() -> None:
        for _ in range(windows):
            predictor.classes(window)

    def through_plain() -> None:
        with torch.inference_mode():
            for _ in range(windows):
                plain(tensor).argmax(dim=1)

    with tempfile.TemporaryDirectory() as folder:
        image, mask = Path(folder) / "image.tif", Path(folder) / "mask.tif"
        tifffile.imwrite(image, mosaic(edge), tile=(512, 512), compression="zlib")
        options = SegmentOptions(output_edge=OUTPUT_EDGE)

        def from_file_to_file() -> None:
            segment_image(image, mask, predictor, options, overwrite=True)

        ways = {"file": from_file_to_file, "network": through_network, "plain": through_plain}
        for work in ways.values():  # warm-up
            work()
        rounds = [{name: timed(work) for name, work in ways.items()} for _ in range(repeats)]
    return {
        "machine": {
            "processor": platform.processor() or platform.machine(),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "threads": threads,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "unettile": __version__,
        },
        "case": {"edge": edge, "tile": OUTPUT_EDGE, "precision": predictor.precision, "repeats": repeats},
        "file_over_network": spread([r["network"] / r["file"] for r in rounds]),
        "file_over_plain": spread([r["plain"] / r["file"] for r in rounds]),
    }


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
    parser.add_argument("--edge", type=int, default=2304, help="of the image, px")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--precision", default="auto", choices=("auto", "fp32", "bf16"))
    given = parser.parse_args()
    text = json.dumps(measure(given.edge, given.repeats, given.precision), indent=1) + "\n"
    if given.output:
        given.output.parent.mkdir(parents=True, exist_ok=True)
        given.output.write_text(text, "utf-8")
    else:
        print(text, end="")  # noqa: T201
