"""One training, or one for each fold of a set, as `unettile train` shows it."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

from unettile.atomic import remove_leftovers
from unettile.commands.console import Console, format_duration
from unettile.commands.signals import finish_step_first
from unettile.errors import InputError, UsageError
from unettile.images.provenance import finished_line
from unettile.report.page import write_report
from unettile.training.folds import fold_scores
from unettile.training.job import TrainJob, is_finished
from unettile.training.loop import train as run_training
from unettile.training.pairs import note_labels, note_pairs
from unettile.training.request import TrainRequest
from unettile.training.result import TrainProgress
from unettile.training.state import LogRow, TrainingFolder
from unettile.training.views import note_views


def train_one(request: TrainRequest, console: Console) -> dict[str, Any] | None:
    """Train a model, telling of it, and return what --json prints; None on processes other than the first."""
    output, resume, overwrite = request.output, request.resume, request.overwrite
    job = request.job()
    seen = (*job.training, *job.validation)
    for note in (
        *job.reasons,
        *job.notes,
        note_pairs(seen),
        *note_views(seen, request.view),
        note_labels(seen, job.recipe.labels.kind),
    ):
        if note is not None:
            console.message(note)
    if resume and not overwrite and is_finished(job):
        console.message(finished_line(output))
        return {"status": "skipped", "output": str(output)}
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
        return None
    best = result.best
    console.message(f"wrote {output}: epoch {best.epoch}, {_scores(best)}; report in {report}")
    return {
        "status": "done",
        "output": str(output),
        "sha256": result.checkpoint.sha256,
        "epoch": best.epoch,
        "iou": best.iou,
        "ap": best.ap,
        **({} if best.mpq is None else {"mpq": best.mpq}),
        "validation_loss": best.validation_loss,
        "folder": str(result.folder),
    }


def train_folds(request: TrainRequest, count: int, only: int | None, console: Console) -> None:
    """Train the folds' models in turn, or one of them, and tell how all score once there are all."""
    folder = request.output
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and only is None:
        raise UsageError("--folds trains models in turn: under torchrun give --fold N, a job for each")
    requests = request.in_folds(count, only)
    if folder.suffix == ".safetensors" or (folder.exists() and not folder.is_dir()):
        raise InputError(f"{folder} is to be a folder, of {count} models: choose a name without an ending")
    results = []
    for one in requests:
        if one.fold is not None:
            console.message(f"fold {one.fold.number} of {count}")
        folder.mkdir(parents=True, exist_ok=True)
        results.append(train_one(one, console))
    scores = fold_scores(folder, count)
    for name, said in (("iou", "IoU"), ("ap", "AP at 0.5"), ("mpq", "mPQ"), ("loss", "validation loss")):
        if scores is not None and name in scores:
            spread = scores[name]
            console.message(
                f"{said} of {count} folds: {spread.mean:.3f} ± {spread.deviation:.3f},"
                f" {spread.low:.3f} to {spread.high:.3f}"
            )
    if scores is not None:
        console.message(f"wrote {folder}: as one model, `unettile segment -m {folder}`")
    told = None if scores is None else {name: asdict(spread) for name, spread in scores.items()}
    console.result({"status": "done", "output": str(folder), "folds": [one for one in results if one], "scores": told})


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
    kinds = "" if row.mpq is None else f", mPQ of the kinds {row.mpq:.3f}"
    return f"validation loss {row.validation_loss:.4f}, IoU {row.iou:.3f}{objects}{kinds}"
