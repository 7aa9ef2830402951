"""How near `segment`, file to file on a GPU, comes to its matrix ceiling, and how much of the time the GPU is busy.

The ceiling is the rate of a large matrix product in the same precision, measured in the same round, over the operations
that a pixel of the mask needs where no margin is computed at all. Beside the whole run the network alone is measured,
window after window: launched kernel by kernel, as one CUDA graph (which is what `segment` does), and compiled by
torch.compile. Busy is the part of the time between the first and the last kernel of a run in which any of them ran;
copies do not count. Where the rest of a round went is told by the parts of the work that its threads were in.

What is measured is written at once, a first round of each network before anything is repeated, and what is compiled
last: where the time for it ends, that much is left.

    python -m benchmarks.gpu -o benchmarks/results/gpu.json
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from benchmarks.cases import mosaic, random_unet, write_mosaic
from benchmarks.ceiling import Rate, best, flops_per_pixel, product_rate
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
from unettile.segmentation.run.watch import Watch
from unettile.segmentation.segment import segment_image

WAYS = ("kernels", "graph", "compiled")
DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
COPIES = ("Memcpy", "Memset")  # what the names of what is no kernel begin with
OPTIONS = SegmentOptions(diameter="off")
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
        segment_image(image, mask, predictor, OPTIONS, overwrite=True)
        synchronise(str(predictor.device))
    events = [event for event in watched.events() if event.device_type == DeviceType.CUDA]
    kernels = [event for event in events if not event.name.startswith(COPIES)]
    return busy_share((event.time_range.start, event.time_range.end) for event in kernels)


def ceiling_of(predictor: Predictor) -> Rate:
    """Return what measures the rate of a large matrix product in a network's precision."""
    product = product_rate(predictor.device, DTYPES[predictor.precision])

    def rounded_product() -> float:
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high")
        try:
            return product()
        finally:
            torch.set_float32_matmul_precision(before)

    return rounded_product if predictor.precision == "tf32" else product


class Measured:
    """One network in one precision, as far as it is measured.

    Args:
        folder: for the image and the mask.
        edge: of the image, px.
    """

    def __init__(self, predictor: Predictor, folder: Path, edge: int) -> None:
        self._predictor, self._device, self._edge = predictor, str(predictor.device), edge
        self._image, self._mask = folder / f"{edge}.tif", folder / "mask.tif"
        if not self._image.exists():
            write_mosaic(self._image, edge)
        with open_slide(self._image) as slide:
            self._plan = make_plan(slide, predictor, OPTIONS)
        self._needed, self._product = flops_per_pixel(predictor.checkpoint), ceiling_of(predictor)
        self._ceilings: list[float] = []
        self._rates: list[float] = []
        self._alone: dict[str, float | None] = {}
        self._parts: dict[str, float] = {}
        self._busy: float | None = None

    def take_a_round(self) -> None:
        """Segment the image, between two looks at the ceiling; the first time once more before, to warm up."""
        if not self._rates:
            segment_image(self._image, self._mask, self._predictor, OPTIONS, overwrite=True)
        before, watch = best(self._product), Watch()
        seconds = timed(
            lambda: segment_image(self._image, self._mask, self._predictor, OPTIONS, watch=watch, overwrite=True),
            self._device,
        )
        spent = [one for one in watch.profile.to_dict()["parts"] if one["part"] != "start-up"]
        self._ceilings.append(max(before, best(self._product)) / self._needed)
        self._rates.append(self._edge**2 / seconds)
        self._parts = {f"{one['thread']}, {one['part']}": rounded(one["seconds"] / seconds) for one in spent}

    def take_the_network(self, way: str) -> None:
        """Measure the network alone in one of the `WAYS`; None where it does not work here."""
        self._predictor.rest()  # the memory of its lanes
        self._alone[way] = None
        try:
            lane = make_lane(self._predictor, window_kind(self._plan.task), way)
            if way == "kernels" or lane.is_graph or self._predictor.device.type == "cpu":
                self._alone[way] = lane.kind.write_edge**2 / window_seconds(lane, self._device)
            else:
                sys.stderr.write(f"no graph: {lane.error}\n")
        except Exception as error:  # torch.compile needs a compiler, which may be lacking, or fail in ways of its own
            if way != "compiled":
                raise
            sys.stderr.write(f"not compiled: {error}\n")

    def take_a_look(self) -> None:
        """Measure how much of the time the GPU is busy."""
        self._busy = run_profiled(self._image, self._mask, self._predictor)

    def to_row(self) -> dict[str, Any]:
        """Return a row of the result, after a round at least."""
        ceiling = statistics.median(self._ceilings)
        return {
            "width": self._predictor.checkpoint.config["widths"][0],
            "precision": self._predictor.precision,
            "edge": self._edge,
            "tile": self._plan.output_edge,
            "rounds": len(self._rates),
            "mflop_per_pixel": rounded(self._needed / 1e6),
            "matrix_tflop_per_s": spread([one * self._needed / 1e12 for one in self._ceilings]),
            "mpx_per_s": spread([rate / 1e6 for rate in self._rates]),
            "of_ceiling": spread([rate / one for rate, one in zip(self._rates, self._ceilings, strict=True)]),
            "network_alone_of_ceiling": {way: rate and rounded(rate / ceiling) for way, rate in self._alone.items()},
            "gpu_busy": None if self._busy is None else rounded(self._busy),
            "parts_of_a_round": self._parts,
        }


def results(
    widths: Sequence[int], precisions: Sequence[str], edge: int, rounds: int, device: str, ways: Sequence[str] = WAYS
) -> Iterator[dict[str, Any]]:
    """Measure each network in each precision; yield the figures so far as JSON values, the last of them all."""
    set_threads()
    keep_freed_memory()
    every: list[Measured] = []

    def so_far() -> dict[str, Any]:
        return {
            "bench": "gpu",
            "machine": machine("torch", device=device),
            "case": {"device": device, "rounds": rounds},
            "rows": [one.to_row() for one in every],
        }

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for width in widths:
            checkpoint = random_unet(width, folder / f"{width}.safetensors")
            for precision in precisions:
                one = Measured(Predictor(checkpoint, device, precision), folder, edge)
                one.take_a_round()
                every.append(one)
                yield so_far()
        at_once = [way for way in ways if way != "compiled"]
        passes: list[Callable[[Measured], None]] = [Measured.take_a_round] * (rounds - 1)
        passes += [Measured.take_a_look]  # while its lanes are there
        passes += [partial(Measured.take_the_network, way=way) for way in at_once]
        passes += [partial(Measured.take_the_network, way=way) for way in ways if way not in at_once]
        for take in passes:
            for one in every:
                take(one)
                yield so_far()


def measure(
    widths: Sequence[int], precisions: Sequence[str], edge: int, rounds: int, device: str, ways: Sequence[str] = WAYS
) -> dict[str, Any]:
    """Measure each network in each precision and return the figures as JSON values."""
    return list(results(widths, precisions, edge, rounds, device, ways))[-1]


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
    for result in results(given.widths, given.precisions, given.edge, given.rounds, given.device, given.ways):
        if given.output is not None:
            finish(result, given.output)
        shown = [f"{row['width']} channels: {row['mpx_per_s']['median']} Mpx/s" for row in result["rows"]]
        sys.stderr.write(f"{', '.join(shown)}\n")
    if given.output is None:
        finish(result, None)
