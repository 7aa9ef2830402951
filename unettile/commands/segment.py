"""`unettile segment`: masks of images."""

from __future__ import annotations

from pathlib import Path
from time import monotonic
from typing import Annotated

import typer

from unettile.changes import parse_changes
from unettile.commands.again import given_options
from unettile.commands.batch import is_batch, passed_over, plan_labels, plan_shard, plan_tasks
from unettile.commands.console import Console
from unettile.commands.gpus import LEFT_OUT, Gpus, check_device, end_with_parent
from unettile.commands.jobs import Job
from unettile.commands.jobscripts import Destination, JobArray
from unettile.commands.loading import loading
from unettile.commands.models import cautions
from unettile.commands.options import (
    DEFAULT_MODEL,
    Channel,
    Diameter,
    FormatVersion,
    Json,
    Level,
    MaxTime,
    Mpp,
    Overwrite,
    PixelSize,
    Precision,
    Quiet,
    Series,
    Trust,
    Write,
    parse_channels,
)
from unettile.commands.segment_options import (
    Batch,
    Changes,
    Depths,
    DeviceOption,
    DryRun,
    Ending,
    Force,
    FrameOption,
    IntoLabels,
    MaskOption,
    MaybeOutput,
    ModelOption,
    NoDataOption,
    PrecisionOption,
    ScalingOption,
    ShardOption,
    Shards,
    ShareOption,
    ShowProfile,
    SkipBackground,
    Tile,
    Times,
    Tta,
    Verify,
    Writes,
    check_destination,
)
from unettile.commands.slurm import ELSEWHERE, check_shards, job_threads, offer_scripts
from unettile.commands.summary import report
from unettile.duration import parse_duration
from unettile.errors import UsageError
from unettile.limits import count_threads


def segment(
    context: typer.Context,
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE",
            help="An image, several, a directory of images, or an OME-Zarr plate: TIFF, slides, OME-Zarr, PNG, JPEG.",
        ),
    ],
    output: MaybeOutput = None,
    into_labels: IntoLabels = None,
    model: ModelOption = None,
    tta: Tta = "none",
    trust: Trust = False,
    level: Level = None,
    mpp: Mpp = None,
    diameter: Diameter = "auto",
    pixel_size: PixelSize = None,
    series: Series = None,
    channel: Channel = None,
    z: Depths = None,
    time: Times = None,
    scaling: ScalingOption = None,
    mask: MaskOption = None,
    nodata: NoDataOption = "outside",
    skip_background: SkipBackground = False,
    write: Writes = None,
    frame: FrameOption = "image",
    changes: Changes = None,
    ending: Ending = None,
    overwrite: Overwrite = False,
    format_version: FormatVersion = "0.5",
    force: Force = False,
    verify: Verify = False,
    show_profile: ShowProfile = False,
    dry_run: DryRun = False,
    tile: Tile = None,
    batch: Batch = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = Precision.AUTO,
    shard: ShardOption = None,
    shards: Shards = None,
    share: ShareOption = None,
    max_time: MaxTime = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Segment images of any size into masks.

    With one IMAGE, OUT is a file, .tif, .ome.tif or .png, or an .ome.zarr;
    with several, a directory or a plate, it is a directory of .tif files
    (--format). A run that died goes on when the same command is given again.
    """
    from unettile.images.planes import parse_planes
    from unettile.images.urls import named
    from unettile.images.view import View
    from unettile.segmentation.share import Share
    from unettile.tiling import Shard

    own = None if share is None else Share.parse(share)
    if own is not None:
        end_with_parent()
    deadline = None if max_time is None else monotonic() + parse_duration(max_time)
    images = [named(image) for image in images]
    check_destination(output, into_labels, ending, shard, shards)
    channels = parse_channels(channel)
    if mask is not None and is_batch(images):
        raise UsageError("--mask takes one image: give a command for each")
    part = None if shard is None else Shard.parse(shard)
    if device == "cuda:all":
        check_device(device, shard, shards)
    depth, depths = parse_planes(z, "--z")
    moment, times = parse_planes(time, "--time")
    view = View(series, level, mpp, channels, depth, moment)
    array = None
    if shards is not None and output is not None:
        check_shards(shards, dry_run, shard, len(images) == 1 and not is_batch(images))
        destination = Destination.of(output)
        array = JobArray(images[0].absolute(), destination, shards, given_options(context, ELSEWHERE), overwrite)
        output = destination.output
    with loading():
        if output is None:
            tasks = plan_labels(images, into_labels or "")
        else:
            tasks = plan_tasks(images, output, ending) if part is None else plan_shard(images, output, ending)
        from unettile.devices import expand_device, keep_freed_memory, set_threads
        from unettile.ensemble import find_models, load_models
        from unettile.inference.predict import Predictor
        from unettile.protection import protect
        from unettile.segmentation.options import SegmentOptions
        from unettile.segmentation.run.profile import Profile
        from unettile.segmentation.segment import run_directory_for

    profile = Profile()
    console = Console(quiet, json)
    devices = expand_device(device)
    threads = set_threads(job_threads() if array else max(1, count_threads() // len(devices)))
    keep_freed_memory()
    checkpoint = load_models(model or [DEFAULT_MODEL], trust=trust, tta=tta)
    written = [place for task in tasks for place in (task.output, run_directory_for(task.output))]
    protect([*find_models(model or [DEFAULT_MODEL]), mask, *(images if output is not None else ())], written)
    if tile is not None:
        checkpoint.geometry.check_output_edge(tile)
    for line in cautions(checkpoint):
        console.message(line)
    predictor = Predictor(checkpoint, devices[0], precision.value)
    kinds = tuple(kind.value for kind in write or [Write.CLASSES])
    rules = checkpoint.objects.changed(parse_changes(changes, "objects.")) if changes else None
    options = SegmentOptions(
        write=kinds,
        output_edge=tile,
        batch=batch,
        view=view,
        mask=mask,
        skip_background=skip_background,
        objects=rules,
        force=force,
        diameter=diameter,
        pixel_size_um=pixel_size,
        frame=frame,
        nodata=nodata,
        times=times,
        depths=depths,
        scaling=scaling,
        zarr=format_version,
    )
    if array is not None:
        from unettile.segmentation.forecast import forecast_shards

        offer_scripts(array, forecast_shards(array.image, predictor, options, array.shards), threads, console)
        return
    gpus = None
    if len(devices) > 1:
        given = (*given_options(context, LEFT_OUT), "--precision", predictor.precision)
        gpus = Gpus(devices, given, threads, into_labels, deadline)
    job = Job(
        predictor,
        options,
        profile,
        shard=part,
        batch=is_batch(images),
        overwrite=overwrite,
        verify=verify,
        deadline=deadline,
        gpus=gpus,
        share=own,
    )
    for line in passed_over(images):
        console.message(line)
    results = job.plan_all(tasks) if dry_run else job.run_all(tasks, console)
    report(results, job.batch, console, profile if show_profile else None)
