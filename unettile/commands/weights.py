"""`unettile weights`: weight maps of label images."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from unettile.commands.console import Console
from unettile.commands.options import COMPUTE, OUTPUT, Json, Overwrite, Quiet


class ClassWeights(StrEnum):
    """Values of --class-weights."""

    BALANCED = "balanced"
    NONE = "none"


def weights(
    labels: Annotated[
        Path,
        typer.Argument(metavar="LABELS", help="A label image (an id per pixel, 0 is background), or a folder of them."),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="A .tif file for a file, a folder for a folder. Default: beside LABELS, with _weights in the name.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    w0: Annotated[
        float, typer.Option("--w0", help="Height of the border term, 0 or more.", rich_help_panel=COMPUTE)
    ] = 10.0,
    sigma: Annotated[float, typer.Option(help="Reach of the border term, px, above 0.", rich_help_panel=COMPUTE)] = 5.0,
    class_weights: Annotated[
        ClassWeights,
        typer.Option(
            help="balanced: background and cells count alike over the whole set. none: 1 for both.",
            rich_help_panel=COMPUTE,
        ),
    ] = ClassWeights.BALANCED,
    gap: Annotated[
        int, typer.Option(metavar="PX", help="Background carved between touching cells first.", rich_help_panel=COMPUTE)
    ] = 0,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Write the weight map of each label image: float32, larger where background lies between two close cells.

    w = w_c + w0 · exp(-(d1 + d2)² / 2σ²), with the distances d1 and d2 to the two nearest cells.

    A run that was interrupted goes on where it stopped when the same command is given again.
    """
    from unettile.weighting import Weighting, plan_weight_maps, write_weight_maps

    console = Console(quiet, json)
    weighting = Weighting(w0, sigma, class_weights is ClassWeights.BALANCED, gap)
    with console.steps("reading labels") as show:
        plan = plan_weight_maps(labels, output, weighting, overwrite, lambda done, total: show(done, total, ""))
    with console.progress("weight maps") as on_progress:
        written = write_weight_maps(plan, overwrite, on_progress)

    count, kept = len(plan.files), len(plan.files) - written
    background, cell = plan.class_weights
    console.message(
        f"wrote {written} weight map{'' if written == 1 else 's'} to {plan.output}"
        f"{f' ({kept} more were there)' if kept else ''}: {plan.pixels / 1e6:.2f} Mpx, {plan.cells} cells, "
        f"w0 {w0:g}, sigma {sigma:g} px, w_c {background:.4g} on background and {cell:.4g} on cells"
    )
    console.result(
        {
            "output": str(plan.output),
            "maps": count,
            "written": written,
            "kept": kept,
            "pixels": plan.pixels,
            "cells": plan.cells,
            "w0": w0,
            "sigma": sigma,
            "gap": gap,
            "class_weights": {"background": background, "cell": cell},
        }
    )
