"""Objects of a mask, found and measured, as `unettile objects` does it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from unettile.errors import UsageError
from unettile.face.image import ImageLike, source_of
from unettile.images.planes import parse_planes
from unettile.images.slide import ImageSource
from unettile.objects.columns import Columns
from unettile.objects.job import find_objects
from unettile.objects.measures import MEASURES, Measures
from unettile.objects.products import Products, Sources
from unettile.objects.rules import Foreground, Labelling, Splitting
from unettile.objects.scan import Stage
from unettile.report.objects import write_page

OnProgress = Callable[[int, int], None]
File = str | os.PathLike[str]


class Measured(Protocol):
    """Columns of equal length by name: a dict of arrays, or a pandas DataFrame."""

    def __getitem__(self, name: str, /) -> Any: ...

    def __iter__(self) -> Iterator[str]: ...

    def keys(self) -> Any: ...


def objects(
    mask: ImageLike,
    output: File | None = None,
    *,
    table: File | None = None,
    geojson: File | None = None,
    lonlat: bool = False,
    pixels: bool = False,
    measure: str = "basic",
    percentiles: Sequence[float] = (5.0, 95.0),
    object_type: str = "detection",
    simplify: float = 0.0,
    overlay: File | None = None,
    gallery: File | None = None,
    gallery_objects: int = 8,
    report: File | None = None,
    confidence: File | None = None,
    rois: File | None = None,
    coco: File | None = None,
    geoparquet: File | None = None,
    geopackage: File | None = None,
    anndata: File | None = None,
    image: ImageLike | None = None,
    stains: str | None = None,
    probabilities: ImageLike | None = None,
    instances: bool = False,
    threshold: float | None = None,
    classes: int | Sequence[int] | None = None,
    merge_classes: bool = False,
    series: int | None = None,
    z: int | str | None = None,
    time: int | str | None = None,
    pixel_size: float | None = None,
    fill_holes: int = 0,
    split: bool = False,
    depth: ImageLike | None = None,
    depth_channel: int | None = None,
    neck: float = 0.9,
    rise: float = 1.5,
    max_object: int = 256,
    min_size: int = 0,
    min_confidence: float = 0.0,
    close_gaps: int = 0,
    rim: float = 0.0,
    rim_width: int = 4,
    grow: int = 0,
    overwrite: bool = False,
    format_version: str = "0.5",
    progress: OnProgress | None = None,
) -> Measured:
    """Measure the objects of a mask of any size: those that it numbers, or those that are found in its classes.

    Args:
        mask: (H, W) whole numbers, 0 for background; with `threshold`, probabilities (H, W, K). An array, or the path
            of a file.
        output, table, geojson, overlay, gallery, report, confidence, rois, coco, geoparquet, geopackage, anndata: files
            to write as well, as the options of `unettile objects`.
        gallery_objects: how many objects of each kind the gallery shows.
        lonlat, pixels: polygons of a map are in longitude and latitude, or in px, instead of the map's coordinates.
        measure, percentiles: what is measured: basic, shape, intensity or all.
        object_type: what polygons become in QuPath: detection or annotation.
        simplify: how far outlines may move to have fewer points, px of the mask.
        image, stains, probabilities: of the same size as the mask: add intensities, optical densities of he or hdab,
            and the confidence of each object.
        instances: the numbers of the mask are objects, and are measured as they are. Without it they are classes, and
            an object is a connected region of one class, numbered by the raster order of first pixels.
        threshold: the mask holds probabilities: foreground is where those of the classes add up to so much.
        classes: those that are objects; None for all but 0.
        series: the image of a mask's file that holds several.
        z, time: the plane of a mask that is a stack, and of its depth, probabilities and image: a number. Or planes, a
            range such as "0:30", or "all": the objects of each are found as those of the plane alone, and all are in
            one table, which says the plane in columns `time` and `z`, and in one file of each kind.
        pixel_size: edge of a pixel, µm; None for what the mask or the image says.
        merge_classes, fill_holes, split, depth, depth_channel, neck, rise, max_object, min_size, min_confidence,
            close_gaps, rim, rim_width, grow: how objects are found, as the options of `unettile objects`; not with
            `instances`.
        overwrite: replace files that exist.
        format_version: of OME-Zarr, of images that are one: "0.5", or "0.4", which more programs read.
        progress: takes pixels done and pixels in all, of one stage after the other.

    Returns:
        One row an object, in order of plane and id, with the columns of docs/objects.md. A pandas DataFrame where
        pandas is installed, else a dict of arrays (N,).

    Raises:
        InputError: a mask, depth or image that is refused, or of another size, or a file that exists.
        UsageError: options that do not go together.

    >>> import numpy as np, unettile
    >>> cells = unettile.objects(np.array([[7, 7, 0], [0, 0, 9]]), instances=True)
    >>> [int(number) for number in cells["id"]], [int(area) for area in cells["area_px"]]
    ([7, 9], [2, 1])
    """
    if measure not in MEASURES:
        raise UsageError(f"measure is {measure!r}: need one of {', '.join(MEASURES)}")
    splitting = Splitting.up_to(max_object, neck, rise, min_size) if split else None
    chosen = (classes,) if isinstance(classes, int) else None if classes is None else tuple(classes)
    depth_plane, depths = parse_planes(z, "z")
    moment, times = parse_planes(time, "time")
    sources = Sources(
        source_of(mask, "the mask"),
        series,
        _source(image, "the image"),
        _source(depth, "the depth"),
        depth_channel,
        None if pixel_size is None else (pixel_size, pixel_size),
        _source(probabilities, "the probabilities"),
        stains,
        instances,
        depth_plane,
        moment,
        depths,
        times,
    )
    files = (_path(output), _path(table), _path(geojson), _path(overlay))
    others = (_path(rois), _path(coco), _path(geoparquet), _path(anndata))
    pictures = (_path(gallery), gallery_objects, _path(report))
    with tempfile.TemporaryDirectory(prefix="unettile-") as folder:
        found = find_objects(
            sources,
            Foreground(threshold, chosen, fill_holes),
            Labelling(
                splitting,
                min_size,
                gaps=close_gaps,
                growth=grow,
                merged=merge_classes,
                min_confidence=min_confidence,
                rim=rim,
                rim_width=rim_width,
            ),
            Products(
                *files,
                object_type,
                _path(confidence),
                True,
                *others,
                simplify,
                *pictures,
                lonlat,
                pixels,
                format_version,
                _path(geopackage),
            ),
            overwrite=overwrite,
            stage=_stages(progress or (lambda done, total: None)),
            measures=Measures.of(measure, tuple(percentiles)),
            scratch=Path(folder),
            page=write_page,
        )
    assert found.columns is not None
    return _as_frame(found.columns)


def _source(image: ImageLike | None, name: str) -> ImageSource | None:
    return None if image is None else source_of(image, name)


def _path(file: File | None) -> Path | None:
    return None if file is None else Path(file)


def _stages(progress: OnProgress) -> Stage:
    @contextmanager
    def stage(name: str) -> Iterator[OnProgress]:
        yield progress

    return stage


def _as_frame(columns: Columns) -> Measured:
    """Return a DataFrame of columns where pandas is installed, else the columns."""
    try:
        import pandas
    except ImportError:
        return columns
    frame: Measured = pandas.DataFrame(columns)
    return frame
