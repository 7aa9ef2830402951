"""How near `segment`, file to file, comes to what the machine can compute at all.

The ceiling is the machine's best arithmetic rate, measured in the same round and precision: that of a large matrix
product, or of the network's fastest single convolution, whichever is larger. It is divided by the operations that the
network needs for a pixel of the mask where no margin is computed at all: pixels a second that no tiling can exceed.
The result is the pixels a second of `segment` over that; reading, decoding, scaling, margins, layers bound by memory,
compressing and writing are all that keep it below 1. Loading Python and its libraries is not in it: see startup.py.

    python -m benchmarks.ceiling -o benchmarks/results/ceiling.json
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.cases import random_unet, write_mosaic
from benchmarks.measure import finish, machine, make_parser, rounded, spread, timed
from unettile.checkpoint import Checkpoint
from unettile.devices import keep_freed_memory, set_threads
from unettile.inference.predict import Predictor
from unettile.inference.steady import steady
from unettile.networks.cost import measure_cost
from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.segment import segment_image

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
MATRIX = {"cpu": 2048, "cuda": 8192}
WINDOWS = ((572, 572), (252, 1724))
"""Shapes that single convolutions are tried at: the usual window, and a piece of rows of a wide one."""

WARM_UP_EDGE = 1024
ENOUGH = 120.0  # s: after these no further round begins, for wide networks take minutes for one
CALLS = 3  # of each product or convolution in a round; the fastest counts
CANDIDATES = 3  # convolutions that are tried in all rounds; another one may be the fastest in each

Rate = Callable[[], float]
"""Measures operations a second."""


def flops_per_pixel(checkpoint: Checkpoint) -> float:
    """Return the operations for one pixel of the mask in a window so large that its margin does not count.

    They are a polynomial of second degree in the window's edge; this is its leading coefficient.
    """
    geometry, network = checkpoint.geometry, checkpoint.build_shapes()
    step = math.lcm(geometry.stride, 16)
    first = geometry.input_edge(geometry.smallest_output_edge(step))
    one, two, three = (
        measure_cost(network, checkpoint.in_channels, edge).flops for edge in range(first, first + 3 * step, step)
    )
    return (three - 2 * two + one) / (2 * step**2)


def product_rate(device: torch.device, dtype: torch.dtype) -> Rate:
    """Return what measures the rate of a large matrix product."""
    edge = MATRIX[device.type]
    a, b = (torch.rand(edge, edge, dtype=torch.float32).to(device, dtype) for _ in range(2))
    return lambda: 2 * edge**3 / timed(lambda: a @ b, str(device))


def convolution_rates(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> Iterator[tuple[str, Rate]]:
    """Yield, for each convolution and shape, its name and what measures its rate."""
    shapes = checkpoint.build_shapes()
    network = checkpoint.build().to(device=device, dtype=dtype)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    convolutions = {name: layer for name, layer in shapes.named_modules() if isinstance(layer, nn.Conv2d)}
    layers = dict((steady(network, dtype) if device.type == "cpu" else network).named_modules())
    for window in WINDOWS:
        seen = {}

        def note(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
            return lambda layer, inputs, output: seen.update({name: (inputs[0].shape, output.shape)})  # noqa: B023

        hooks = [layer.register_forward_hook(note(name)) for name, layer in convolutions.items()]
        shapes(torch.empty(1, checkpoint.in_channels, *window, device="meta"))
        for hook in hooks:
            hook.remove()
        for name, (given, made) in seen.items():
            x = torch.rand(given).to(device, dtype).contiguous(memory_format=torch.channels_last)
            flops = 2 * made.numel() * convolutions[name].weight[0].numel()
            yield f"{name} on {given[3]} × {given[2]} px", _rate_of(layers[name], x, flops)


def _rate_of(layer: nn.Module, x: Tensor, flops: int) -> Rate:
    return lambda: flops / timed(lambda: layer(x), str(x.device))


def best(rate: Rate) -> float:
    with torch.inference_mode():
        rate()
        return max(rate() for _ in range(CALLS))


def measure_one(checkpoint: Checkpoint, folder: Path, edge: int, rounds: int, device: str, precision: str) -> Any:
    """Return one row of the result: one network in one precision."""
    predictor = Predictor(checkpoint, device, precision)
    dtype = DTYPES[predictor.precision]
    rates = dict(convolution_rates(checkpoint, predictor.device, dtype))
    fastest = sorted(rates, key=lambda name: best(rates[name]))[-CANDIDATES:]
    rates = {name: rates[name] for name in fastest} | {"matrix product": product_rate(predictor.device, dtype)}
    image, small, mask = folder / f"{edge}.tif", folder / "small.tif", folder / "mask.tif"
    for path, length in ((image, edge), (small, min(edge, WARM_UP_EDGE))):
        if not path.exists():
            write_mosaic(path, length)
    needed = flops_per_pixel(checkpoint)
    segment_image(small, mask, predictor, SegmentOptions(diameter="off"), overwrite=True)
    parts: list[float] = []
    arithmetic = []
    began = time.monotonic()
    while len(parts) < rounds and (not parts or time.monotonic() - began < ENOUGH):
        measured = {name: best(rate) for name, rate in rates.items()}
        seconds = timed(
            lambda: segment_image(image, mask, predictor, SegmentOptions(diameter="off"), overwrite=True), device
        )
        measured = {name: max(rate, best(rates[name])) for name, rate in measured.items()}
        parts.append(edge**2 / seconds * needed / max(measured.values()))
        arithmetic.append(measured)
    reached = {name: max(one[name] for one in arithmetic) for name in rates}
    convolution = max(fastest, key=lambda name: reached[name])
    return {
        "width": checkpoint.config["widths"][0],
        "precision": predictor.precision,
        "edge": edge,
        "rounds": len(parts),
        "mflop_per_pixel": rounded(needed / 1e6),
        "convolution": convolution,
        "gflop_per_s": {
            "convolution": rounded(reached[convolution] / 1e9),
            "matrix product": rounded(reached["matrix product"] / 1e9),
        },
        "of_ceiling": spread(parts),
    }


def measure(widths: list[int], precisions: list[str], edge: int, rounds: int, device: str = "cpu") -> dict[str, object]:
    """Measure each network in each precision and return the figures as JSON values."""
    set_threads()
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        rows = [
            measure_one(random_unet(width, folder / "model.safetensors"), folder, edge, rounds, device, precision)
            for width in widths
            for precision in precisions
        ]
    return {
        "bench": "ceiling",
        "machine": machine("torch", device=device),
        "case": {"device": device, "rounds": rounds},
        "rows": rows,
    }


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 64], help="of the networks, channels at the top")
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"], choices=tuple(DTYPES))
    parser.add_argument("--edge", type=int, default=8192, help="of the image, px")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    finish(measure(given.widths, given.precisions, given.edge, given.rounds, given.device), given.output)
