"""The final file of a run: streamed from its blocks, under its name only when whole."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.errors import InputError, UsageError
from unettile.images.canvas import Canvas, Reader
from unettile.images.formats import format_of, write_image
from unettile.images.labelplace import is_label_of, is_label_place
from unettile.images.omezarr import is_zarr
from unettile.images.slide import ImageSource
from unettile.inference.kinds import kind_of
from unettile.protection import protect
from unettile.segmentation.frame import Frame
from unettile.segmentation.plan import Plan
from unettile.segmentation.run.reader import BlockReader
from unettile.segmentation.run.watch import Watch

if TYPE_CHECKING:
    from unettile.objects.found import Found
    from unettile.objects.labelling import Objects


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
    if is_label_place(output) and not parent.exists():
        parent = parent.parent
    if not parent.is_dir():
        raise InputError(f"cannot write {output}: there is no directory {parent}; create it first")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"cannot write {output}: no permission to write in {parent}; choose another directory")


def check_apart(image: ImageSource, mask: ImageSource | None, output: Path, run: Path) -> None:
    """Refuse to write onto an input or into it, but for a label image of the image that is segmented.

    Args:
        run: the run directory.

    Raises:
        UsageError: it would be.
    """
    inputs = [one for one in (image, mask) if isinstance(one, Path) and not (one is image and is_label_of(output, one))]
    protect(inputs, [output, run])


def check_format(output: Path, plan: Plan) -> None:
    """Refuse a format that cannot hold what the plan writes.

    Raises:
        UsageError: probabilities as PNG, or both as plain TIFF.
        InputError: a PNG too large for those who read it.
    """
    format_of(output).check(canvas_of(plan))


def canvas_of(plan: Plan, objects: int = 0) -> Canvas:
    """Return what the plan writes: a layer a kind of output, in 8 bits but for ids.

    Args:
        objects: how many there are; ids have 16 bits as long as these suffice.
    """
    eight, ids = np.dtype(np.uint8), np.dtype(np.uint16 if objects < 2**16 else np.uint32)
    has_ids = "instances" in plan.write
    return Canvas(
        shape=plan.output_shape,
        layers=tuple(
            kind.layer(plan.class_names, plan.palette, eight if kind.make is not None else ids)
            for kind in map(kind_of, plan.write)
        ),
        dtype=ids if has_ids else eight,
        pixel_size_um=plan.pixel_size_um,
        offset_um=plan.origin_um,
        metadata=plan.metadata() | ({"objects": objects} if has_ids else {}),
        georeference=plan.georeference,
        no_data=_no_data(plan),
    )


def _no_data(plan: Plan) -> int | None:
    """Return the number that a map's outside has, where the image of it has an outside; of amounts none can be it."""
    of_things = all(kind_of(name).reduction == "majority" for name in plan.write)
    outside = plan.within is not None and plan.within.no_data is not None
    return 0 if plan.georeference is not None and outside and of_things else None


@dataclass(frozen=True)
class Written:
    """What the final file holds.

    Args:
        class_pixels: pixels of each class by name; None where no classes are written.
        found: objects; None where no instances are written.
    """

    class_pixels: dict[str, int] | None = None
    found: Found | None = None

    def to_dict(self) -> dict[str, Any]:
        return {
            "class_pixels": self.class_pixels,
            "objects": None if self.found is None else self.found.to_dict(),
        }


def write_output(blocks: BlockReader, output: Path, watch: Watch, zarr: str) -> Written:
    """Write the finished run to its final file.

    Args:
        watch: asked before each piece whether to go on; if not, nothing is left of the file.
        zarr: the version of OME-Zarr, if it is one.

    Raises:
        Incomplete: a block is missing or damaged, or the time is up.
        Interrupted: a signal asked to stop.
        InputError: the destination cannot be written, or is full.
        UsageError: a format that cannot hold so many ids.
    """
    plan = blocks.plan
    if "instances" not in plan.write:
        counts = _write(blocks, output, replace(canvas_of(plan), zarr=zarr), watch, None)
        return Written(counts)
    from unettile.segmentation.instances import find_instances, sum_up  # compiled code, which other runs do without

    with ExitStack() as stack:
        with watch.profile.part("label"), watch.stage("labelling objects") as on_progress:

            def note(done: int, total: int) -> None:
                on_progress(done, total)
                watch.check()

            objects = stack.enter_context(find_instances(blocks, output.parent, note))
        canvas = replace(canvas_of(plan, objects.count), zarr=zarr)
        described = objects.id_classes.to_metadata() | {"colours": [list(colour) for colour in plan.palette]}
        canvas = replace(canvas, metadata=canvas.metadata | described)
        try:
            format_of(output).check(canvas)
        except UsageError as error:
            raise UsageError(
                f"{objects.count} objects need ids of 32 bits, which {output.name} cannot hold: write what is computed"
                f" with `unettile stitch {blocks.path} -o {output.with_suffix('.tif')}`"
            ) from error
        counts = _write(blocks, output, canvas, watch, objects)
        return Written(counts, sum_up(objects, plan.class_names))


@dataclass(frozen=True)
class Counts:
    """Pixels of each class that were written, counted as they are."""

    pixels: NDArray[np.int64]


def reader_of(blocks: BlockReader, canvas: Canvas, watch: Watch, objects: Objects | None, counts: Counts) -> Reader:
    """Return what gives a canvas the pixels of a run.

    Args:
        objects: of the run, where instances are written.
        counts: added to where classes are.
    """
    plan, frame = blocks.plan, Frame(blocks)

    def read(box: Box) -> NDArray[Any]:
        watch.check()
        parts: list[NDArray[Any]] = []
        for kind in plan.write:
            part: NDArray[Any]
            if objects is not None and kind == "instances":
                part = frame.read_ids(objects, box)[None]
            else:
                part = frame.read(kind, box)
            if kind == "classes":
                counts.pixels[:] += np.bincount(part.ravel(), minlength=len(counts.pixels))
            parts.append(part.astype(canvas.dtype, copy=False))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    return read


def _write(
    blocks: BlockReader, output: Path, canvas: Canvas, watch: Watch, objects: Objects | None
) -> dict[str, int] | None:
    """Write a canvas; return the pixels of each class, if classes are written."""
    plan, counts = blocks.plan, Counts(np.zeros(len(blocks.plan.class_names), np.int64))
    write_image(output, canvas, reader_of(blocks, canvas, watch, objects, counts))
    return dict(zip(plan.class_names, counts.pixels.tolist(), strict=True)) if "classes" in plan.write else None
