"""`unettile objects`: the objects of a mask, numbered, measured and outlined."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unettile.commands.console import Console
from unettile.commands.options import COMPUTE, INPUT, OUTPUT, Json, Overwrite, Quiet, Series, choices
from unettile.errors import UsageError
from unettile.wording import counted, size_text

if TYPE_CHECKING:
    from unettile.objects.found import Found
    from unettile.objects.rules import Splitting


class ObjectType(StrEnum):
    """Values of --object-type."""

    DETECTION = "detection"
    ANNOTATION = "annotation"


class Measure(StrEnum):
    """Values of --measure."""

    BASIC = "basic"
    SHAPE = "shape"
    INTENSITY = "intensity"
    ALL = "all"


class Stains(StrEnum):
    """Values of --stains."""

    HE = "he"
    HDAB = "hdab"


def objects(
    mask: Annotated[
        Path,
        typer.Argument(
            metavar="MASK", help="A mask of classes, as `segment` writes it, or with --threshold of probabilities."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="LABELS",
            help="Image of the objects' ids: 16 bits, or 32 where there are more than 65535.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Measurements, one row an object: .csv or .parquet.", rich_help_panel=OUTPUT),
    ] = None,
    geojson: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Polygons that QuPath opens: .geojson. In px; those of a map in its coordinate system.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    lonlat: Annotated[
        bool,
        typer.Option("--lonlat", help="With --geojson, of a map: in longitude and latitude.", rich_help_panel=OUTPUT),
    ] = False,
    pixels: Annotated[
        bool, typer.Option("--pixels", help="With --geojson, of a map: in px all the same.", rich_help_panel=OUTPUT)
    ] = False,
    measure: Annotated[
        Measure,
        typer.Option(
            metavar=choices(Measure),
            help="What the table holds: basic is area, place, perimeter, eccentricity and mean intensities; shape adds "
            "hulls, axes, diameters and the nearest neighbour; intensity adds spread, order and sum of intensities.",
            rich_help_panel=OUTPUT,
        ),
    ] = Measure.BASIC,
    percentiles: Annotated[
        str,
        typer.Option(metavar="P,...", help="Percentiles of intensities, with --measure.", rich_help_panel=OUTPUT),
    ] = "5,95",
    object_type: Annotated[
        ObjectType,
        typer.Option(metavar=choices(ObjectType), help="What the polygons become in QuPath.", rich_help_panel=OUTPUT),
    ] = ObjectType.DETECTION,
    overlay: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A picture of at most 2048 px with every object in a colour: .png.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    confidence: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Image in which every object has its mean probability, in 1/255.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    rois: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Regions of interest that ImageJ and Fiji open: .zip.", rich_help_panel=OUTPUT
        ),
    ] = None,
    coco: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Annotations in the form of COCO: .json.", rich_help_panel=OUTPUT),
    ] = None,
    geoparquet: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Polygons that GeoPandas and GDAL open: .parquet.", rich_help_panel=OUTPUT),
    ] = None,
    anndata: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The table as AnnData: .h5ad.", rich_help_panel=OUTPUT),
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option(
            metavar="IMAGE",
            help="The image of the mask: adds mean intensities to the table, and lies below the overlay.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    stains: Annotated[
        Stains | None,
        typer.Option(
            metavar=choices(Stains),
            help="IMAGE is a bright slide of these stains: adds their optical densities to the table.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    probabilities: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Probabilities of the classes, as `segment` writes them: adds the confidence of each object to the "
            "table. Default: MASK's, with --threshold.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="P",
            help="MASK holds probabilities: foreground is where those of the classes add up to P, above 0 to 1.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            "--class", metavar="K,...", help="Classes that are objects. Default: all but 0.", rich_help_panel=INPUT
        ),
    ] = None,
    merge_classes: Annotated[
        bool,
        typer.Option(
            "--merge-classes",
            help="Pixels of several classes may be one object, of the class that most of them have.",
            rich_help_panel=COMPUTE,
        ),
    ] = False,
    series: Series = None,
    pixel_size: Annotated[
        float | None,
        typer.Option(metavar="UM", help="Edge of a pixel. Default: what MASK or IMAGE says.", rich_help_panel=INPUT),
    ] = None,
    fill_holes: Annotated[
        int,
        typer.Option(metavar="PX", help="Fill holes of up to so many px, at most 1000.", rich_help_panel=COMPUTE),
    ] = 0,
    split: Annotated[
        bool,
        typer.Option(
            "--split", help="Part objects that touch, by a watershed on their depth.", rich_help_panel=COMPUTE
        ),
    ] = False,
    depth: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="With --split: an image whose values grow towards the middles of objects. "
            "Default: the distance to the objects' edges.",
            rich_help_panel=COMPUTE,
        ),
    ] = None,
    depth_channel: Annotated[
        int | None, typer.Option(metavar="N", help="The channel of --depth, from 0.", rich_help_panel=COMPUTE)
    ] = None,
    neck: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            help="With --split: two are one where the neck is wider than so much of the narrower one.",
            rich_help_panel=COMPUTE,
        ),
    ] = 0.9,
    rise: Annotated[
        float,
        typer.Option(
            metavar="RISE",
            help="With --split: two are one where the lower middle rises less above the neck; px, or grey values.",
            rich_help_panel=COMPUTE,
        ),
    ] = 1.5,
    max_object: Annotated[
        int,
        typer.Option(
            metavar="PX",
            help="With --split: distances count up to half of it; objects that are wider are named.",
            rich_help_panel=COMPUTE,
        ),
    ] = 256,
    min_size: Annotated[
        int,
        typer.Option(
            metavar="PX",
            help="Drop objects of fewer px; with --split, smaller parts stay with their neighbour.",
            rich_help_panel=COMPUTE,
        ),
    ] = 0,
    min_confidence: Annotated[
        float,
        typer.Option(
            metavar="P",
            help="Drop objects whose mean probability is less than P, 0 to 1; needs probabilities.",
            rich_help_panel=COMPUTE,
        ),
    ] = 0.0,
    close_gaps: Annotated[
        int,
        typer.Option(
            metavar="PX",
            help="Give background between two objects, up to so many px wide, to them; at most 16.",
            rich_help_panel=COMPUTE,
        ),
    ] = 0,
    grow: Annotated[
        int,
        typer.Option(metavar="PX", help="Grow objects into the background, at most 64.", rich_help_panel=COMPUTE),
    ] = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Number the objects of a mask of any size; measure, outline and draw them.

    An object is a connected region of one class; pixels are connected over
    their sides. Ids follow the raster order of first pixels. The answer is
    that of the whole image, although it is computed in blocks.
    """
    chosen = _parse_classes(classes)
    if pixel_size is not None and not 0 < pixel_size < 1e6:
        raise UsageError(f"--pixel-size is {pixel_size:g}: need µm, above 0")
    splitting = _splitting(split, neck, rise, max_object, min_size) if split else None

    from unettile.objects.job import find_objects
    from unettile.objects.measures import Measures
    from unettile.objects.products import Products, Sources
    from unettile.objects.rules import Foreground, Labelling

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
        anndata=anndata,
        lonlat=lonlat,
        pixels=pixels,
    )
    size = None if pixel_size is None else (pixel_size, pixel_size)
    found = find_objects(
        Sources(mask, series, image, depth, depth_channel, size, probabilities, stains and stains.value),
        Foreground(threshold, chosen, fill_holes),
        Labelling(
            splitting, min_size, gaps=close_gaps, growth=grow, merged=merge_classes, min_confidence=min_confidence
        ),
        products,
        overwrite=overwrite,
        stage=console.progress,
        measures=Measures.of(measure.value, _parse_percentiles(percentiles)),
    )
    console.message(_summary(found, [path.name for path in products.paths]))
    if found.first_capped is not None:
        number, y, x = found.first_capped
        console.message(
            f"{found.capped} object{'s are' if found.capped > 1 else ' is'} wider than {max_object} px, where distances"
            f" end (first: id {number}, from y {y}, x {x}): if that should be parted better, raise --max-object"
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


def _splitting(split: bool, neck: float, rise: float, max_object: int, min_size: int) -> Splitting:
    from unettile.objects.rules import Splitting

    if max_object < 2:
        raise UsageError(f"--max-object is {max_object}: need a width of 2 px or more")
    return Splitting(neck, rise, reach=-(-max_object // 2), smallest=min_size)


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
    parts = [f"{counted(found.count, 'object')} in {size_text(found.shape)}"]
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
