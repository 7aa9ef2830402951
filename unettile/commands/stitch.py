"""`unettile stitch`: one image from the shards of a run, or from a folder of crops."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from unettile.commands.console import Console
from unettile.commands.failures import Told, writing_to
from unettile.commands.options import INPUT, OUTPUT, FormatVersion, Json, Output, Overwrite, Quiet
from unettile.errors import UsageError
from unettile.wording import counted, size_text


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
    into_labels: Annotated[
        str | None,
        typer.Option(
            "--into-labels",
            metavar="NAME",
            help="OUT is the OME-Zarr image that was segmented: write into it, as its label image labels/NAME.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    shape: Annotated[
        str | None,
        typer.Option(
            metavar="HEIGHTxWIDTH",
            help="Size of the image that crops must cover, px. Default: up to where the last of them ends.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    region: Annotated[
        bool,
        typer.Option(
            "--region",
            help="Crops are of a part of the image: OUT begins where the first of them do, not at 0.",
            rich_help_panel=INPUT,
        ),
    ] = False,
    overwrite: Overwrite = False,
    format_version: FormatVersion = "0.5",
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Join what was computed in parts into one file.

    Every block of a run is checked against its checksum; exit code 75 names
    what is still missing. Crops must cover the image and agree where they
    overlap; those that do not are named.
    """
    crops = parse_shape(shape)

    from unettile.images.labelplace import label_path, unseen_line
    from unettile.images.provenance import finished_line
    from unettile.protection import protect
    from unettile.segmentation.run.watch import Watch
    from unettile.segmentation.stackrun import MissingPlanes, is_stack_run
    from unettile.segmentation.stacks import stitch as stitch_run
    from unettile.segmentation.stitch import MissingBlocks, is_of_run, stitch_crops

    if into_labels is not None:
        output = label_path(output, into_labels)
    protect([source], [output])
    console = Console(quiet, json)
    of_run = is_of_run(source) or is_stack_run(source)
    if of_run and (crops is not None or region):
        option = "--region" if region else "--shape"
        raise UsageError(f"{option} is for crops: {source} is a run directory, which knows its image's shape")
    try:
        with writing_to(output), console.progress("stitching") as on_progress:
            if of_run:
                watch = Watch(on_progress, stage=console.progress)
                result = stitch_run(source, output, overwrite, watch, format_version)
            else:
                result = stitch_crops(source, output, overwrite, crops, on_progress, region, format_version)
    except (MissingBlocks, MissingPlanes) as error:
        raise Told(error, {"run_directory": str(source), "missing": error.to_dict()}) from error
    if result.was_finished:
        console.message(finished_line(output))
        console.result(result.to_dict() | {"status": "skipped"})
        return
    found = result.written.found
    parts = [f"{size_text(result.shape)} from {counted(result.parts, 'block' if of_run else 'crop')}"]
    parts += [] if result.start is None else [f"which begin at y {result.start[0]}, x {result.start[1]}"]
    parts += [] if found is None else [counted(found.count, "object")]
    console.message(f"wrote {output}: {', '.join(parts)}")
    if (line := unseen_line(output)) is not None:
        console.message(line)
    console.result(result.to_dict() | {"status": "done"})


def parse_shape(text: str | None) -> tuple[int, int] | None:
    """Parse --shape: height and width, px.

    Raises:
        UsageError: not two numbers above 0.

    >>> parse_shape("480x640")
    (480, 640)
    """
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)[x×](\d+)", text.strip())
    if not found or "0" in (found[1].lstrip("0") or "0", found[2].lstrip("0") or "0"):
        raise UsageError(f"--shape {text!r} is not understood: need HEIGHTxWIDTH in px, such as 480x640")
    return int(found[1]), int(found[2])
