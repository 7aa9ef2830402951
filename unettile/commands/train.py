"""`unettile train`: a model from images and their labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unettile.atomic import remove_leftovers
from unettile.commands.console import Console, format_duration
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
from unettile.commands.signals import finish_step_first
from unettile.duration import parse_duration

if TYPE_CHECKING:
    from unettile.training.job import TrainJob
    from unettile.training.request import TrainRequest
    from unettile.training.result import TrainProgress
    from unettile.training.state import LogRow


def train(
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="Directory of images.")],
    labels: Annotated[
        Path,
        typer.Argument(
            metavar="LABELS",
            help="Directory of label images of the same names, or of files of polygons (GeoJSON, ImageJ's ROI sets, "
            "LabelMe JSON); or a COCO JSON.",
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

    from unettile.checkpoint import load_checkpoint
    from unettile.devices import keep_freed_memory, set_threads
    from unettile.images.provenance import finished_line
    from unettile.images.view import View
    from unettile.models import find_model
    from unettile.protection import protect
    from unettile.report.page import write_report
    from unettile.training.job import is_finished
    from unettile.training.loop import train as run_training
    from unettile.training.pairs import note_labels, note_pairs
    from unettile.training.request import TrainRequest
    from unettile.training.state import TrainingFolder
    from unettile.training.views import note_views

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
    job = request.job()
    seen = (*job.training, *job.validation)
    for note in (
        *job.reasons,
        *job.notes,
        note_pairs(seen),
        *note_views(seen, view),
        note_labels(seen, job.recipe.labels.kind),
    ):
        if note is not None:
            console.message(note)
    if resume and not overwrite and is_finished(job):
        console.message(finished_line(output))
        console.result({"status": "skipped", "output": str(output)})
        return
    remove_leftovers(output)
    with (
        finish_step_first("stopping after this step; the run is saved") as should_stop,
        console.steps("training") as show,
    ):
        told = False

        def on_progress(progress: TrainProgress) -> None:
            nonlocal told
            if not told:
                told = True
                console.message(_fits(job, progress))
            show(progress.step, progress.steps, f"loss {progress.loss:.4f}")
            if progress.row is not None:
                row = progress.row
                console.message(
                    f"epoch {row.epoch}: loss {row.training_loss:.4f}, {_scores(row)}, {format_duration(row.seconds)}"
                )

        report = TrainingFolder.beside(output).report
        result = run_training(job, on_progress, should_stop, lambda made: write_report(made, job.recipe, report))
    if not result.first:
        return
    best = result.best
    console.message(f"wrote {output}: epoch {best.epoch}, {_scores(best)}; report in {report}")
    console.result(
        {
            "status": "done",
            "output": str(output),
            "sha256": result.checkpoint.sha256,
            "epoch": best.epoch,
            "iou": best.iou,
            "ap": best.ap,
            "validation_loss": best.validation_loss,
            "folder": str(result.folder),
        }
    )


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


def _fits(job: TrainJob, progress: TrainProgress) -> str:
    """Say how far a run will come, from the pace of its first steps."""
    pace = progress.seconds_a_step
    needed = format_duration(pace * (progress.steps - progress.step))
    if job.clock_seconds is not None:
        return f"about {progress.steps} steps fit into {format_duration(job.clock_seconds)}"
    if job.max_seconds is not None and pace * (progress.steps - progress.step) > job.max_seconds:
        fitting = progress.step + round(job.max_seconds / pace)
        return (
            f"about {fitting} of {progress.steps} steps fit into {format_duration(job.max_seconds)}; the best so far is"
            " left then, and --resume goes on; --max-time without a number of epochs plans the whole run into the time"
        )
    return f"{progress.steps} steps, about {needed} besides validation"


def _scores(row: LogRow) -> str:
    objects = "" if row.ap is None else f", AP at 0.5 {row.ap:.3f}"
    return f"validation loss {row.validation_loss:.4f}, IoU {row.iou:.3f}{objects}"
