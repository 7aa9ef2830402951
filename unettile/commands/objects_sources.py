"""Options of `unettile objects` about what goes in: the mask, and what lies under it."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from unettile.commands.options import INPUT, choices


class Stains(StrEnum):
    """Values of --stains."""

    HE = "he"
    HDAB = "hdab"


Mask = Annotated[
    Path,
    typer.Argument(
        metavar="MASK", help="A mask of classes, as `segment` writes it, or with --threshold of probabilities."
    ),
]
Image = Annotated[
    Path | None,
    typer.Option(
        metavar="IMAGE",
        help="The image of the mask: adds mean intensities to the table, and lies below the overlay.",
        rich_help_panel=INPUT,
    ),
]
StainsOption = Annotated[
    Stains | None,
    typer.Option(
        metavar=choices(Stains),
        help="IMAGE is a bright slide of these stains: adds their optical densities to the table.",
        rich_help_panel=INPUT,
    ),
]
Probabilities = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Probabilities of the classes, as `segment` writes them: adds the confidence of each object to the "
        "table. Default: MASK's, with --threshold.",
        rich_help_panel=INPUT,
    ),
]
Threshold = Annotated[
    float | None,
    typer.Option(
        metavar="P",
        help="MASK holds probabilities: foreground is where those of the classes add up to P, above 0 to 1.",
        rich_help_panel=INPUT,
    ),
]
Classes = Annotated[
    str | None,
    typer.Option(
        "--class", metavar="K,...", help="Classes that are objects. Default: all but 0.", rich_help_panel=INPUT
    ),
]
PixelSize = Annotated[
    float | None,
    typer.Option(metavar="UM", help="Edge of a pixel. Default: what MASK or IMAGE says.", rich_help_panel=INPUT),
]
Depths = Annotated[
    str | None,
    typer.Option(
        "--z",
        metavar="N|A:B|all",
        help="Plane of a stack, from 0; planes A to B, B excluded; or all: then LABELS is a stack, and tables and "
        "polygons say the plane.",
        rich_help_panel=INPUT,
    ),
]
Times = Annotated[
    str | None,
    typer.Option(
        "--time", metavar="N|A:B|all", help="Point in time of a series, or several, as --z.", rich_help_panel=INPUT
    ),
]
