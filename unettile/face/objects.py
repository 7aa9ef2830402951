"""Measurements of the objects of a mask, as `unettile objects --table` writes them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from unettile.errors import InputError, UsageError
from unettile.face.image import ImageLike, source_of
from unettile.images.record import Record, read_record
from unettile.images.slide import ImageSource, Slide, open_labels, open_slide
from unettile.images.view import View
from unettile.objects.certainty import Chance
from unettile.objects.columns import Columns, Frames, Known
from unettile.objects.foreground import ClassMap
from unettile.objects.given import GivenObjects
from unettile.objects.labelling import BLOCK_EDGE, Cutter, label_objects
from unettile.objects.measures import MEASURES, Measures
from unettile.objects.measuring import Beneath
from unettile.objects.measuring import measure as measure_objects
from unettile.objects.rules import Foreground, Labelling, Splitting, object_classes
from unettile.objects.spill import Spill
from unettile.objects.stains import STAINS, Unmixed
from unettile.objects.table import Table
from unettile.tiling import BlockGrid

OnProgress = Callable[[int, int], None]


class Measured(Protocol):
    """Columns of equal length by name: a dict of arrays, or a pandas DataFrame."""

    def __getitem__(self, name: str, /) -> Any: ...

    def __iter__(self) -> Iterator[str]: ...

    def keys(self) -> Any: ...


def objects(
    mask: ImageLike,
    *,
    image: ImageLike | None = None,
    instances: bool = False,
    threshold: float | None = None,
    classes: int | Sequence[int] | None = None,
    series: int | None = None,
    pixel_size: float | None = None,
    measure: str = "basic",
    percentiles: Sequence[float] = (5, 95),
    stains: str | None = None,
    probabilities: ImageLike | None = None,
    min_confidence: float = 0.0,
    merge_classes: bool = False,
    fill_holes: int = 0,
    split: bool = False,
    depth: ImageLike | None = None,
    depth_channel: int | None = None,
    neck: float = 0.9,
    rise: float = 1.5,
    max_object: int = 256,
    min_size: int = 0,
    close_gaps: int = 0,
    grow: int = 0,
    progress: OnProgress | None = None,
) -> Measured:
    """Measure the objects of a mask of any size: those that it numbers, or those that are found in its classes.

    Args:
        mask: (H, W) whole numbers, 0 for background; with `threshold`, probabilities (H, W, K). An array, or the path
            of a file.
        image: of the same size: adds the mean intensity of each channel.
        instances: the numbers of the mask are objects, and are measured as they are. Without it they are classes, and
            an object is a connected region of one class, numbered by the raster order of first pixels.
        threshold: the mask holds probabilities: foreground is where those of the classes add up to so much.
        classes: those that are objects; None for all but 0.
        series: the image of a mask's file that holds several.
        pixel_size: edge of a pixel, µm; None for what the mask or the image says.
        measure: basic, shape, intensity or all: what is measured, see docs/objects.md.
        percentiles: of the intensities, from 0 to 100.
        stains: he or hdab: `image` is red, green and blue of a slide of these stains; adds their optical densities.
        probabilities: of the classes, (H, W, K): adds the confidence of each object; not with `instances`.
        min_confidence: objects whose mean probability is less are dropped.
        merge_classes: pixels of several classes may be one object, of the class that most of them have.
        fill_holes, split, depth, depth_channel, neck, rise, max_object, min_size, close_gaps, grow: how objects are
            found, as the options of `unettile objects`; not with `instances`.
        progress: takes pixels done and pixels in all, of one stage after the other.

    Returns:
        One row an object, in order of id: id, class and its name (not with `instances`), area, centroid, box,
        perimeter, eccentricity, mean intensities, and what `measure` adds; lengths in px, and in µm where the size of
        a pixel is known. A pandas DataFrame where pandas is installed, else a dict of arrays (N,).

    Raises:
        InputError: a mask, depth or image that is refused, or of another size.
        UsageError: options that do not go together.

    >>> import unettile
    >>> cells = unettile.objects(np.array([[7, 7, 0], [0, 0, 9]]), instances=True)
    >>> [int(number) for number in cells["id"]], [int(area) for area in cells["area_px"]]
    ([7, 9], [2, 1])
    """
    found_by = (threshold, classes, fill_holes, split, depth, min_size, close_gaps, grow, merge_classes, probabilities)
    if instances and found_by != (None, None, 0, False, None, 0, 0, 0, False, None):
        raise UsageError("instances are measured as they are: leave out what changes how objects are found")
    if depth is not None and not split:
        raise UsageError("a depth map is for splitting: say split=True with it")
    if max_object < 2:
        raise UsageError(f"max_object is {max_object}: need a width of 2 px or more")
    if pixel_size is not None and not 0 < pixel_size < 1e6:
        raise UsageError(f"pixel_size is {pixel_size:g}: need µm, above 0")
    splitting = Splitting(neck, rise, reach=-(-max_object // 2), smallest=min_size) if split else None
    chosen = (classes,) if isinstance(classes, int) else None if classes is None else tuple(classes)
    foreground = Foreground(threshold, chosen, fill_holes)
    labelling = Labelling(splitting, min_size, close_gaps, grow, merge_classes, min_confidence)
    measures = _measures(measure, percentiles)
    if stains is not None and (image is None or stains not in STAINS):
        raise UsageError(
            f"stains={stains!r} unmixes the colours of an image: need image, and one of {', '.join(STAINS)}"
        )
    tell = progress or (lambda done, total: None)
    with ExitStack() as stack:
        source = source_of(mask, "the mask")
        slide = stack.enter_context(open_labels(source, View(series=series)))
        record = read_record(source, series) if isinstance(source, Path) else Record()
        seen = (
            None if image is None else stack.enter_context(_open_beside(slide, source_of(image, "the image"), record))
        )
        dyes = None if seen is None or stains is None else Unmixed(seen, stains)
        size = slide.pixel_size_um or (None if seen is None else seen.pixel_size_um)
        if pixel_size is not None:
            size = (pixel_size, pixel_size)
        frames = Frames(record.downsample, size)
        grid = BlockGrid(slide.shape, BLOCK_EDGE)
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="unettile-")))
        if instances:
            given = GivenObjects(slide, grid, tell)
            figures = measure_objects(given, given.first, Beneath(seen, dyes), measures, grid, directory, tell)
            columns = _columns(Table(figures, Known(np.zeros(given.count, np.uint32)), record, frames))
            columns["id"] = given.ids
            del columns["class"], columns["class_name"]
            return _as_frame(columns)
        if foreground.classes is None:
            foreground = replace(foreground, classes=object_classes(record.class_names))
        deep = None
        if depth is not None:
            channels = None if depth_channel is None else (depth_channel,)
            deep = stack.enter_context(open_slide(source_of(depth, "the depth"), View(channels=channels)))
        chance = None
        if probabilities is not None:
            probable = _open_beside(slide, source_of(probabilities, "the probabilities"), Record())
            chance = Chance(stack.enter_context(probable), foreground.classes)
        elif threshold is not None:
            chance = Chance(slide, foreground.classes)
        elif min_confidence:
            raise UsageError("min_confidence needs to know probabilities: give them with it")
        spill = stack.enter_context(Spill(grid, directory))
        cutter = Cutter(ClassMap(slide, foreground), splitting, deep, merge_classes, chance)
        found = label_objects(cutter, labelling, grid, spill, tell)
        numbers = found.numbers
        beneath = Beneath(seen, dyes, chance)
        figures = measure_objects(found, numbers.first, beneath, measures, grid, directory, tell, numbers.confidence)
        return _as_frame(_columns(Table(figures, Known(numbers.classes, numbers.shares), record, frames)))


def _measures(name: str, percentiles: Sequence[float]) -> Measures:
    if name not in MEASURES:
        raise UsageError(f"measure={name!r}: need one of {', '.join(MEASURES)}")
    return Measures.of(name, tuple(float(one) for one in percentiles))


def _open_beside(mask: Slide, image: ImageSource, record: Record) -> Slide:
    """Open the image of a mask, at the resolution that the mask is of.

    Raises:
        InputError: it has another size.
    """
    slide = open_slide(image, record.view if isinstance(image, Path) else View())
    if slide.shape == mask.shape:
        return slide
    slide.close()
    raise InputError(
        f"{slide.path} is {slide.shape[1]} × {slide.shape[0]} px, {mask.path} {mask.shape[1]} × {mask.shape[0]}:"
        " need the image that the mask is of"
    )


def _columns(table: Table) -> Columns:
    """Return all rows of a table."""
    chunks = list(table.chunks())
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def _as_frame(columns: Columns) -> Measured:
    """Return a DataFrame of columns where pandas is installed, else the columns."""
    try:
        import pandas
    except ImportError:
        return columns
    frame: Measured = pandas.DataFrame(columns)
    return frame
