"""What a run will need in memory, before it begins; and a run that the job's memory cannot hold, refused."""

from __future__ import annotations

import numpy as np
import torch

from unettile.errors import InputError
from unettile.images.cache import KEPT_BYTES
from unettile.images.canvas import PIECE_BYTES
from unettile.images.normalize import WHOLE_PIXELS
from unettile.inference.footprint import footprint
from unettile.inference.predict import Predictor
from unettile.limits import memory_limit
from unettile.networks.cost import measure_cost
from unettile.segmentation.blockreader import CACHE_BYTES
from unettile.segmentation.columns import column_width, window_width
from unettile.segmentation.crew import reading_threads, writing_threads
from unettile.segmentation.plan import Plan
from unettile.segmentation.recall import RECALL_BYTES

LIBRARIES = 400 * 2**20  # bytes: Python, torch and the rest, measured
_CUDA_LIBRARIES = 2 * 2**30  # bytes of the machine's memory: CUDA, cuDNN and their tables; not measured yet
LABELLING = 300 * 2**20
"""Bytes: numba, SciPy, and a block of labels with what splits it; measured. What is known of objects comes on top."""

_SAMPLE_BYTES = 24  # a sampled number, while percentiles are taken: itself, as float64, and sorted
_SCRATCH = 1.3  # times the feature maps: what oneDNN, cuDNN and the allocator take beside them
_SCRATCH_BY_ROWS = 1.5  # the same, where pieces of many sizes leave gaps between them; measured
_COPIES = 8  # bytes of a parameter in the checkpoint, and while it is brought into the order of the kernels
LANES = 2
"""Windows at once on a GPU: one is computed while what was made of the other is fetched."""


def fit_batch(plan: Plan, predictor: Predictor, batch: int | None, limit: int | None = None) -> int:
    """Return how many windows to compute at once: `batch`, or as many as the device likes and the memory holds.

    Args:
        limit: of the job's memory, bytes; None asks the system.

    Raises:
        InputError: it does not fit; says what to change.
    """
    limit = memory_limit() if limit is None else limit
    wanted = batch or (LANES if predictor.has_lanes else 1)
    for windows in [wanted] if batch else range(wanted, 0, -1):
        host, device = _needs(plan, predictor, windows)
        rooms = [(host, limit)] if limit is not None else []
        if predictor.has_lanes:
            rooms.append((device, free_device_memory(predictor.device)))
        short = [(need, room) for need, room in rooms if need > room]
        if not short:
            return windows
    need, room = short[0]
    kind = "on the GPU" if need == device and predictor.has_lanes else "of memory"
    smaller = "a smaller --tile or --batch" if windows > 1 else "a smaller --tile"
    raise InputError(
        f"tiles of {plan.output_edge} px, {windows} at once, need about {need / 2**30:.1f} GiB {kind}, and"
        f" {room / 2**30:.1f} GiB are to be had: give {smaller}, or more memory"
    )


def estimate_memory(plan: Plan, predictor: Predictor, batch: int) -> int:
    """Return about how many bytes of the machine's memory a process of this run needs at its peak.

    It does not grow with the image: see `_needs`.
    """
    return _needs(plan, predictor, batch)[0]


def estimate_device_memory(plan: Plan, predictor: Predictor, batch: int) -> int:
    """Return about how many bytes of a GPU's memory a process of this run needs at its peak; 0 without a GPU."""
    return _needs(plan, predictor, batch)[1]


def lane_bytes(predictor: Predictor, output_edge: int) -> int:
    """Return about how many bytes the feature maps of one window take on a GPU, and what libraries take beside."""
    window = max(predictor.geometry.input_edge(output_edge), predictor.smallest_window)
    cost = measure_cost(predictor.checkpoint.build_shapes(), predictor.checkpoint.in_channels, window)
    return int(_SCRATCH * item_bytes(predictor.precision) / 4 * cost.peak_bytes)


def item_bytes(precision: str) -> int:
    """Return the bytes of a number in a feature map."""
    return 4 if precision in ("fp32", "tf32") else 2


def device_memory(device: torch.device) -> int:
    """Return all the memory of a GPU, bytes."""
    return int(torch.cuda.mem_get_info(device)[1])


def free_device_memory(device: torch.device) -> int:
    """Return the memory of a GPU that is free or in this process's hands already, bytes."""
    return int(torch.cuda.mem_get_info(device)[0] + torch.cuda.memory_reserved(device))


def _needs(plan: Plan, predictor: Predictor, batch: int) -> tuple[int, int]:
    """Return the bytes that are needed of the machine's memory, and of a GPU's.

    One after the other: the sample for the scaling; blocks or strips with their margins, what is kept of the image and
    of equal windows, a batch and the network's feature maps; then what is kept of the blocks while the file is written.
    What one step frees the next one uses, but pieces of it lie scattered.
    """
    edge = plan.geometry.input_edge(plan.output_edge)
    channels = predictor.checkpoint.in_channels
    pixel = channels * np.dtype(plan.image["dtype"]).itemsize
    area = plan.shape[0] * plan.shape[1]
    parameters = sum(tensor.numel() for tensor in predictor.checkpoint.parameters.values())
    item = item_bytes(predictor.precision)
    window = max(edge, predictor.smallest_window)
    cost = measure_cost(predictor.checkpoint.build_shapes(), channels, window)
    maps = _SCRATCH * item / 4 * batch * cost.peak_bytes
    on_gpu = predictor.has_lanes
    rows, columns = (min(plan.block_edge, length) + 2 * plan.geometry.margin for length in plan.shape)
    read, strips = rows, 0  # px, of an image's rows at once
    if width := column_width(plan, predictor):  # as wide as a column, but no higher than the rows that are in work
        columns, read, strips = window_width(plan, width), min(rows, edge), 1
        by_rows = predictor.by_rows(plan.stored, columns)
        assert by_rows is not None
        maps = max(maps, _SCRATCH_BY_ROWS * footprint(by_rows.stream))
    network = int(parameters * item + maps)
    readers, writers = (reading_threads(), writing_threads()) if on_gpu else (1, 1)
    blocks = columns * (read * (1 + readers + strips) * pixel + rows * (2 + writers) * plan.planes)
    windows = 3 * 4 * batch * channels * edge**2
    kept = readers * min(KEPT_BYTES, area * pixel) + min(RECALL_BYTES, area * (pixel + plan.planes))
    if on_gpu:  # blocks wait there, and pass through pinned memory
        network += (2 + readers) * rows * columns * pixel
        blocks *= 2
    measuring = _SAMPLE_BYTES * channels * min(WHOLE_PIXELS, area)
    computing = blocks + windows + kept + (0 if on_gpu else network)
    writing = kept + min(CACHE_BYTES + 2 * PIECE_BYTES, plan.planes * area) + (0 if on_gpu else network)
    writing += LABELLING if plan.objects is not None else 0
    libraries = LIBRARIES + (_CUDA_LIBRARIES if on_gpu else 0)
    return int(libraries + parameters * _COPIES + max(measuring, computing, writing)), network if on_gpu else 0
