"""From a mask to its objects and all that is written of them: what `unettile objects` does."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile import __version__
from unettile.atomic import atomic_path
from unettile.box import Box
from unettile.errors import InputError, UsageError
from unettile.images.canvas import Canvas, Layer
from unettile.images.formats import format_of, write_image
from unettile.images.omezarr import is_zarr
from unettile.images.pixelsize import PixelSize
from unettile.images.slide import Slide, fingerprint, open_labels, open_slide
from unettile.images.view import View
from unettile.objects.foreground import ClassMap
from unettile.objects.found import Found
from unettile.objects.geojson import OBJECT_TYPES, write_geojson
from unettile.objects.labelling import BLOCK_EDGE, Cutter, Objects, OnProgress, label_objects
from unettile.objects.measure import measure
from unettile.objects.outline import find_corners
from unettile.objects.overlay import draw_overlay, write_overlay
from unettile.objects.record import Record, read_record
from unettile.objects.rules import Foreground, Labelling, object_classes
from unettile.objects.spill import Spill
from unettile.objects.table import Table, check_table, write_table
from unettile.protection import protect
from unettile.tiling import BlockGrid

Stage = Callable[[str], AbstractContextManager[OnProgress]]
"""Opens a stage of the work that is named; gives what takes its progress."""


@dataclass(frozen=True)
class Products:
    """What is to be written; None is not.

    Args:
        labels: an image of ids.
        table: .csv or .parquet.
        geojson: polygons, of `object_type`.
        overlay: .png.

    Raises:
        UsageError: nothing, or an ending that is not written.
        InputError: Parquet without its library.
    """

    labels: Path | None = None
    table: Path | None = None
    geojson: Path | None = None
    overlay: Path | None = None
    object_type: str = "detection"

    def __post_init__(self) -> None:
        if not self.paths:
            raise UsageError("nothing to write: give -o LABELS, --table, --geojson or --overlay, or several of them")
        if self.labels is not None:
            format_of(self.labels)
        if self.table is not None:
            check_table(self.table)
        for path, option, endings in (
            (self.geojson, "--geojson", (".geojson", ".json")),
            (self.overlay, "--overlay", (".png",)),
        ):
            if path is not None and path.suffix.lower() not in endings:
                raise UsageError(f"{option} {path.name}: need a name that ends with {' or '.join(endings)}")
        if self.object_type not in OBJECT_TYPES:
            raise UsageError(f"--object-type {self.object_type}: need one of {', '.join(OBJECT_TYPES)}")
        twice = [path for path in self.paths if [other.resolve() for other in self.paths].count(path.resolve()) > 1]
        if twice:
            raise UsageError(f"{twice[0]} is given for two outputs: need a name for each")

    @property
    def paths(self) -> list[Path]:
        return [path for path in (self.labels, self.table, self.geojson, self.overlay) if path is not None]


@dataclass(frozen=True)
class Sources:
    """What is read.

    Args:
        mask: classes or probabilities.
        series: the image of the mask's file, if that has several.
        image: of the same size, for intensities and the overlay.
        depth: of the same size, to split by.
        depth_channel: of the depth, from 0; None if it has one.
        pixel_size_um: height and width of a pixel; None for what the mask says, or else the image.
    """

    mask: Path
    series: int | None = None
    image: Path | None = None
    depth: Path | None = None
    depth_channel: int | None = None
    pixel_size_um: PixelSize | None = None

    @property
    def paths(self) -> list[Path]:
        return [path for path in (self.mask, self.image, self.depth) if path is not None]


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
    protect(sources.paths, products.paths)
    for path in products.paths:
        _check_output(path, overwrite)
    if sources.depth is not None and labelling.splitting is None:
        raise UsageError("a depth map is for splitting: give --split with it")
    with ExitStack() as stack:
        amounts = foreground.threshold is not None  # probabilities, not ids
        mask = stack.enter_context(open_labels(sources.mask, View(series=sources.series), lossy=amounts))
        record = read_record(sources.mask, sources.series)
        if foreground.classes is None:
            foreground = replace(foreground, classes=object_classes([record.name(k) for k in range(len(record.names))]))
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
        grid = BlockGrid(mask.shape, block_edge)
        directory = products.paths[0].parent
        cutter = Cutter(ClassMap(mask, foreground), labelling.splitting, depth)
        spill = stack.enter_context(Spill(grid, directory))
        with stage("labelling") as on_progress:
            objects = label_objects(cutter, labelling, grid, spill, on_progress)
        size = sources.pixel_size_um or mask.pixel_size_um or (image.pixel_size_um if image is not None else None)
        metadata = _metadata(mask, depth, foreground, labelling, objects)
        _write_all(products, objects, image, _Context(grid, directory, record, size, metadata), stage)
    return Found.of(objects, record)


@dataclass(frozen=True)
class _Context:
    """What every product needs to know."""

    grid: BlockGrid
    directory: Path
    record: Record
    pixel_size_um: PixelSize | None
    metadata: dict[str, Any]


def _write_all(products: Products, objects: Objects, image: Slide | None, context: _Context, stage: Stage) -> None:
    classes = objects.numbers.classes
    if products.labels is not None:
        with stage(f"writing {products.labels.name}") as on_progress:
            _write_labels(products.labels, objects, context, on_progress)
    if products.table is not None:
        with stage(f"measuring for {products.table.name}") as on_progress:
            sums = measure(objects, objects.numbers.first, image, context.grid, context.directory, on_progress)
        with atomic_path(products.table) as temporary:
            table = Table(sums, classes, context.record, context.pixel_size_um)
            write_table(temporary, table, products.table.suffix.lower())
    if products.geojson is not None:
        with stage(f"outlines for {products.geojson.name}") as on_progress:
            corners = find_corners(objects, context.grid, context.directory, on_progress)
        with atomic_path(products.geojson) as temporary:
            write_geojson(temporary, corners, classes, context.record, products.object_type)
    if products.overlay is not None:
        with stage(f"drawing {products.overlay.name}") as on_progress:
            picture = draw_overlay(objects, image, on_progress)
        with atomic_path(products.overlay) as temporary:
            write_overlay(temporary, picture)


def _write_labels(path: Path, objects: Objects, context: _Context, on_progress: OnProgress) -> None:
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

    write_image(path, canvas, read)


def _metadata(
    mask: Slide, depth: Slide | None, foreground: Foreground, labelling: Labelling, objects: Objects
) -> dict[str, Any]:
    """Return all that decides an id, and nothing else."""
    return {
        "unettile": __version__,
        "content": "instances",
        "objects": objects.count,
        "mask": fingerprint(mask),
        "depth": None if depth is None else fingerprint(depth),
        "foreground": asdict(foreground),
        "labelling": asdict(labelling),
    }


def _check_output(output: Path, overwrite: bool) -> None:
    if output.is_dir() and not (output.suffix.lower() == ".zarr" and is_zarr(output)):
        raise InputError(f"{output} is a directory: need a file name; give another")
    if output.exists() and not overwrite:
        raise InputError(f"{output} exists: choose another name, or give --overwrite")
    if not output.parent.is_dir():
        raise InputError(f"cannot write {output}: there is no directory {output.parent}; create it first")
    if not os.access(output.parent, os.W_OK | os.X_OK):
        raise InputError(f"cannot write {output}: no permission to write in {output.parent}; choose another directory")
