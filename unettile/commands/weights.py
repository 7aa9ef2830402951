"""`unettile weights`: weight maps of label images."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from unettile.commands.console import Console
from unettile.commands.options import COMPUTE, INPUT, OUTPUT, FormatVersion, Json, Overwrite, Quiet, choices
from unettile.errors import UsageError
from unettile.wording import counted


class Dtype(StrEnum):
    """Values of --dtype."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"


class ClassWeights(StrEnum):
    """Values of --class-weights."""

    BALANCED = "balanced"
    NONE = "none"


def weights(
    labels: Annotated[
        Path,
        typer.Argument(
            metavar="LABELS",
            help="A label image (an id per pixel, 0 is background), or a file of polygons (GeoJSON, ImageJ's ROI set, "
            "COCO or LabelMe JSON), or a folder of them.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="A file for a file (its ending is the format: .tif, .ome.tif, .ome.zarr), a folder for a folder. "
            "Default: beside LABELS, with _weights in the name.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    w0: Annotated[
        float, typer.Option("--w0", metavar="W", help="Height of the border term, 0 or more.", rich_help_panel=COMPUTE)
    ] = 10.0,
    sigma: Annotated[
        float, typer.Option(metavar="PX", help="Reach of the border term, above 0, in px.", rich_help_panel=COMPUTE)
    ] = 5.0,
    pixel_size: Annotated[
        str,
        typer.Option(
            metavar="Y,X",
            help="Height and width of a pixel in the unit of --sigma, such as 0.5,0.25 for a sigma in µm.",
            rich_help_panel=COMPUTE,
        ),
    ] = "1,1",
    class_weights: Annotated[
        ClassWeights,
        typer.Option(
            metavar=choices(ClassWeights),
            help="balanced: background and cells count alike over the whole set. none: 1 for both.",
            rich_help_panel=COMPUTE,
        ),
    ] = ClassWeights.BALANCED,
    gap: Annotated[
        int, typer.Option(metavar="PX", help="Background carved between touching cells first.", rich_help_panel=COMPUTE)
    ] = 0,
    dtype: Annotated[
        Dtype,
        typer.Option(
            metavar=choices(Dtype),
            help="Type of the maps; float16 is half as large, and off by up to 0.05 %.",
            rich_help_panel=OUTPUT,
        ),
    ] = Dtype.FLOAT32,
    components: Annotated[
        bool,
        typer.Option(
            "--components",
            help="Cells are the separate parts of all that is above 0, as in a mask of 0 and 255. Default: ids are.",
            rich_help_panel=INPUT,
        ),
    ] = False,
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="IMAGES",
            help="The image that polygons are of, or the folder of images of the same names, for their sizes. "
            "COCO and LabelMe state them.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    preview: Annotated[
        bool, typer.Option("--preview", help="Also write a colour picture of each map, a PNG.", rich_help_panel=OUTPUT)
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Read the labels, say what would be written, and write nothing.")
    ] = False,
    overwrite: Overwrite = False,
    format_version: FormatVersion = "0.5",
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Write the weight map of each label image: larger where background lies between two close cells.

    w = w_c + w0 · exp(-(d1 + d2)² / 2σ²), with the distances d1 and d2 to the two nearest cells.

    A run that was interrupted goes on where it stopped when the same command is given again.
    """
    from unettile.images.provenance import finished_line
    from unettile.weighting.plan import Weighting, plan_weight_maps
    from unettile.weighting.write import write_weight_maps
    from unettile.weightmap import Border

    console = Console(quiet, json)
    border = Border(w0, sigma, _two_numbers(pixel_size))
    weighting = Weighting(border, class_weights is ClassWeights.BALANCED, gap, dtype.value, components)
    with console.steps("reading labels") as show:
        plan = plan_weight_maps(
            labels, output, weighting, overwrite, lambda done, total: show(done, total, ""), images, format_version
        )
    if plan.note is not None:
        console.message(plan.note)
    if dry_run:
        written = len(plan.todo(preview, overwrite))
    else:
        with console.progress("weight maps") as on_progress:
            written = write_weight_maps(plan, overwrite, preview, on_progress)

    count, kept = len(plan.files), len(plan.files) - written
    planes = sum(len(file.views) for file in plan.files)
    size = plan.pixels * (2 if dtype is Dtype.FLOAT16 else 4)
    background, cell = plan.class_weights
    unit = " px" if border.pixel_size == (1, 1) else ""
    what = counted(written, "weight map")
    there = f" ({kept} more {'was' if kept == 1 else 'were'} there)" if kept else ""
    console.message(
        finished_line(plan.output)
        if not written
        else f"{'would write' if dry_run else 'wrote'} {what} to {plan.output}{there}: "
        + (f"{planes} planes, " if planes > count else "")
        + f"{plan.pixels / 1e6:.2f} Mpx, {counted(plan.cells, 'cell')}, "
        + (f"at most {size / 1e9:.2f} GB, " if dry_run else "")
        + f"w0 {w0:g}, sigma {sigma:g}{unit}, w_c {background:.4g} on background and {cell:.4g} on cells"
    )
    console.result(
        {
            "status": "skipped" if not written else "planned" if dry_run else "done",
            "output": str(plan.output),
            "maps": count,
            "written": 0 if dry_run else written,
            "to_write": written if dry_run else 0,
            "kept": kept,
            "planes": planes,
            "pixels": plan.pixels,
            "cells": plan.cells,
            "w0": w0,
            "sigma": sigma,
            "pixel_size": list(border.pixel_size),
            "gap": gap,
            "components": components,
            "note": plan.note,
            "dtype": dtype.value,
            "class_weights": {"background": background, "cell": cell},
        }
    )


def _two_numbers(text: str) -> tuple[float, float]:
    try:
        y, x = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(
            f"--pixel-size {text!r}: need two numbers, height and width of a pixel, such as 0.5,0.25"
        ) from None
    return y, x
