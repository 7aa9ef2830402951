"""`unettile objects`: the objects of a mask, numbered, measured and outlined."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unettile.commands.console import Console
from unettile.commands.objects_files import (
    AnnData,
    Coco,
    Confidence,
    Gallery,
    GalleryObjects,
    GeoJson,
    GeoPackage,
    GeoParquet,
    Ids,
    LonLat,
    Measure,
    MeasureOption,
    ObjectType,
    Overlay,
    Percentiles,
    Pixels,
    PolygonType,
    Report,
    Rois,
    Simplify,
    Table,
)
from unettile.commands.objects_rules import (
    CloseGaps,
    Depth,
    DepthChannel,
    FillHoles,
    Grow,
    MaxObject,
    MergeClasses,
    MinConfidence,
    MinSize,
    Neck,
    Rim,
    RimWidth,
    Rise,
    Split,
)
from unettile.commands.objects_sources import (
    Classes,
    Depths,
    Image,
    Mask,
    PixelSize,
    Probabilities,
    StainsOption,
    Threshold,
    Times,
)
from unettile.commands.options import FormatVersion, Json, Overwrite, Quiet, Series
from unettile.errors import UsageError
from unettile.wording import counted, size_text

if TYPE_CHECKING:
    from unettile.objects.found import Found


def objects(
    mask: Mask,
    output: Ids = None,
    table: Table = None,
    geojson: GeoJson = None,
    lonlat: LonLat = False,
    pixels: Pixels = False,
    measure: MeasureOption = Measure.BASIC,
    percentiles: Percentiles = "5,95",
    object_type: PolygonType = ObjectType.DETECTION,
    simplify: Simplify = 0.0,
    overlay: Overlay = None,
    gallery: Gallery = None,
    gallery_objects: GalleryObjects = 8,
    report: Report = None,
    confidence: Confidence = None,
    rois: Rois = None,
    coco: Coco = None,
    geoparquet: GeoParquet = None,
    geopackage: GeoPackage = None,
    anndata: AnnData = None,
    image: Image = None,
    stains: StainsOption = None,
    probabilities: Probabilities = None,
    threshold: Threshold = None,
    classes: Classes = None,
    merge_classes: MergeClasses = False,
    series: Series = None,
    z: Depths = None,
    time: Times = None,
    pixel_size: PixelSize = None,
    fill_holes: FillHoles = 0,
    split: Split = False,
    depth: Depth = None,
    depth_channel: DepthChannel = None,
    neck: Neck = 0.9,
    rise: Rise = 1.5,
    max_object: MaxObject = 256,
    min_size: MinSize = 0,
    min_confidence: MinConfidence = 0.0,
    close_gaps: CloseGaps = 0,
    rim: Rim = 0.0,
    rim_width: RimWidth = 4,
    grow: Grow = 0,
    overwrite: Overwrite = False,
    format_version: FormatVersion = "0.5",
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Number the objects of a mask of any size; measure, outline and draw them.

    An object is a connected region of one class; pixels are connected over
    their sides. Ids follow the raster order of first pixels. The answer is
    that of the whole image, although it is computed in blocks.
    """
    chosen = _parse_classes(classes)

    from unettile.images.labelplace import unseen_line
    from unettile.images.planes import parse_planes
    from unettile.objects.job import find_objects
    from unettile.objects.measures import Measures
    from unettile.objects.products import Products, Sources
    from unettile.objects.rules import Foreground, Labelling, Splitting
    from unettile.report.objects import write_page

    console = Console(quiet, json)
    products = Products(
        output,
        table,
        geojson,
        overlay,
        object_type.value,
        confidence,
        rois=rois,
        coco=coco,
        geoparquet=geoparquet,
        geopackage=geopackage,
        anndata=anndata,
        lonlat=lonlat,
        pixels=pixels,
        simplify=simplify,
        gallery=gallery,
        gallery_objects=gallery_objects,
        report=report,
        zarr=format_version,
    )
    size = None if pixel_size is None else (pixel_size, pixel_size)
    plane, depths = parse_planes(z, "--z")
    moment, times = parse_planes(time, "--time")
    splitting = Splitting.up_to(max_object, neck, rise, min_size) if split else None
    found = find_objects(
        Sources(
            mask,
            series,
            image,
            depth,
            depth_channel,
            size,
            probabilities,
            stains and stains.value,
            z=plane,
            t=moment,
            depths=depths,
            times=times,
        ),
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
        products,
        overwrite=overwrite,
        stage=console.progress,
        measures=Measures.of(measure.value, _parse_percentiles(percentiles)),
        page=write_page,
    )
    console.message(_summary(found, [path.name for path in products.paths]))
    if output is not None and (line := unseen_line(output)) is not None:
        console.message(line)
    if found.first_capped is not None:
        number, y, x = found.first_capped
        of_plane = "".join(f" of {name} {at}" for name, at in found.first_capped_in.items())
        console.message(
            f"{found.capped} object{'s are' if found.capped > 1 else ' is'} wider than {max_object} px, where distances"
            f" end (first: id {number}{of_plane}, from y {y}, x {x}): if that should be parted better, raise"
            " --max-object"
        )
    console.result(
        {
            "mask": str(mask),
            "outputs": [str(path) for path in products.paths],
            "status": "was there" if found.was_there else "done",
            "height": found.shape[0],
            "width": found.shape[1],
            **found.to_dict(),
        }
    )


def _parse_classes(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise UsageError(f'--class got "{text}": need class numbers, like 1 or 1,3')
    return tuple(sorted({int(part) for part in parts}))


def _parse_percentiles(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise UsageError(f'--percentiles got "{text}": need numbers from 0 to 100, like 5,95') from None


def _summary(found: Found, files: list[str]) -> str:
    many = f"{counted(len(found.in_planes), 'plane')} of " if found.in_planes else ""
    parts = [f"{counted(found.count, 'object')} in {many}{size_text(found.shape)}"]
    if found.classes > len(found.by_class):
        parts.append(f"{found.classes} classes, one for each number in the mask")
    elif found.classes > 1:
        listed = list(found.by_class.items())
        parts.append(", ".join(f"{n} {name}" for name, n in listed[:8]) + (", …" if len(listed) > 8 else ""))
    if found.dropped:
        parts.append(f"{found.dropped} too small")
    if found.uncertain:
        parts.append(f"{found.uncertain} not probable enough")
    said = "was there already, the same:" if found.was_there else "wrote"
    return f"{'; '.join(parts)}; {said} {', '.join(files)}"
