"""`unettile train`: a model from images and their labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unettile.commands.console import Console
from unettile.commands.options import (
    COMPUTE,
    INPUT,
    OUTPUT,
    Channel,
    Depth,
    Json,
    Level,
    Overwrite,
    Precision,
    Quiet,
    Series,
    Time,
    choices,
    parse_channels,
)
from unettile.duration import parse_duration
from unettile.errors import UsageError

if TYPE_CHECKING:
    from unettile.training.request import TrainRequest


def train(
    images: Annotated[
        Path, typer.Argument(metavar="IMAGES", help="Directory of images, or one image, such as a stack.")
    ],
    labels: Annotated[
        Path,
        typer.Argument(
            metavar="LABELS",
            help="Directory of label images of the same names, of a folder of masks for each class, or of files of "
            "polygons (GeoJSON, ImageJ's ROI sets, LabelMe JSON); or a COCO JSON; or of one image the label image.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="MODEL", help="Checkpoint to write, .safetensors.", rich_help_panel=OUTPUT
        ),
    ],
    recipe: Annotated[
        str,
        typer.Option(
            metavar="auto|NAME|FILE.toml",
            help="What to train and how; auto looks at the images and chooses.",
            rich_help_panel=INPUT,
        ),
    ] = "auto",
    plan: Annotated[
        bool,
        typer.Option(
            "--plan",
            help="Choose a recipe, write it beside MODEL as .toml with the reasons, and stop.",
            rich_help_panel=INPUT,
        ),
    ] = False,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change a key of the recipe; may be repeated.", rich_help_panel=INPUT
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="NAME|FILE", help="Begin with the parameters of a model.", rich_help_panel=INPUT
        ),
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Weight maps made by `unettile weights`, instead of on the fly.", rich_help_panel=INPUT
        ),
    ] = None,
    level: Level = None,
    series: Series = None,
    channel: Channel = None,
    z: Depth = None,
    time: Time = None,
    validation: Annotated[
        float | None,
        typer.Option(
            metavar="FRACTION",
            help="Part of the images held out, chosen by their names. Default: the recipe's, 0.1.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    validation_images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Images to validate on instead.", rich_help_panel=INPUT)
    ] = None,
    validation_labels: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Their label images.", rich_help_panel=INPUT)
    ] = None,
    test: Annotated[
        float | None,
        typer.Option(metavar="FRACTION", help="Part of the images to score once, at the end.", rich_help_panel=INPUT),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            help="Split the images into K parts and train K models, each of which validates on another part. MODEL is a"
            " folder then, which `segment -m` takes as one model.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    fold: Annotated[
        int | None,
        typer.Option(metavar="N", help="With --folds: train the Nth of them alone, from 1.", rich_help_panel=INPUT),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Epochs, instead of the recipe's.", rich_help_panel=INPUT)
    ] = None,
    max_time: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Plan the whole run into so long; with --epochs, stop and save then, with exit code 75. 55m, 2h, or as"
            " Slurm writes it: 0:55:00, 1-02:00:00.",
            rich_help_panel=COMPUTE,
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an unfinished run, or begin one.", rich_help_panel=COMPUTE)
    ] = False,
    device: Annotated[
        str, typer.Option(metavar="auto|cpu|cuda|cuda:N", help="Processor to compute on.", rich_help_panel=COMPUTE)
    ] = "auto",
    precision: Annotated[
        Precision,
        typer.Option(
            metavar=choices(Precision),
            help="Arithmetic of the network; parameters stay float32.",
            rich_help_panel=COMPUTE,
        ),
    ] = Precision.AUTO,
    workers: Annotated[
        int, typer.Option(min=0, metavar="N", help="Processes that prepare samples.", rich_help_panel=COMPUTE)
    ] = 1,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    json_output: Json = False,
) -> None:
    """Train a U-Net on IMAGES and LABELS (instance ids or classes) and write the best epoch as MODEL.

    Beside MODEL a folder `<name>.training` holds a report to read, the log, and what is needed to go on after a stop.
    """
    limit = None if max_time is None else parse_duration(max_time)
    if fold is not None and folds is None:
        raise UsageError(f"--fold {fold} is one of several: give --folds K, too")

    from unettile.checkpoint import load_checkpoint
    from unettile.commands.training import train_folds, train_one
    from unettile.devices import keep_freed_memory, set_threads
    from unettile.images.view import View
    from unettile.models import find_model
    from unettile.protection import protect
    from unettile.training.request import TrainRequest
    from unettile.training.state import TrainingFolder

    console = Console(quiet, json_output)
    set_threads()
    keep_freed_memory()
    begun = None if start is None else find_model(start)
    protect([begun], [output, TrainingFolder.beside(output).path])
    view = View(series, level, None, parse_channels(channel), z, time)
    request = TrainRequest(
        images,
        labels,
        output,
        recipe,
        tuple(changes or ()),
        None if begun is None else load_checkpoint(begun),
        weights,
        validation,
        validation_images,
        validation_labels,
        epochs,
        limit,
        resume,
        device,
        precision.value,
        workers,
        overwrite,
        view,
        test,
    )
    if plan:
        _write_plan(request, output.with_suffix(".toml"), overwrite, console)
        return
    if folds is not None:
        train_folds(request, folds, fold, console)
        return
    result = train_one(request, console)
    if result is not None:
        console.result(result)


def _write_plan(request: TrainRequest, path: Path, overwrite: bool, console: Console) -> None:
    """Show what would be trained, and write it as a recipe."""
    from unettile.atomic import atomic_path
    from unettile.errors import InputError
    from unettile.protection import protect
    from unettile.training.auto import describe

    protect([file for file in (request.images, request.labels) if isinstance(file, Path)], [path])
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists: choose another MODEL, or give --overwrite")
    recipe, reasons = request.choose()
    for reason in reasons:
        console.message(reason)
    with atomic_path(path) as temporary:
        temporary.write_text(describe(reasons) + recipe.to_toml(), "utf-8")
    console.message(f"wrote {path}: change it if need be, and train with --recipe {path}")
    console.result({"status": "planned", "output": str(path), "reasons": list(reasons), "recipe": recipe.to_dict()})
