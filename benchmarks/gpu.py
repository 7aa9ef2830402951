"""How near `segment`, file to file on a GPU, comes to its matrix ceiling, and how much of the time the GPU is busy.

The ceiling is the rate of a large matrix product in the same precision, measured in the same round, over the operations
that a pixel of the mask needs where no margin is computed at all. Beside the whole run the network alone is measured,
window after window: launched kernel by kernel, as one CUDA graph (which is what `segment` does), and compiled by
torch.compile. Busy is the part of the time between the first and the last kernel of a run in which any of them ran.

    python -m benchmarks.gpu -o benchmarks/results/gpu.json
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.cases import mosaic, random_unet, write_mosaic
from benchmarks.ceiling import best, flops_per_pixel, product_rate
from benchmarks.measure import finish, machine, make_parser, rounded, spread, synchronise, timed
from unettile.box import Box
from unettile.devices import keep_freed_memory, set_threads
from unettile.images.normalize import Scaling
from unettile.images.slide import open_slide
from unettile.inference.cuda.engine import window_kind
from unettile.inference.cuda.lane import Lane, WindowKind
from unettile.inference.cuda.scale import DeviceScale
from unettile.inference.cuda.staging import Stager
from unettile.inference.predict import Predictor
from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.planning import make_plan
from unettile.segmentation.segment import segment_image

WAYS = ("kernels", "graph", "compiled")
DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
WINDOWS = 4  # in a row, of the network alone

Interval = tuple[float, float]


def make_lane(predictor: Predictor, kind: WindowKind, way: str) -> Lane:
    """Return a lane that computes the network in one of the `WAYS`."""
    scale = DeviceScale(Scaling((0.0,) * kind.channels, (255.0,) * kind.channels), kind.dtype, predictor.device)

    def compute(pixels: Tensor) -> tuple[Tensor, Tensor]:
        return predictor.window_planes(scale(pixels), kind.write, kind.write_edge)

    compiled = torch.compile(compute) if way == "compiled" else compute
    return Lane(compiled, kind, predictor.device, predictor.arithmetic, graphs=way != "kernels")


def window_seconds(lane: Lane, device: str) -> float:
    """Return the seconds for a window of the network alone, its pixels on the device already."""
    edge = lane.kind.edge
    staged = Stager(torch.device(device)).stage(mosaic(edge)[..., None])
    staged.ready.wait()
    box = Box(0, 0, edge, edge)

    def work() -> None:
        for _ in range(WINDOWS):
            ticket = lane.submit(staged, box, box, box.shape)
        ticket.wait()

    work()
    return timed(work, device) / WINDOWS


def busy_share(intervals: Iterable[Interval]) -> float | None:
    """Return the part of the time from the first start to the last end that any interval covers; None without one."""
    ordered = sorted(intervals)
    if not ordered:
        return None
    covered, end = 0.0, ordered[0][0]
    for start, stop in ordered:
        covered += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return covered / (end - ordered[0][0])


def run_profiled(image: Path, mask: Path, predictor: Predictor) -> float | None:
    """Segment once more, watched; return the share of the time in which the GPU was busy."""
    with profile(
        activities=[ProfilerActivity.CUDA if predictor.device.type == "cuda" else ProfilerActivity.CPU]
    ) as watched:
        segment_image(image, mask, predictor, SegmentOptions(diameter="off"), overwrite=True)
        synchronise(str(predictor.device))
    events = [event for event in watched.events() if event.device_type == DeviceType.CUDA]
    return busy_share((event.time_range.start, event.time_range.end) for event in events)


def measure_one(predictor: Predictor, folder: Path, edge: int, rounds: int, ways: Sequence[str]) -> dict[str, Any]:
    """Return one row of the result: one network in one precision."""
    device, options = str(predictor.device), SegmentOptions(diameter="off")
    image, mask = folder / f"{edge}.tif", folder / "mask.tif"
    if not image.exists():
        write_mosaic(image, edge)
    with open_slide(image) as slide:
        plan = make_plan(slide, predictor, options)
        kind = window_kind(plan.task)
    needed, product = flops_per_pixel(predictor.checkpoint), product_rate(predictor.device, DTYPES[predictor.precision])
    alone: dict[str, float | None] = {}
    for way in ways:
        try:
            alone[way] = kind.write_edge**2 / window_seconds(make_lane(predictor, kind, way), device)
        except RuntimeError:  # torch.compile needs a compiler, which not every machine has
            alone[way] = None
    segment_image(image, mask, predictor, options, overwrite=True)
    ceilings, rates = [], []
    for _ in range(rounds):
        before = best(product)
        seconds = timed(lambda: segment_image(image, mask, predictor, options, overwrite=True), device)
        ceilings.append(max(before, best(product)) / needed)
        rates.append(edge**2 / seconds)
    busy = run_profiled(image, mask, predictor)
    return {
        "width": predictor.checkpoint.config["widths"][0],
        "precision": predictor.precision,
        "edge": edge,
        "tile": plan.output_edge,
        "mflop_per_pixel": rounded(needed / 1e6),
        "matrix_tflop_per_s": spread([ceiling * needed / 1e12 for ceiling in ceilings]),
        "mpx_per_s": spread([rate / 1e6 for rate in rates]),
        "of_ceiling": spread([rate / ceiling for rate, ceiling in zip(rates, ceilings, strict=True)]),
        "network_alone_of_ceiling": {
            way: rate and rounded(rate / statistics.median(ceilings)) for way, rate in alone.items()
        },
        "gpu_busy": None if busy is None else rounded(busy),
    }


def measure(
    widths: Sequence[int], precisions: Sequence[str], edge: int, rounds: int, device: str, ways: Sequence[str] = WAYS
) -> dict[str, Any]:
    """Measure each network in each precision and return the figures as JSON values."""
    set_threads()
    keep_freed_memory()
    rows = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for width in widths:
            checkpoint = random_unet(width, folder / f"{width}.safetensors")
            for precision in precisions:
                rows.append(measure_one(Predictor(checkpoint, device, precision), folder, edge, rounds, ways))
    return {
        "bench": "gpu",
        "machine": machine("torch", device=device),
        "case": {"device": device, "rounds": rounds},
        "rows": rows,
    }


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 64], help="of the networks, channels at the top")
    parser.add_argument("--precisions", nargs="+", default=["bf16"], choices=tuple(DTYPES))
    parser.add_argument("--edge", type=int, default=32_768, help="of the image, px")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--ways", nargs="*", default=WAYS, choices=WAYS, help="of the network alone")
    given = parser.parse_args()
    if given.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit("no CUDA device here, and this bench measures one: run it on a machine with a GPU")
    finish(measure(given.widths, given.precisions, given.edge, given.rounds, given.device, given.ways), given.output)
