"""The ways to segment a large image that peers.py compares, each as others run it, on the same parameters.

Networks that pad their convolutions do so at the border of every window, which is what MONAI and nnU-Net expect; those
that do not are what our tiling is made for. Both have the same parameters. All but `unettile, file to file` are given
the image scaled and in memory, for nothing, and return the classes in memory.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unettile.box import Box
from unettile.checkpoint import Checkpoint
from unettile.geometry import Geometry
from unettile.images.mirror import reflect_indices
from unettile.limits import count_threads
from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.predict import Predictor
from unettile.segmentation.segment import segment_image
from unettile.tiling import BlockGrid, TileGrid

WINDOW = 576  # px, of padded networks: the multiple of their stride next to the paper's 572
OUTPUT_EDGE = 388  # px, of networks that do not pad
BATCHES = (1, 2, 4)  # that MONAI's best settings are chosen from

Finish = Callable[[Tensor], NDArray[Any]]
"""Makes of logits (1, K, h, w) what is kept: classes (h, w) uint8, or probabilities of class 1 (h, w) float32."""


@dataclass(frozen=True)
class Case:
    """What a way is given.

    Args:
        checkpoint: with its network padded or not, as the way has it.
        image: file.
        scaled: (H, W) float32, as the network sees it.
        folder: for its files.
    """

    checkpoint: Checkpoint
    image: Path
    scaled: NDArray[np.float32]
    folder: Path

    @property
    def channels(self) -> int:
        return self.checkpoint.in_channels


@dataclass(frozen=True)
class Contender:
    """A way.

    Args:
        network: valid or padded.
        prepare: builds all that is built once, and returns what segments.
        package: that it needs beside ours, if any.
    """

    name: str
    network: str
    precision: str
    prepare: Callable[[Case, Finish], Callable[[], NDArray[Any]]]
    package: str | None = None


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


def from_file_to_file(precision: str, case: Case, finish: Finish) -> Callable[[], NDArray[Any]]:
    """`segment`, image file to mask file; its probabilities by its windows, in memory."""
    predictor = Predictor(case.checkpoint, "cpu", precision)
    if finish is probability_of:
        return partial(_by_windows, case, lambda window: predictor.probabilities(window)[0, 1])

    def run() -> NDArray[Any]:
        segment_image(case.image, case.folder / "mask.tif", predictor, SegmentOptions(), overwrite=True)
        mask: NDArray[np.uint8] = tifffile.imread(case.folder / "mask.tif", level=0)
        return mask

    return run


def in_memory(precision: str, case: Case, finish: Finish) -> Callable[[], NDArray[Any]]:
    """Our engine by rows, block by block, without files."""
    predictor = Predictor(case.checkpoint, "cpu", precision)
    if finish is probability_of:
        return partial(_by_windows, case, lambda window: predictor.probabilities(window)[0, 1])

    def run() -> NDArray[Any]:
        geometry = case.checkpoint.geometry
        shape = (case.scaled.shape[0], case.scaled.shape[1])
        result = np.empty(shape, np.uint8)
        for block in BlockGrid.for_tiles(TileGrid(shape, geometry, OUTPUT_EDGE)):
            edges = [geometry.smallest_output_edge(length) for length in block.box.shape]
            y0, x0 = block.box.y0, block.box.x0
            window = _read(case, Box(y0, x0, y0 + edges[0], x0 + edges[1]).expand(geometry.margin))
            by_rows = predictor.by_rows(("classes",), (window.shape[0], window.shape[1]))
            if by_rows is None:
                result[block.box.slices] = predictor.classes(window[None])[0, : block.box.height, : block.box.width]
                continue
            for first, rows in by_rows(lambda top, bottom, window=window: window[top:bottom]):  # type: ignore[misc]
                place = result[y0 + first : min(block.box.y1, y0 + first + len(rows)), x0 : block.box.x1]
                place[...] = rows[: len(place), : place.shape[1]]
        return result

    return run


def plain_loop(case: Case, finish: Finish) -> Callable[[], NDArray[Any]]:
    """The paper's tiling as its figure shows it: windows of 572, every 388 px, torch's default layout, float32."""
    network = case.checkpoint.build()

    def compute(window: NDArray[np.float32]) -> NDArray[Any]:
        with torch.inference_mode():
            return finish(network(torch.from_numpy(window).permute(0, 3, 1, 2).contiguous()))

    return partial(_by_windows, case, compute, step=OUTPUT_EDGE)


def by_onnxruntime(case: Case, finish: Finish) -> Callable[[], NDArray[Any]]:
    """ONNX Runtime, driven by our tiling."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = count_threads()
    session = onnxruntime.InferenceSession(str(onnx_file(case.folder)), options, providers=["CPUExecutionProvider"])

    def compute(window: NDArray[np.float32]) -> NDArray[Any]:
        logits = session.run(None, {"x": np.ascontiguousarray(window.transpose(0, 3, 1, 2))})[0]
        return finish(torch.from_numpy(logits))

    return partial(_by_windows, case, compute)


def by_openvino(hint: str, case: Case, finish: Finish) -> Callable[[], NDArray[Any]]:
    """OpenVINO, driven by our tiling; `hint` is the precision that it computes in."""
    import openvino

    core = openvino.Core()
    settings = {
        "INFERENCE_PRECISION_HINT": hint,
        "INFERENCE_NUM_THREADS": str(count_threads()),
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = core.compile_model(str(onnx_file(case.folder)), "CPU", settings)

    def compute(window: NDArray[np.float32]) -> NDArray[Any]:
        logits = compiled(np.ascontiguousarray(window.transpose(0, 3, 1, 2)))[0]
        return finish(torch.from_numpy(np.asarray(logits, np.float32)))

    return partial(_by_windows, case, compute)


def by_monai(case: Case, finish: Finish) -> Callable[[], NDArray[Any]]:
    """MONAI's SlidingWindowInferer as it comes: overlap 0.25, windows averaged, one at a time."""
    from monai.inferers import SlidingWindowInferer

    network, x = case.checkpoint.build(), _tensor(case)
    inferer = SlidingWindowInferer((WINDOW, WINDOW))
    return lambda: _inferred(inferer, network, x, finish)


def by_monai_at_its_best(case: Case, finish: Finish) -> Callable[[], NDArray[Any]]:
    """The same with channels-last memory, bfloat16 and the batch that is fastest on a part of the image."""
    from monai.inferers import SlidingWindowInferer

    network = case.checkpoint.build().to(torch.bfloat16)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def compute(windows: Tensor) -> Tensor:
        logits: Tensor = network(windows.to(torch.bfloat16).contiguous(memory_format=torch.channels_last)).float()
        return logits

    x = _tensor(case)
    part, seconds = x[:, :, : 2 * WINDOW, : 2 * WINDOW], {}
    for batch in BATCHES:
        for _ in range(2):  # the second time counts
            start = time.perf_counter()
            _inferred(SlidingWindowInferer((WINDOW, WINDOW), batch), compute, part, finish)
            seconds[batch] = time.perf_counter() - start
    inferer = SlidingWindowInferer((WINDOW, WINDOW), min(seconds, key=lambda batch: seconds[batch]))
    return lambda: _inferred(inferer, compute, x, finish)


def half_overlap(case: Case, finish: Finish) -> Callable[[], NDArray[Any]]:
    """nnU-Net's scheme (Isensee et al. 2021), mirroring off: windows every half edge, averaged under a Gaussian."""
    network, x = case.checkpoint.build(), _tensor(case)
    coordinates = torch.arange(WINDOW) - (WINDOW - 1) / 2
    bell = torch.exp(-0.5 * (coordinates / (WINDOW / 8)) ** 2)  # its standard deviation is an eighth of the window
    weight = bell[:, None] * bell

    def run() -> NDArray[Any]:
        height, width = x.shape[2:]
        total, weights = torch.zeros(1, len(case.checkpoint.classes), height, width), torch.zeros(height, width)
        with torch.inference_mode():
            for y in _starts(height):
                for x0 in _starts(width):
                    place = np.s_[..., y : y + WINDOW, x0 : x0 + WINDOW]
                    total[place] += weight * network(x[place])
                    weights[place] += weight
            return finish(total / weights)

    return run


CONTENDERS = (
    Contender("unettile, file to file", "valid", "bf16", partial(from_file_to_file, "bf16")),
    Contender("unettile, in memory", "valid", "bf16", partial(in_memory, "bf16")),
    Contender("unettile, file to file", "valid", "fp32", partial(from_file_to_file, "fp32")),
    Contender("plain PyTorch loop", "valid", "fp32", plain_loop),
    Contender("ONNX Runtime, our tiling", "valid", "fp32", by_onnxruntime, "onnxruntime"),
    Contender("OpenVINO, our tiling", "valid", "fp32", partial(by_openvino, "f32"), "openvino"),
    Contender("OpenVINO, our tiling", "valid", "bf16", partial(by_openvino, "bf16"), "openvino"),
    Contender("unettile, file to file", "padded", "bf16", partial(from_file_to_file, "bf16")),
    Contender("unettile, file to file", "padded", "fp32", partial(from_file_to_file, "fp32")),
    Contender("MONAI, default", "padded", "fp32", by_monai, "monai"),
    Contender("MONAI, best settings", "padded", "bf16", by_monai_at_its_best, "monai"),
    Contender("nnU-Net's scheme", "padded", "fp32", half_overlap),
)


def _read(case: Case, box: Box) -> NDArray[np.float32]:
    """Return pixels that may lie past the image, mirrored, (h, w, C)."""
    rows = reflect_indices(box.y0, box.y1, case.scaled.shape[0])
    columns = reflect_indices(box.x0, box.x1, case.scaled.shape[1])
    return np.repeat(case.scaled[np.ix_(rows, columns)][..., None], case.channels, axis=2)


def _tiles(shape: tuple[int, int], geometry: Geometry, step: int) -> Iterator[Box]:
    for y in range(0, shape[0], step):
        for x in range(0, shape[1], step):
            yield Box(y, x, y + step, x + step)


def _by_windows(
    case: Case, compute: Callable[[NDArray[np.float32]], NDArray[Any]], step: int | None = None
) -> NDArray[Any]:
    """Return what `compute` makes of windows (1, H, W, C), laid every `step` px; by default as our tiling lays them."""
    geometry = case.checkpoint.geometry
    output = geometry.smallest_output_edge(geometry.write_edge(OUTPUT_EDGE))
    shape = (case.scaled.shape[0], case.scaled.shape[1])
    result: NDArray[Any] | None = None
    for tile in _tiles(shape, geometry, step or geometry.write_edge(OUTPUT_EDGE)):
        window = Box(tile.y0, tile.x0, tile.y0 + output, tile.x0 + output).expand(geometry.margin)
        made = compute(_read(case, window)[None])
        if result is None:
            result = np.empty(shape, made.dtype)
        box = tile.intersect(Box.of_shape(shape))
        result[box.slices] = made[: box.height, : box.width]
    assert result is not None
    return result


def _tensor(case: Case) -> Tensor:
    """Return the image as a network takes it, (1, C, H, W); grey for colours is not copied."""
    return torch.from_numpy(case.scaled)[None, None].expand(1, case.channels, -1, -1)


def _inferred(inferer: Any, network: nn.Module | Callable[[Tensor], Tensor], x: Tensor, finish: Finish) -> NDArray[Any]:
    with torch.inference_mode():
        return finish(inferer(x, network))


def _starts(length: int) -> list[int]:
    """Return where windows start that are laid at most half an edge apart, evenly."""
    steps = -(-(length - WINDOW) // (WINDOW // 2))
    return [round(number * (length - WINDOW) / max(1, steps)) for number in range(steps + 1)]
