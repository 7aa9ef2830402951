"""From a mask to its objects and all that is written of them: what `unettile objects` does."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile import __version__
from unettile.atomic import atomic_group, naming, remove_leftovers
from unettile.box import Box
from unettile.errors import InputError, UsageError
from unettile.images.canvas import Canvas, Layer
from unettile.images.formats import format_of
from unettile.images.idclasses import IdClasses
from unettile.images.pixelsize import PixelSize
from unettile.images.record import Record, read_record
from unettile.images.slide import Slide, fingerprint, open_labels, open_slide
from unettile.images.view import View
from unettile.objects.foreground import ChosenIds, ClassMap
from unettile.objects.found import Found
from unettile.objects.geojson import MOST_CLASSES, write_geojson
from unettile.objects.labelling import BLOCK_EDGE, Cutter, Objects, OnProgress, label_objects
from unettile.objects.measure import measure
from unettile.objects.numbering import Numbers
from unettile.objects.outline import find_corners
from unettile.objects.overlay import draw_overlay, write_overlay
from unettile.objects.products import Products, Sources, check_outputs
from unettile.objects.rules import Foreground, Labelling, object_classes
from unettile.objects.spill import Spill
from unettile.objects.table import Known, Table, write_table
from unettile.tiling import BlockGrid

Stage = Callable[[str], AbstractContextManager[OnProgress]]
"""Opens a stage of the work that is named; gives what takes its progress."""


def find_objects(
    sources: Sources,
    foreground: Foreground,
    labelling: Labelling,
    products: Products,
    *,
    overwrite: bool,
    stage: Stage,
    block_edge: int = BLOCK_EDGE,
) -> Found:
    """Find the objects of a mask and write what is asked for, each file under its name only when it is whole.

    Args:
        block_edge: px; changes memory and time, and no byte of any file.

    Raises:
        UsageError: inputs or options that do not go together.
        InputError: an input that is refused, or an output that exists or cannot be written.
    """
    if sources.depth is not None and labelling.splitting is None:
        raise UsageError("a depth map is for splitting: give --split with it")
    with ExitStack() as stack:
        amounts = foreground.threshold is not None  # probabilities, not ids
        mask = stack.enter_context(open_labels(sources.mask, View(series=sources.series), lossy=amounts))
        record = read_record(sources.mask, sources.series)
        if foreground.classes is None:
            foreground = replace(foreground, classes=object_classes(record.class_names))
        if record.ids is not None and labelling.merged:
            raise UsageError(f"{mask.path} holds ids, each an object of its own: leave --merge-classes out")
        image = None if sources.image is None else stack.enter_context(open_slide(sources.image, record.view))
        if image is not None and image.shape != mask.shape:
            raise InputError(
                f"{image.path} is {image.shape[1]} × {image.shape[0]} px, {mask.path} {mask.shape[1]} × "
                f"{mask.shape[0]}: need the image that the mask is of"
            )
        depth = None
        if sources.depth is not None:
            channels = None if sources.depth_channel is None else (sources.depth_channel,)
            depth = stack.enter_context(open_slide(sources.depth, View(channels=channels)))
        identity = _identity(mask, depth, foreground, labelling)
        there = check_outputs(products, sources, identity, overwrite)
        for path in products.paths:
            remove_leftovers(path)
        grid = BlockGrid(mask.shape, block_edge)
        directory = products.paths[0].parent
        cutter = Cutter(_classes(mask, foreground, record), labelling.splitting, depth, labelling.merged)
        stack.enter_context(naming(directory))  # of what fails below, files without a name are all that is not named
        spill = stack.enter_context(Spill(grid, directory))
        with stage("labelling") as on_progress:
            objects = label_objects(cutter, labelling, grid, spill, on_progress)
        mask_ids = None
        if record.ids is not None:
            mask_ids = objects.numbers.classes
            objects.numbers = _of_ids(objects.numbers, record.ids, mask.path)
        size = sources.pixel_size_um or mask.pixel_size_um or (image.pixel_size_um if image is not None else None)
        context = _Context(grid, directory, record, size, identity | _described(objects, record), mask_ids)
        with atomic_group(products.paths, overwrite=overwrite) as temporaries:
            _write_all(products, temporaries, objects, image, context, stage)
    return replace(Found.of(objects, record), was_there=there)


@dataclass(frozen=True)
class _Context:
    """What every product needs to know."""

    grid: BlockGrid
    directory: Path
    record: Record
    pixel_size_um: PixelSize | None
    metadata: dict[str, Any]
    mask_ids: NDArray[np.uint32] | None


def _write_all(
    products: Products,
    temporaries: Mapping[Path, Path],
    objects: Objects,
    image: Slide | None,
    context: _Context,
    stage: Stage,
) -> None:
    """Write every product under its temporary name."""
    classes, shares = objects.numbers.classes, objects.numbers.shares
    if products.labels is not None:
        with stage(f"writing {products.labels.name}") as on_progress, naming(products.labels):
            _write_labels(products.labels, temporaries[products.labels], objects, context, on_progress)
    if products.table is not None:
        with stage(f"measuring for {products.table.name}") as on_progress:
            sums = measure(objects, objects.numbers.first, image, context.grid, context.directory, on_progress)
        with naming(products.table):
            table = Table(sums, Known(classes, shares, context.mask_ids), context.record, context.pixel_size_um)
            write_table(temporaries[products.table], table, products.table.suffix.lower())
    if products.geojson is not None:
        with stage(f"outlines for {products.geojson.name}") as on_progress:
            corners = find_corners(objects, context.grid, context.directory, on_progress)
        with naming(products.geojson):
            write_geojson(temporaries[products.geojson], corners, classes, context.record, products.object_type)
    if products.overlay is not None:
        with stage(f"drawing {products.overlay.name}") as on_progress:
            picture = draw_overlay(objects, image, on_progress)
        with naming(products.overlay):
            write_overlay(temporaries[products.overlay], picture)


def _write_labels(path: Path, temporary: Path, objects: Objects, context: _Context, on_progress: OnProgress) -> None:
    """Write the ids: 16 bits where they fit, else 32."""
    dtype = np.dtype(np.uint16 if objects.count < 2**16 else np.uint32)
    canvas = Canvas(
        objects.shape,
        (Layer("instances", reduction="majority", names=("background",)),),
        dtype,
        pixel_size_um=context.pixel_size_um,
        metadata=context.metadata,
    )
    done, total = 0, objects.shape[0] * objects.shape[1]

    def read(box: Box) -> NDArray[Any]:
        nonlocal done
        done += box.area
        on_progress(done, total)
        return objects.read(box).astype(dtype)

    form = format_of(path)
    form.check(canvas)
    if form.is_directory:
        temporary.mkdir()
    form.write(temporary, canvas, read)


def _classes(mask: Slide, foreground: Foreground, record: Record) -> ClassMap:
    """Return the classes of the pixels; of a mask whose ids have classes, the ids of those that are chosen."""
    if record.ids is None or foreground.classes is None or foreground.threshold is not None:
        return ClassMap(mask, foreground)
    chosen = np.concatenate([[False], np.isin(record.ids.classes, foreground.classes)])
    return ClassMap(ChosenIds(mask, chosen), replace(foreground, classes=None))


def _of_ids(numbers: Numbers, ids: IdClasses, path: Path) -> Numbers:
    """Return the objects of an image of ids with the classes that its ids have.

    Raises:
        InputError: an id that the metadata do not know.
    """
    known = numbers.classes.astype(np.int64) - 1
    if known.size and known.max() >= ids.classes.size:
        raise InputError(
            f"{path} holds the id {known.max() + 1}, its metadata know {ids.classes.size}: take a fresh copy of it"
        )
    return replace(numbers, classes=ids.classes[known], shares=None if ids.shares is None else ids.shares[known])


def _described(objects: Objects, record: Record) -> dict[str, Any]:
    """Return what the image of ids says of its objects: how many, of which classes, named and coloured how."""
    if np.unique(objects.numbers.classes).size > MOST_CLASSES:  # ids of another program
        return {"objects": objects.count}
    found = objects.id_classes.to_metadata()
    if record.names:
        found["classes"] = list(record.names.values())
        found["colours"] = [[0, 0, 0], *(list(record.colour(k)) for k in range(1, len(record.names)))]
    return found


def _identity(mask: Slide, depth: Slide | None, foreground: Foreground, labelling: Labelling) -> dict[str, Any]:
    """Return all that decides an id, as JSON gives it back."""
    decided = {
        "unettile": __version__,
        "content": "instances",
        "mask": fingerprint(mask),
        "depth": None if depth is None else fingerprint(depth),
        "foreground": asdict(foreground),
        "labelling": asdict(labelling),
    }
    found: dict[str, Any] = json.loads(json.dumps(decided))
    return found
