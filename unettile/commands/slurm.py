"""What `segment --dry-run` offers to who has Slurm: what the jobs of an image will need, and their scripts."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from unettile.commands.console import Console, format_duration
from unettile.commands.jobscripts import JobArray
from unettile.errors import UsageError
from unettile.wording import counted, size_text

if TYPE_CHECKING:
    from unettile.segmentation.forecast import Forecast

ELSEWHERE = (
    "images",
    "output",
    "device",
    "precision",
    "shard",
    "shards",
    "dry_run",
    "overwrite",
    "verify",
    "quiet",
    "json",
)
"""Parameters of `segment` that the scripts give in their own way, or not at all."""

MOST_CPUS = 8
"""Cores that a job asks for unless the environment says otherwise: more hardly speed up one window at a time."""


def offer_scripts(array: JobArray, forecast: Forecast, cpus: int, console: Console) -> None:
    """Say what the jobs will need, and print the script that submits them, or all of it as JSON.

    Raises:
        InputError, UsageError: the destination would be refused, or the run directory holds another run.
    """
    from unettile.segmentation.output import check_format, check_output
    from unettile.segmentation.run.planfile import check_agrees
    from unettile.segmentation.stackfile import check_stack_format
    from unettile.segmentation.stackrun import check_joinable

    plan, planes, to = forecast.plan, forecast.planes, array.destination
    if planes is None:
        check_format(to.output, plan)
    else:
        check_stack_format(to.output, planes, plan)
    check_output(to.output, overwrite=array.overwrite)
    if planes is None:
        check_agrees(to.run_directory, plan)
    else:
        check_joinable(to.run_directory, planes, array.shards, plan)
    scripts = array.scripts(forecast, cpus)
    for line in explain_forecast(array, forecast, cpus):
        console.message(line)
    details = forecast.to_dict() | {"cpus_per_job": cpus, "scripts": vars(scripts)}
    paths = {"image": array.image, "output": array.destination.output, "run_directory": array.destination.run_directory}
    if console.json_output:
        console.result({name: str(path) for name, path in paths.items()} | {"status": "planned"} | details)
    else:
        console.script(scripts.submit)
        console.message("save what stdout got as submit.sh, and start it all with: bash submit.sh")


def explain_forecast(array: JobArray, forecast: Forecast, cpus: int) -> list[str]:
    """Return what a person should know before submitting, line by line."""
    plan, probe = forecast.plan, forecast.probe
    to = array.destination
    idle = array.shards - forecast.busy_shards
    blocks = counted(forecast.blocks, "block")
    many = "" if forecast.planes is None else f"{counted(len(forecast.planes), 'plane')} of "
    share = f"{forecast.blocks_per_shard} of {blocks}"
    if forecast.planes is not None:
        division = forecast.division
        whole = max(len(division.planes_of(shard)) for shard in range(division.shards))
        share = f"{counted(whole, 'plane')}" if division.is_of_planes else f"a part of every plane, {share}"
    tiles = f"{counted(len(plan.tiles) * forecast.division.planes, 'tile')} of {plan.output_edge} px"
    jobs = "the one job" if array.shards == 1 else f"each of {array.shards} jobs"
    windows = f"{counted(probe.windows, 'window')} took {probe.seconds:.1f} s here, with {counted(cpus, 'thread')}"
    enough = f" (but {idle} get none: --shards {forecast.busy_shards} is enough)" if idle else ""
    return [
        f"would write {to.output}: {many}{size_text(plan.output_shape)}, {tiles}, {blocks}, batch {forecast.batch},"
        f" {plan.device}, {plan.precision}",
        f"{jobs}: {share}"
        + enough
        + f", about {forecast.memory_bytes / 2**30:.1f} GiB of memory, at most {format_duration(forecast.seconds)}"
        f" on a machine like this ({windows})",
        f"{to.output.name} takes at most {forecast.output_bytes / 1e9:.2f} GB, and so does the run directory beside it,"
        f" {to.run_directory.name}; both far less where the mask is plain",
    ]


def job_threads() -> int | None:
    """Return how many threads the probe should have, and each job cores; None to let the environment say."""
    from unettile.limits import count_threads

    told = any(os.environ.get(name) for name in ("OMP_NUM_THREADS", "SLURM_CPUS_PER_TASK"))
    return None if told else min(count_threads(), MOST_CPUS)


def check_shards(shards: int, dry_run: bool, shard: str | None, image_is_one: bool) -> None:
    """Refuse --shards where it means nothing.

    Raises:
        UsageError: says what to give instead.
    """
    if not dry_run:
        raise UsageError(
            f"--shards {shards} segments nothing by itself: add --dry-run to get the scripts of {shards} jobs, or give"
            f" each job --shard I/{shards}"
        )
    if shard is not None:
        raise UsageError("--shard is one job and --shards all of them: give one of the two")
    if not image_is_one:
        raise UsageError("--shards takes one image: give a command for each")
