"""Is a model that is there the one that a training job would make? Its card holds a digest of the job's plan."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

from unettile.checkpoint import load_checkpoint
from unettile.errors import InputError
from unettile.training.job import TrainJob
from unettile.training.state import TrainingFolder

PLAN = "training_plan"
"""Key of the card."""


def plan_digest(job: TrainJob) -> str:
    """Return the SHA-256 of all that a run which is resumed must share with the one that was stopped."""
    run = job.recipe.run
    if not run.steps_per_epoch:  # as many as the images fill
        run = replace(run, steps_per_epoch=-(-len(job.training) // run.batch))
    plan = replace(job, recipe=replace(job.recipe, run=run)).plan()
    return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()


def is_finished(job: TrainJob) -> bool:
    """Whether the model of a job is there, and its report, so that nothing is left to do.

    A process that is killed once the model has its name leaves no report: given again, with `resume`, the job makes it.

    Raises:
        InputError: another model is there.
    """
    if not job.output.exists():
        return False
    try:
        found = load_checkpoint(job.output).card.get(PLAN)
    except InputError:
        found = None
    if found != plan_digest(job):
        raise InputError(
            f"{job.output} exists and is no result of this training: choose another name, or give --overwrite"
        )
    folder = TrainingFolder.beside(job.output)
    return folder.report.exists() or not folder.has_state
