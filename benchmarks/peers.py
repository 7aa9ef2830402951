"""Time, memory and truth beside other ways to segment a large image: same parameters, same image, same machine.

Every way goes from one file to another: it reads the image, scales it, segments it and writes the mask; ours as
`segment` does, with the mask's pyramid, all others as a whole, and the largest resolution alone. Each way
(benchmarks/contenders.py) runs in a process of its own, once a round, all in turn: it builds what it needs, warms up on
a small image, and is timed on the image. A way that takes longer than 40 s runs in the first round alone. The peak
of memory is that process's; `added` is what it took beyond what it held when it had warmed up.

In a process more each way gives probabilities of a smaller image, which are compared with those of the untiled answer:
one window over all of it, same network, same precision. Ours are those of a file, in 8 bits, and are compared with the
untiled ones in 8 bits. Pixels near the image's border are left out, since ways differ in what they assume beyond it.

    python -m benchmarks.peers -o benchmarks/results/peers.json
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from benchmarks.cases import random_unet, write_mosaic
from benchmarks.contenders import CONTENDERS, OURS, WINDOW, Contender, classes_of, export_onnx, probability_of
from benchmarks.measure import finish, found_version, machine, make_parser, ratios, rounded, run_child, spread, timed
from unettile.box import Box
from unettile.checkpoint import Checkpoint, load_checkpoint
from unettile.devices import keep_freed_memory, set_threads
from unettile.images.mirror import read_mirrored
from unettile.images.slide import open_slide
from unettile.inference.predict import Predictor
from unettile.limits import count_threads
from unettile.models import find_model
from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.segment import segment_image

WARM_UP_EDGE = 1024
SLOW = 40.0  # s: a way that takes longer runs once
ENGINES = ("onnxruntime", "openvino")
BORDER = 192  # px, not compared: more than the margin of both networks


def load_model(contender: Contender, model: Path) -> Checkpoint:
    checkpoint = without_depth(load_checkpoint(model))
    return checkpoint.with_config({"padding": "same"}) if contender.network == "padded" else checkpoint


def without_depth(checkpoint: Checkpoint) -> Checkpoint:
    """Return a U-Net without the output for depth, which a mask of classes does not need: peers know no such thing."""
    if not checkpoint.depth:
        return checkpoint
    classes = len(checkpoint.classes)
    head = {name: checkpoint.parameters[name][:classes] for name in ("head.weight", "head.bias")}
    return replace(
        checkpoint,
        depth=False,
        config=checkpoint.config | {"classes": classes},
        parameters=checkpoint.parameters | head,
    )


def read_scaled(checkpoint: Checkpoint, image: Path) -> NDArray[np.float32]:
    """Return the image as the network sees it, (H, W)."""
    pixels = tifffile.imread(image)[..., None]
    return checkpoint.normalization.measure_array(pixels).apply(pixels)[..., 0]


def from_file_to_file(contender: Contender, checkpoint: Checkpoint, folder: Path) -> Callable[[Path], object]:
    """Return what takes an image's file and writes its mask."""
    mask = folder / "mask.tif"
    if contender.prepare is None:
        predictor = Predictor(checkpoint, "cpu", contender.precision)
        return lambda image: segment_image(image, mask, predictor, SegmentOptions(diameter="off"), overwrite=True)
    run = contender.prepare(checkpoint, folder)

    def work(image: Path) -> None:
        classes = run(read_scaled(checkpoint, image), classes_of)
        tifffile.imwrite(mask, classes, tile=(512, 512), compression="zlib", maxworkers=count_threads())

    return work


def time_one(number: int, folder: Path, image: Path, small: Path, model: Path) -> dict[str, float]:
    """Time one way in this process."""
    contender = CONTENDERS[number]
    work = from_file_to_file(contender, load_model(contender, model), folder)
    work(small)
    before = _resident_mib()
    return {"seconds": timed(lambda: work(image)), "before_mib": before}


def compare_one(number: int, folder: Path, image: Path, model: Path) -> dict[str, float]:
    """Compare one way with the untiled answer, in this process."""
    contender = CONTENDERS[number]
    checkpoint = load_model(contender, model)
    inner = np.s_[BORDER:-BORDER, BORDER:-BORDER]
    window, predictor = whole_window(checkpoint, image), Predictor(checkpoint, "cpu", contender.precision)
    height, width = tifffile.imread(image).shape
    expected = predictor.probabilities(window)[0, 1, :height, :width][inner]
    if contender.prepare is None:
        classes, levels = (written(kind, predictor, image, folder) for kind in ("classes", "probabilities"))
        untiled = predictor.planes(("probabilities",), window)[0, 1, :height, :width]
        difference = np.abs(levels[1].astype(np.int16) - untiled)[inner].max() / 255
    else:
        run, scaled = contender.prepare(checkpoint, folder), read_scaled(checkpoint, image)
        classes, found = run(scaled, classes_of), run(scaled, probability_of)
        difference = np.abs(found[inner] - expected).max()
    return {
        "largest_difference": rounded(float(difference)),
        "changed_share": rounded(float((classes[inner] != (expected > 0.5)).mean())),
    }


def written(kind: str, predictor: Predictor, image: Path, folder: Path) -> NDArray[np.uint8]:
    """Return what `segment --write` of this kind puts into its file."""
    segment_image(
        image, folder / f"{kind}.tif", predictor, SegmentOptions(write=(kind,), diameter="off"), overwrite=True
    )
    pixels: NDArray[np.uint8] = tifffile.imread(folder / f"{kind}.tif", level=0)
    return pixels


def whole_window(checkpoint: Checkpoint, image: Path) -> NDArray[np.float32]:
    """Return the one window over an image and its margin, (1, H, W, C)."""
    geometry = checkpoint.geometry
    with open_slide(image) as slide:
        box = Box(0, 0, *(geometry.smallest_output_edge(length) for length in slide.shape[:2]))
        pixels = read_mirrored(slide, box.expand(geometry.margin))
    scaling = checkpoint.normalization.measure_array(tifffile.imread(image)[..., None])
    return np.repeat(scaling.apply(pixels), checkpoint.in_channels, axis=2)[None]


def measure(edge: int, compared: int, rounds: int, model: str | int, only: list[int] | None = None) -> dict[str, Any]:
    """Run all ways in turn and return the figures as JSON values.

    Args:
        edge: of the image, px.
        compared: edge of the image that is compared with its untiled answer, px.
        model: shipped, or a file; a number is the width of a U-Net of random parameters.
        only: numbers of the ways; None for all whose packages are here.
    """
    chosen = [number for number in only or range(len(CONTENDERS)) if _is_here(CONTENDERS[number])]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        path = folder / "model.safetensors"
        checkpoint = (
            random_unet(model, path) if isinstance(model, int) else without_depth(load_checkpoint(find_model(model)))
        )
        path = path if isinstance(model, int) else find_model(model)
        images = {name: folder / f"{name}.tif" for name in ("image", "small", "compared")}
        for name, length in (("image", edge), ("small", min(edge, WARM_UP_EDGE)), ("compared", compared)):
            write_mosaic(images[name], length)
        if any(CONTENDERS[number].package in ENGINES for number in chosen):
            export_onnx(checkpoint, folder)
        seconds: list[dict[str, float]] = []
        memory: dict[int, list[tuple[int, int]]] = {number: [] for number in chosen}
        for _ in range(rounds):
            taken = {}
            for number in chosen:
                if seconds and seconds[0][str(number)] > SLOW:
                    continue
                words = ("--time", number, folder, images["image"], images["small"], path)
                child = run_child("benchmarks.peers", words)
                told = json.loads(child.stdout)
                taken[str(number)] = told["seconds"]
                memory[number].append((child.peak_mib, max(0, child.peak_mib - round(told["before_mib"]))))
            seconds.append(taken)
        rows = []
        for number in chosen:
            words = ("--compare", number, folder, images["compared"], path)
            truth = json.loads(run_child("benchmarks.peers", words).stdout)
            rows.append(_row(number, seconds, memory[number]) | truth)
    return {
        "bench": "peers",
        "machine": machine("torch", "monai", "onnxruntime", "openvino"),
        "case": {
            "edge": edge,
            "compared_edge": compared,
            "rounds": rounds,
            "model": f"U-Net of {checkpoint.config['widths'][0]} channels, {_origin(model)}",
            "model_sha256": checkpoint.sha256,
            "window_padded": WINDOW,
        },
        "rows": rows,
    }


def _row(number: int, seconds: list[dict[str, float]], memory: list[tuple[int, int]]) -> dict[str, Any]:
    """Return the figures of one way; times over ours of the same network."""
    contender = CONTENDERS[number]
    row: dict[str, Any] = {"way": contender.name, "network": contender.network, "precision": contender.precision}
    for name, precision in (("time_over_ours", "bf16"), ("time_over_ours_same_precision", contender.precision)):
        ours = str(_ours(contender.network, precision))
        both = [taken for taken in seconds if taken.keys() >= {str(number), ours}]
        if both:
            row[name] = ratios(both, str(number), ours)
    return row | {
        "rounds": len(memory),
        "peak_mib": spread([peak for peak, _ in memory]),
        "added_mib": spread([added for _, added in memory]),
    }


def _ours(network: str, precision: str) -> int:
    return [(OURS, network, precision) == (c.name, c.network, c.precision) for c in CONTENDERS].index(True)


def _origin(model: str | int) -> str:
    return "random parameters" if isinstance(model, int) else f"the model {Path(model).name}"


def _is_here(contender: Contender) -> bool:
    return contender.package is None or found_version(contender.package) is not None


def _resident_mib() -> int:
    (size,) = re.findall(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text("ascii"))
    return round(int(size) / 2**10)


def _child(given: argparse.Namespace) -> None:
    work = time_one if given.time else compare_one
    number, *paths = given.time or given.compare
    set_threads()
    if given.compare or not CONTENDERS[int(number)].as_it_comes:
        keep_freed_memory()
    finish(work(int(number), *map(Path, paths)), None)


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--edge", type=int, default=8192, help="of the image, px")
    parser.add_argument("--compared", type=int, default=1536, help="edge of the image compared with its untiled answer")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--model", default="nuclei-valid", help="a shipped model, or a checkpoint")
    parser.add_argument("--width", type=int, help="a U-Net of so many channels and random parameters instead")
    parser.add_argument("--only", type=int, nargs="+", help="numbers of the ways, as in contenders.py")
    parser.add_argument("--time", nargs=5, help=argparse.SUPPRESS)
    parser.add_argument("--compare", nargs=4, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.time or given.compare:
        _child(given)
        sys.exit()
    finish(measure(given.edge, given.compared, given.rounds, given.width or given.model, given.only), given.output)
