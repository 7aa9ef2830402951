"""What a run will need in memory, before it begins; and a run that the job's memory cannot hold, refused."""

from __future__ import annotations

from unettile.errors import InputError
from unettile.images.cache import KEPT_BYTES
from unettile.images.canvas import PIECE_BYTES
from unettile.images.normalize import WHOLE_PIXELS
from unettile.inference.cuda.engine import LANES
from unettile.inference.engine import Memory
from unettile.inference.predict import Predictor
from unettile.inference.recall import RECALL_BYTES
from unettile.limits import memory_limit
from unettile.segmentation.plan import Plan
from unettile.segmentation.run.reader import CACHE_BYTES

LIBRARIES = 400 * 2**20  # bytes: Python, torch and the rest, measured
_CUDA_LIBRARIES = 2 * 2**30  # bytes of the machine's memory: CUDA, cuDNN and their tables; not measured yet
LABELLING = 300 * 2**20
"""Bytes: numba, SciPy, and a block of labels with what splits it; measured. What is known of objects comes on top."""

_SAMPLE_BYTES = 24  # a sampled number, while percentiles are taken: itself, as float64, and sorted
_COPIES = 8  # bytes of a parameter in the checkpoint, and while it is brought into the order of the kernels


def fit_batch(plan: Plan, predictor: Predictor, batch: int | None, limit: int | None = None) -> int:
    """Return how many windows to compute at once: `batch`, or as many as the device likes and the memory holds.

    Args:
        limit: of the job's memory, bytes; None asks the system.

    Raises:
        InputError: it does not fit; says what to change.
    """
    limit = memory_limit() if limit is None else limit
    wanted = batch or (1 if predictor.engine.memory(plan.task, 1).free is None else LANES)
    for windows in [wanted] if batch else range(wanted, 0, -1):
        need = _needs(plan, predictor, windows)
        rooms = [] if limit is None else [(need.host, limit)]
        if need.free is not None:
            rooms.append((need.device, need.free))
        short = [(bytes_, room) for bytes_, room in rooms if bytes_ > room]
        if not short:
            return windows
    lacking, room = short[0]
    kind = "on the GPU" if need.free is not None and lacking == need.device else "of memory"
    smaller = "a smaller --tile or --batch" if windows > 1 else "a smaller --tile"
    raise InputError(
        f"tiles of {plan.output_edge} px, {windows} at once, need about {lacking / 2**30:.1f} GiB {kind}, and"
        f" {room / 2**30:.1f} GiB are free: give {smaller}, or more memory"
    )


def estimate_memory(plan: Plan, predictor: Predictor, batch: int) -> int:
    """Return about how many bytes of the machine's memory a process of this run needs at its peak.

    It does not grow with the image: see `_needs`.
    """
    return _needs(plan, predictor, batch).host


def estimate_device_memory(plan: Plan, predictor: Predictor, batch: int) -> int:
    """Return about how many bytes of a GPU's memory a process of this run needs at its peak; 0 without a GPU."""
    return _needs(plan, predictor, batch).device


def _needs(plan: Plan, predictor: Predictor, batch: int) -> Memory:
    """Return the bytes that are needed of the machine's memory, and of a device's.

    One after the other: the sample for the scaling; strips with their margins, what is kept of the image and of equal
    windows, a batch and the network's feature maps; then what is kept of the blocks while the file is written. What one
    step frees the next one uses, but pieces of it lie scattered.
    """
    engine, task = predictor.engine, plan.task
    network, cut = engine.memory(task, batch), engine.cut(task)
    edge, margin, channels = task.window_edge, 2 * plan.geometry.margin, predictor.checkpoint.in_channels
    pixel = channels * task.dtype.itemsize
    area = plan.shape[0] * plan.shape[1]
    parameters = sum(tensor.numel() for tensor in predictor.checkpoint.parameters.values())
    rows = min(plan.block_edge, plan.shape[0]) + margin
    columns = min(max(cut.width, plan.block_edge), plan.shape[1]) + margin
    by_rows = cut.height < plan.block_edge
    read = min(rows, edge) if by_rows else rows  # px, of an image's rows at once
    blocks = columns * (read * (1 + engine.readers + by_rows) * pixel + rows * (2 + engine.writers) * plan.planes)
    windows = 3 * 4 * batch * channels * edge**2
    kept = engine.readers * min(KEPT_BYTES, area * pixel) + min(RECALL_BYTES, area * (pixel + plan.planes))
    if network.free is not None:  # blocks wait on the device, and pass through pinned memory
        blocks *= 2
    measuring = _SAMPLE_BYTES * channels * min(WHOLE_PIXELS, area)
    computing = blocks + windows + kept + network.host
    writing = kept + min(CACHE_BYTES + 2 * PIECE_BYTES, plan.planes * area) + network.host
    writing += LABELLING if plan.objects is not None else 0
    libraries = LIBRARIES + (_CUDA_LIBRARIES if network.free is not None else 0)
    host = int(libraries + parameters * _COPIES + max(measuring, computing, writing))
    return Memory(host, network.device, network.free)
