"""Writing the maps of a plan, one after the other, each piece by piece."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from unettile.atomic import atomic_group, naming, remove_leftovers
from unettile.box import Box
from unettile.drawn.pairing import path_of
from unettile.images.canvas import Reader
from unettile.images.formats import format_of
from unettile.images.slide import open_labels
from unettile.images.view import View
from unettile.labels import carve_gaps
from unettile.objects.components import open_ids
from unettile.protection import protect
from unettile.weighting import OnProgress
from unettile.weighting.plan import WeightPlan
from unettile.weighting.preview import Preview
from unettile.weighting.survey import LabelFile
from unettile.weightmap import weight_map


def write_weight_maps(plan: WeightPlan, overwrite: bool, preview: bool, on_progress: OnProgress) -> int:
    """Write the maps of a plan and return how many; without `overwrite`, those that an earlier run wrote are kept.

    A map and its picture appear together.

    Args:
        preview: also write a picture of each.

    Raises:
        UsageError: a picture would replace a label image.
        InputError: a label image that is damaged, or a destination that cannot be written.
    """
    if preview:
        protect([path_of(file.labels) for file in plan.files], [plan.preview_of(file) for file in plan.files])
    todo = plan.todo(preview, overwrite)
    if todo:
        plan.make_folders(preview)
    done = plan.pixels - sum(file.pixels for file in todo)
    on_progress(done, plan.pixels)
    for file in todo:
        before = done

        def on_pixels(pixels: int, before: int = before) -> None:
            on_progress(before + pixels, plan.pixels)

        _write(plan, file, plan.preview_of(file) if preview else None, overwrite, on_pixels)
        done += file.pixels
    return len(todo)


def _write(
    plan: WeightPlan, file: LabelFile, picture: Path | None, overwrite: bool, on_pixels: Callable[[int], None]
) -> None:
    weighting, done = plan.weighting, 0
    preview = Preview(file.shape, weighting.w0, plan.class_weights[0])
    rows, columns = weighting.margin
    with ExitStack() as every:
        plane = every.enter_context(ExitStack())  # what is open of the plane that is being written

        def reader(view: View, shown: bool) -> Reader:
            """Return what gives the weights of a plane, which the first box that is asked for opens."""
            read_ids: Callable[[Box], NDArray[Any]] | None = None

            def read(box: Box) -> NDArray[Any]:
                nonlocal done, read_ids
                if read_ids is None:
                    plane.close()
                    slide = plane.enter_context(open_labels(file.labels, view))
                    read_ids = open_ids(slide, plane, components=weighting.components)
                near = Box(box.y0 - rows, box.x0 - columns, box.y1 + rows, box.x1 + columns)
                near = near.intersect(Box.of_shape(file.shape))
                labels = carve_gaps(read_ids(near), weighting.gap)
                border = weighting.border
                size = border.pixel_size
                weights = weight_map(labels, border.w0, border.sigma, plan.class_weights, size, threads=None)
                inner = box.relative_to(near).slices
                if shown:
                    preview.add(box, labels[inner], weights[inner])
                done += box.area
                on_pixels(done)
                return weights[inner].astype(weighting.dtype, copy=False)

            return read

        middle = len(file.views) // 2  # of a stack, the plane that a picture shows
        reads = [reader(view, picture is not None and number == middle) for number, view in enumerate(file.views)]
        finals = [file.output, *([] if picture is None else [picture])]
        for final in finals:
            if final.parent.is_dir():  # if not, writing says so
                remove_leftovers(final)
        form = format_of(file.output)
        with atomic_group(finals, overwrite=overwrite) as temporaries:
            temporary = temporaries[file.output]
            with naming(file.output):
                if form.is_directory:
                    temporary.mkdir()
                form.write(temporary, plan.canvas(file), reads)
            if picture is not None:
                with naming(picture):
                    preview.write(temporaries[picture], plan.preview_metadata(file))
