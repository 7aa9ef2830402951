"""`unettile stitch`: one image from the shards of a run, or from a folder of crops."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unettile.commands.console import Console
from unettile.commands.options import Json, Output, Overwrite, Quiet


def stitch(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_OR_CROPS",
            help="A run directory that `segment --shard` wrote, or a folder of crops whose names carry their offset:"
            " name_y00384_x00768.tif, or QuPath's name [x=768,y=384,w=512,h=512].tif.",
        ),
    ],
    output: Output,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Join what was computed in parts into one file.

    Every block of a run is checked against its checksum; exit code 75 names
    what is still missing. Crops must cover the image and agree where they
    overlap; those that do not are named.
    """
    from unettile.segmentation.stitch import stitch_crops, stitch_run

    console = Console(quiet, json)
