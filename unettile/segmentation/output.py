"""The final file of a run: streamed from its blocks, under its name only when whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.errors import InputError
from unettile.images.canvas import Canvas, Layer
from unettile.images.formats import format_of, write_image
from unettile.images.omezarr import is_zarr
from unettile.segmentation.blockreader import BlockReader
from unettile.segmentation.plan import Plan


def check_output(output: Path, *, overwrite: bool) -> None:
    """Refuse a destination before any work.

    Raises:
        UsageError: an ending that is not written.
        InputError: it exists (without `overwrite`), or its directory cannot be written.
    """
    if format_of(output).is_directory:
        if output.exists() and not is_zarr(output):  # it will be removed, so it should be what the user thinks it is
            raise InputError(f"{output} exists and is no Zarr directory: choose another name")
    elif output.is_dir():
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
        UsageError: probabilities as PNG, or both as plain TIFF.
        InputError: a PNG too large for those who read it.
    """
    format_of(output).check(canvas_of(plan))


def canvas_of(plan: Plan) -> Canvas:
    """Return what the plan writes: a layer of class numbers, one of 8-bit probabilities, or both."""
    layers = {
        "classes": Layer("classes", 1, "majority", plan.class_names, plan.palette),
        "probabilities": Layer("probabilities", len(plan.class_names), "mean", plan.class_names, plan.palette),
    }
    return Canvas(
        shape=plan.shape,
        layers=tuple(layers[kind] for kind in plan.write),
        dtype=np.dtype(np.uint8),
        pixel_size_um=plan.pixel_size_um,
        offset_um=plan.origin_um,
        metadata=plan.metadata(),
    )


def write_output(blocks: BlockReader, output: Path, check: Callable[[], None] = lambda: None) -> tuple[int, ...]:
    """Write the finished run to its final file.

    Args:
        check: called before each piece; raises to stop, and then nothing is left of the file.

    Returns:
        The number of pixels of each class; nothing where only probabilities are written.

    Raises:
        Incomplete: a block is missing or damaged.
        InputError: the destination cannot be written, or is full.
    """
    plan = blocks.plan
    counts = np.zeros(len(plan.class_names), np.int64)

    def read(box: Box) -> NDArray[np.uint8]:
        check()
        pixels = blocks.read_box(box)
        if "classes" in plan.write:
            classes = pixels if plan.planes == 1 else pixels[-1]
            for index in range(len(counts)):
                counts[index] += np.count_nonzero(classes == index)
        return pixels

    write_image(output, canvas_of(plan), read)
    return tuple(int(n) for n in counts) if "classes" in plan.write else ()
