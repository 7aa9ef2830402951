"""Options of `unettile objects` about what comes out: files, and what the table holds."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from unettile.commands.options import OUTPUT, choices


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


Ids = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="LABELS",
        help="Image of the objects' ids: 16 bits, or 32 where there are more than 65535.",
        rich_help_panel=OUTPUT,
    ),
]
Table = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Measurements, one row an object: .csv or .parquet.", rich_help_panel=OUTPUT),
]
GeoJson = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Polygons that QuPath opens: .geojson. In px; those of a map in its coordinate system.",
        rich_help_panel=OUTPUT,
    ),
]
LonLat = Annotated[
    bool,
    typer.Option("--lonlat", help="With --geojson, of a map: in longitude and latitude.", rich_help_panel=OUTPUT),
]
Pixels = Annotated[
    bool, typer.Option("--pixels", help="With --geojson, of a map: in px all the same.", rich_help_panel=OUTPUT)
]
PolygonType = Annotated[
    ObjectType,
    typer.Option(metavar=choices(ObjectType), help="What the polygons become in QuPath.", rich_help_panel=OUTPUT),
]
Overlay = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="A picture of at most 2048 px with every object in a colour: .png.",
        rich_help_panel=OUTPUT,
    ),
]
Confidence = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Image in which every object has its mean probability, in 1/255.",
        rich_help_panel=OUTPUT,
    ),
]
Rois = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Regions of interest that ImageJ and Fiji open: .zip.", rich_help_panel=OUTPUT),
]
Coco = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Annotations in the form of COCO: .json.", rich_help_panel=OUTPUT),
]
GeoParquet = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Polygons that GeoPandas and GDAL open: .parquet.", rich_help_panel=OUTPUT),
]
GeoPackage = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Polygons that QGIS opens: .gpkg; those of a map in its coordinate system.",
        rich_help_panel=OUTPUT,
    ),
]
AnnData = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The table as AnnData: .h5ad.", rich_help_panel=OUTPUT),
]
MeasureOption = Annotated[
    Measure,
    typer.Option(
        metavar=choices(Measure),
        help="What the table holds: basic is area, place, perimeter, eccentricity and mean intensities; shape adds "
        "hulls, axes, diameters and the nearest neighbour; intensity adds spread, order and sum of intensities.",
        rich_help_panel=OUTPUT,
    ),
]
Percentiles = Annotated[
    str,
    typer.Option(metavar="P,...", help="Percentiles of intensities, with --measure.", rich_help_panel=OUTPUT),
]
Simplify = Annotated[
    float,
    typer.Option(
        metavar="PX",
        help="Leave out points of polygons and regions whose outlines then move by no more than so much, at most 16; "
        "borders that objects share stay shared.",
        rich_help_panel=OUTPUT,
    ),
]
Gallery = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="A picture of the largest, smallest, least certain and some random objects in their surroundings: .png.",
        rich_help_panel=OUTPUT,
    ),
]
GalleryObjects = Annotated[
    int, typer.Option(metavar="N", help="With --gallery: objects of each kind, at most 40.", rich_help_panel=OUTPUT)
]
Report = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="A page with counts, sizes, intensities and a map of the density: .html.",
        rich_help_panel=OUTPUT,
    ),
]
