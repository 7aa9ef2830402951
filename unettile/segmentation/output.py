"""The final file of a run: streamed from its blocks, under its name only when whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unettile.atomic import atomic_path
from unettile.box import Box
from unettile.errors import InputError, UsageError
from unettile.images.canvas import Canvas, writer_for
from unettile.images.plain import DECODED_LIMIT
from unettile.segmentation.blockreader import BlockReader
from unettile.segmentation.plan import Plan


def check_output(output: Path, *, overwrite: bool) -> None:
    """Refuse a destination before any work.

    Raises:
        UsageError: an ending that is not written.
        InputError: it exists (without `overwrite`), or its directory cannot be written.
    """
    writer_for(output)
    if output.is_dir():
        raise InputError(f"{output} is a directory: need a file name; give another -o")
    if output.exists() and not overwrite:
        raise InputError(f"{output} exists: choose another name, or give --overwrite")
    parent = output.parent
    if not parent.is_dir():
        raise InputError(f"cannot write {output}: there is no directory {parent}; create it first")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"cannot write {output}: no permission to write in {parent}; choose another directory")


def check_format(output: Path, plan: Plan) -> None:
    """Refuse a format that cannot hold what the plan writes.

    Raises:
        UsageError: probabilities as PNG.
        InputError: a PNG too large for those who read it.
    """
    if not output.name.lower().endswith(".png"):
        return
    if plan.planes > 1:
        raise UsageError(f"{output.name} cannot hold {plan.planes} planes of probabilities: use a name ending in .tif")
    if plan.shape[0] * plan.shape[1] > DECODED_LIMIT:
        raise InputError(f"{plan.shape[1]} x {plan.shape[0]} px is too large for a PNG: use a name ending in .tif")


def write_output(blocks: BlockReader, output: Path, check: Callable[[], None] = lambda: None) -> tuple[int, ...]:
    """Write the finished run to its final file.

    Args:
        check: called before each piece; raises to stop.

    Returns:
        For classes, the number of pixels of each; for probabilities, nothing.

    Raises:
        Incomplete: a block is missing or damaged.
        InputError: the destination cannot be written, or is full.
    """
    plan = blocks.plan
    canvas = Canvas(
        shape=plan.shape,
        channels=plan.planes,
        dtype=np.dtype(np.uint8),
        palette=plan.palette if plan.write == "classes" else None,
        pixel_size_um=plan.pixel_size_um,
        metadata=plan.metadata(),
    )
    counts = np.zeros(256, np.int64)

    def read(box: Box) -> NDArray[np.uint8]:
        nonlocal counts
        check()
        pixels = blocks.read_box(box)
        counts += np.bincount(pixels.ravel(), minlength=256)
        return pixels

    with atomic_path(output) as temporary:
        writer_for(output)(temporary, canvas, read)
    return tuple(int(n) for n in counts[: len(plan.class_names)]) if plan.write == "classes" else ()
