"""The ways to segment a large image that peers.py compares, each as others run it, on the same parameters.

Networks that pad their convolutions do so at the border of every window, which is what MONAI and nnU-Net expect; those
that do not are what our tiling is made for. Both have the same parameters. All but ours hold the whole image, scaled,
and the whole answer in memory.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unettile.box import Box
from unettile.checkpoint import Checkpoint
from unettile.images.mirror import reflect_indices
from unettile.limits import count_threads

OURS = "unettile"
WINDOW = 576  # px, of padded networks: the multiple of their stride next to the paper's 572
OUTPUT_EDGE = 388  # px, of networks that do not pad
BATCHES = (1, 2, 4)  # that MONAI's best settings are chosen from

Finish = Callable[[Tensor], NDArray[Any]]
"""Makes of logits (1, K, h, w) what is kept: classes (h, w) uint8, or probabilities of class 1 (h, w) float32."""

Run = Callable[[NDArray[np.float32], Finish], NDArray[Any]]
"""Segments an image (H, W), scaled as the network sees it."""

Prepare = Callable[[Checkpoint, Path], Run]
"""Builds all that is built once, from a model and a folder in which `export_onnx` has put its network."""


@dataclass(frozen=True)
class Contender:
    """A way.

    Args:
        network: valid or padded.
        prepare: None for ours, which reads and writes files itself.
        package: that it needs beside ours, if any.
        as_it_comes: without our setting of the C library, which keeps freed memory for the next tensor; all others are
            given it, though none sets it by itself.
    """

    name: str
    network: str
    precision: str
    prepare: Prepare | None = None
    package: str | None = None
    as_it_comes: bool = False


def classes_of(logits: Tensor) -> NDArray[np.uint8]:
    result: NDArray[np.uint8] = logits[0].argmax(0).to(torch.uint8).numpy()
    return result


def probability_of(logits: Tensor) -> NDArray[np.float32]:
    result: NDArray[np.float32] = logits[0].float().softmax(0)[1].numpy()
    return result


def onnx_file(folder: Path) -> Path:
    """Return where the network stands for engines that read ONNX."""
    return folder / "network.onnx"


def export_onnx(checkpoint: Checkpoint, folder: Path) -> None:
    """Write the network for one window of the usual size."""
    geometry = checkpoint.geometry
    edge = geometry.input_edge(geometry.smallest_output_edge(geometry.write_edge(OUTPUT_EDGE)))
    window = torch.zeros(1, checkpoint.in_channels, edge, edge)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(checkpoint.build(), (window,), input_names=["x"], dynamo=True, verbose=False)
    assert program is not None
    program.save(str(onnx_file(folder)))


def plain_loop(checkpoint: Checkpoint, folder: Path) -> Run:
    """The paper's tiling as its figure shows it: windows of 572, every 388 px, torch's default layout, float32."""
    network = checkpoint.build()

    def compute(window: NDArray[np.float32], finish: Finish) -> NDArray[Any]:
        with torch.inference_mode():
            return finish(network(torch.from_numpy(window)))

    return partial(_by_windows, checkpoint, compute, OUTPUT_EDGE)


def by_onnxruntime(checkpoint: Checkpoint, folder: Path) -> Run:
    """ONNX Runtime, driven by our tiling."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = count_threads()
    session = onnxruntime.InferenceSession(str(onnx_file(folder)), options, providers=["CPUExecutionProvider"])

    def compute(window: NDArray[np.float32], finish: Finish) -> NDArray[Any]:
        logits = session.run(None, {"x": window})[0]
        return finish(torch.from_numpy(logits))

    return partial(_by_windows, checkpoint, compute, _step(checkpoint))


def by_openvino(hint: str, checkpoint: Checkpoint, folder: Path) -> Run:
    """OpenVINO, driven by our tiling; `hint` is the precision that it computes in."""
    import openvino

    core = openvino.Core()
    settings = {
        "INFERENCE_PRECISION_HINT": hint,
        "INFERENCE_NUM_THREADS": str(count_threads()),
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = core.compile_model(str(onnx_file(folder)), "CPU", settings)

    def compute(window: NDArray[np.float32], finish: Finish) -> NDArray[Any]:
        logits = compiled(window)[0]
        return finish(torch.from_numpy(np.asarray(logits, np.float32)))

    return partial(_by_windows, checkpoint, compute, _step(checkpoint))


def by_monai(checkpoint: Checkpoint, folder: Path) -> Run:
    """MONAI's SlidingWindowInferer as it comes: overlap 0.25, windows averaged, one at a time."""
    from monai.inferers import SlidingWindowInferer

    return partial(_inferred, SlidingWindowInferer((WINDOW, WINDOW)), checkpoint.build(), checkpoint.in_channels)


def by_monai_at_its_best(checkpoint: Checkpoint, folder: Path) -> Run:
    """The same with channels-last memory, bfloat16 and the batch that is fastest on four windows."""
    from monai.inferers import SlidingWindowInferer

    network = checkpoint.build().to(torch.bfloat16)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def compute(windows: Tensor) -> Tensor:
        logits: Tensor = network(windows.to(torch.bfloat16).contiguous(memory_format=torch.channels_last)).float()
        return logits

    trial = np.random.default_rng(0).random((2 * WINDOW, 2 * WINDOW), np.float32)
    runs = [
        partial(_inferred, SlidingWindowInferer((WINDOW, WINDOW), n), compute, checkpoint.in_channels) for n in BATCHES
    ]

    def seconds(run: Run) -> float:
        run(trial, classes_of)  # the second time counts
        start = time.perf_counter()
        run(trial, classes_of)
        return time.perf_counter() - start

    return min(runs, key=seconds)


def half_overlap(checkpoint: Checkpoint, folder: Path) -> Run:
    """nnU-Net's scheme (Isensee et al. 2021), mirroring off: windows every half edge, averaged under a Gaussian."""
    network = checkpoint.build()
    coordinates = torch.arange(WINDOW) - (WINDOW - 1) / 2
    bell = torch.exp(-0.5 * (coordinates / (WINDOW / 8)) ** 2)  # its standard deviation is an eighth of the window
    weight = bell[:, None] * bell

    def run(scaled: NDArray[np.float32], finish: Finish) -> NDArray[Any]:
        x = _tensor(scaled, checkpoint.in_channels)
        height, width = scaled.shape
        total, weights = torch.zeros(1, len(checkpoint.classes), height, width), torch.zeros(height, width)
        with torch.inference_mode():
            for y in _starts(height):
                for x0 in _starts(width):
                    place = np.s_[..., y : y + WINDOW, x0 : x0 + WINDOW]
                    total[place] += weight * network(x[place])
                    weights[place] += weight
            total /= weights
            return finish(total)

    return run


CONTENDERS = (
    Contender(OURS, "valid", "bf16"),
    Contender(OURS, "valid", "fp32"),
    Contender("plain PyTorch loop", "valid", "fp32", plain_loop, as_it_comes=True),
    Contender("ONNX Runtime, our tiling", "valid", "fp32", by_onnxruntime, "onnxruntime"),
    Contender("OpenVINO, our tiling", "valid", "fp32", partial(by_openvino, "f32"), "openvino"),
    Contender("OpenVINO, our tiling", "valid", "bf16", partial(by_openvino, "bf16"), "openvino"),
    Contender(OURS, "padded", "bf16"),
    Contender(OURS, "padded", "fp32"),
    Contender("MONAI, default", "padded", "fp32", by_monai, "monai", as_it_comes=True),
    Contender("MONAI, best settings", "padded", "bf16", by_monai_at_its_best, "monai"),
    Contender("nnU-Net's scheme", "padded", "fp32", half_overlap, as_it_comes=True),
)


def _step(checkpoint: Checkpoint) -> int:
    return checkpoint.geometry.write_edge(OUTPUT_EDGE)


def _by_windows(
    checkpoint: Checkpoint,
    compute: Callable[[NDArray[np.float32], Finish], NDArray[Any]],
    step: int,
    scaled: NDArray[np.float32],
    finish: Finish,
) -> NDArray[Any]:
    """Return what `compute` makes of windows (1, C, H, W), laid every `step` px, mirrored at the image's edges."""
    geometry = checkpoint.geometry
    output = geometry.smallest_output_edge(geometry.write_edge(OUTPUT_EDGE))
    height, width = scaled.shape
    result: NDArray[Any] | None = None
    for y in range(0, height, step):
        for x in range(0, width, step):
            window = Box(y, x, y + output, x + output).expand(geometry.margin)
            rows, columns = reflect_indices(window.y0, window.y1, height), reflect_indices(window.x0, window.x1, width)
            pixels = np.repeat(scaled[np.ix_(rows, columns)][None, None], checkpoint.in_channels, axis=1)
            made = compute(pixels, finish)
            if result is None:
                result = np.empty((height, width), made.dtype)
            box = Box(y, x, min(y + step, height), min(x + step, width))
            result[box.slices] = made[: box.height, : box.width]
    assert result is not None
    return result


def _tensor(scaled: NDArray[np.float32], channels: int) -> Tensor:
    """Return the image as a network takes it, (1, C, H, W); grey for colours is not copied."""
    return torch.from_numpy(scaled)[None, None].expand(1, channels, -1, -1)


def _inferred(
    inferer: Any,
    network: nn.Module | Callable[[Tensor], Tensor],
    channels: int,
    scaled: NDArray[np.float32],
    finish: Finish,
) -> NDArray[Any]:
    with torch.inference_mode():
        return finish(inferer(_tensor(scaled, channels), network))


def _starts(length: int) -> list[int]:
    """Return where windows start that are laid at most half an edge apart, evenly."""
    steps = -(-(length - WINDOW) // (WINDOW // 2))
    return [round(number * (length - WINDOW) / max(1, steps)) for number in range(steps + 1)]
