"""Options of `unettile objects` about what an object is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unettile.commands.options import COMPUTE

MergeClasses = Annotated[
    bool,
    typer.Option(
        "--merge-classes",
        help="Pixels of several classes may be one object, of the class that most of them have.",
        rich_help_panel=COMPUTE,
    ),
]
FillHoles = Annotated[
    int,
    typer.Option(metavar="PX", help="Fill holes of up to so many px, at most 1000.", rich_help_panel=COMPUTE),
]
Split = Annotated[
    bool,
    typer.Option("--split", help="Part objects that touch, by a watershed on their depth.", rich_help_panel=COMPUTE),
]
Depth = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="With --split: an image whose values grow towards the middles of objects. "
        "Default: the distance to the objects' edges.",
        rich_help_panel=COMPUTE,
    ),
]
DepthChannel = Annotated[
    int | None, typer.Option(metavar="N", help="The channel of --depth, from 0.", rich_help_panel=COMPUTE)
]
Neck = Annotated[
    float,
    typer.Option(
        metavar="SHARE",
        help="With --split: two are one where the neck is wider than so much of the narrower one.",
        rich_help_panel=COMPUTE,
    ),
]
Rise = Annotated[
    float,
    typer.Option(
        metavar="RISE",
        help="With --split: two are one where the lower middle rises less above the neck; px, or grey values.",
        rich_help_panel=COMPUTE,
    ),
]
MaxObject = Annotated[
    int,
    typer.Option(
        metavar="PX",
        help="With --split: distances count up to half of it; objects that are wider are named.",
        rich_help_panel=COMPUTE,
    ),
]
MinSize = Annotated[
    int,
    typer.Option(
        metavar="PX",
        help="Drop objects of fewer px; with --split, smaller parts stay with their neighbour.",
        rich_help_panel=COMPUTE,
    ),
]
MinConfidence = Annotated[
    float,
    typer.Option(
        metavar="P",
        help="Drop objects whose mean probability is less than P, 0 to 1; needs probabilities.",
        rich_help_panel=COMPUTE,
    ),
]
CloseGaps = Annotated[
    int,
    typer.Option(
        metavar="PX",
        help="Give background between two objects, up to so many px wide, to them; at most 16.",
        rich_help_panel=COMPUTE,
    ),
]
Rim = Annotated[
    float,
    typer.Option(
        metavar="P",
        help="Give objects the background around them that is an object's with a probability of at least P; needs"
        " probabilities.",
        rich_help_panel=COMPUTE,
    ),
]
RimWidth = Annotated[
    int,
    typer.Option(
        metavar="PX", help="With --rim: up to so many px from the object, at most 16.", rich_help_panel=COMPUTE
    ),
]
Grow = Annotated[
    int,
    typer.Option(metavar="PX", help="Grow objects into the background, at most 64.", rich_help_panel=COMPUTE),
]
