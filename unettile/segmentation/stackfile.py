"""The final file of a stack: its planes streamed from their run directories, one after another."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.errors import InputError
from unettile.images.byplane import merge_planes
from unettile.images.canvas import Canvas, Reader
from unettile.images.formats import format_of, write_image
from unettile.images.idclasses import COUNT_KEY
from unettile.images.planes import Planes
from unettile.images.spacing import UNKNOWN, Spacing
from unettile.segmentation.output import Counts, Written, canvas_of, reader_of
from unettile.segmentation.plan import Plan
from unettile.segmentation.run.directory import RunDirectory
from unettile.segmentation.run.reader import BlockReader
from unettile.segmentation.run.watch import Watch
from unettile.segmentation.stackrun import StackDirectory

_BY_PLANE = ("image", "scaling", "sizing", "within")
"""Of a plan's metadata, what may differ from plane to plane."""


def stack_metadata(planes: Planes, plans: Sequence[Plan]) -> dict[str, Any]:
    """Return what the file of a stack says of itself: what its planes have in common, and what each has of its own."""
    found = merge_planes(planes, [plan.metadata() for plan in plans], _BY_PLANE)
    return found | {"view": found["view"] | {"t": None, "z": None}}


def stack_canvas(
    planes: Planes, plans: Sequence[Plan], objects: Sequence[dict[str, Any]] = (), spacing: Spacing = UNKNOWN
) -> Canvas:
    """Return what the planes of a stack are written as.

    Args:
        objects: of each plane, how many there are and their classes, as metadata; empty where none are written.
        spacing: of the planes.

    Raises:
        InputError: planes of several sizes, as they come where each is segmented at a scale of its own.
    """
    if len({plan.output_shape for plan in plans}) > 1:
        raise InputError(
            "the planes of the stack come out at several sizes: give --scaling stack, --diameter, or --frame image"
        )
    canvas = canvas_of(plans[0], max((one[COUNT_KEY] for one in objects), default=0))
    metadata = stack_metadata(planes, plans)
    if objects:
        metadata |= merge_planes(planes, objects) | {"colours": [list(colour) for colour in plans[0].palette]}
    return replace(canvas, metadata=metadata, stack=planes.shape, spacing=spacing)


def check_stack_format(output: Path, planes: Planes, first: Plan) -> None:
    """Refuse a format that cannot hold a stack, as the plan of its first plane tells it.

    Raises:
        UsageError: several planes as PNG, for example.
    """
    format_of(output).check(stack_canvas(planes, [first]))


def write_stack(directory: StackDirectory, output: Path, watch: Watch, zarr: str) -> Written:
    """Write finished planes to one file; ids are those of each plane alone, from 1.

    Raises:
        Incomplete: a block is missing or damaged, or the time is up.
        Interrupted: a signal asked to stop.
        InputError: the destination cannot be written, or planes do not fit together.
        UsageError: a format that cannot hold them.
    """
    runs = [RunDirectory.open(path) for path in directory.paths]
    plans = [run.plan for run in runs]
    objects = [_describe(run, output.parent, watch) for run in runs] if "instances" in plans[0].write else []
    canvas = replace(stack_canvas(directory.planes, plans, objects, directory.spacing), zarr=zarr)
    format_of(output).check(canvas)
    counts = Counts(np.zeros(len(plans[0].class_names), np.int64))
    with _OnePlane(canvas, output.parent, watch, counts) as one:
        write_image(output, canvas, [one.reader(run) for run in runs])
    named = dict(zip(plans[0].class_names, counts.pixels.tolist(), strict=True))
    return Written(named if "classes" in plans[0].write else None)


def _describe(run: RunDirectory, directory: Path, watch: Watch) -> dict[str, Any]:
    """Return what the metadata say of a plane's objects; these are not kept: those of all planes would fill disks."""
    from unettile.segmentation.instances import find_instances  # compiled code, which other runs do without

    with BlockReader(run) as blocks, find_instances(blocks, directory, lambda done, total: watch.check()) as objects:
        return objects.id_classes.to_metadata()


class _OnePlane:
    """Reads planes of which one is open at a time: the one that is being written."""

    def __init__(self, canvas: Canvas, directory: Path, watch: Watch, counts: Counts) -> None:
        self._canvas, self._directory, self._watch, self._counts = canvas, directory, watch, counts
        self._stack = ExitStack()
        self._run: RunDirectory | None = None

    def __enter__(self) -> _OnePlane:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def reader(self, run: RunDirectory) -> Reader:
        """Return what gives the pixels of a plane; the first box that is asked for opens it."""

        def read(box: Box) -> NDArray[Any]:
            if self._run is not run:
                self._open(run)
            return self._read(box)

        return read

    def _open(self, run: RunDirectory) -> None:
        self._stack.close()
        blocks, objects = self._stack.enter_context(BlockReader(run)), None
        if "instances" in run.plan.write:
            from unettile.segmentation.instances import find_instances

            found = find_instances(blocks, self._directory, lambda done, total: self._watch.check())
            objects = self._stack.enter_context(found)
        self._run, self._read = run, reader_of(blocks, self._canvas, self._watch, objects, self._counts)
