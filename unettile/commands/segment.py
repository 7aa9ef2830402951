"""`unettile segment`: masks of images."""

from __future__ import annotations

from pathlib import Path
from time import monotonic
from typing import Annotated

import typer

from unettile.changes import parse_changes
from unettile.commands.again import given_options
from unettile.commands.batch import is_batch, passed_over, plan_shard, plan_tasks
from unettile.commands.console import Console
from unettile.commands.jobs import Job
from unettile.commands.loading import loading
from unettile.commands.models import cautions
from unettile.commands.options import (
    COMPUTE,
    DEFAULT_MODEL,
    INPUT,
    OUTPUT,
    Channel,
    Device,
    Diameter,
    FormatVersion,
    Json,
    Level,
    MaxTime,
    Mpp,
    Output,
    Overwrite,
    PixelSize,
    Precision,
    Quiet,
    Series,
    Trust,
    Write,
    choices,
    parse_channels,
)
from unettile.commands.slurm import (
    ELSEWHERE,
    Destination,
    JobArray,
    check_shards,
    job_threads,
    offer_scripts,
)
from unettile.commands.summary import report
from unettile.duration import parse_duration
from unettile.errors import UsageError


def segment(
    context: typer.Context,
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE",
            help="An image, several, or a directory of images: TIFF, slides, OME-Zarr, PNG, JPEG.",
        ),
    ],
    output: Output,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME|FILE",
            help="A shipped model, a checkpoint, ONNX, a bioimage.io package, or a torch.export program (.pt2, with"
            f" --trust). Repeat it, or give a folder of checkpoints, to average several. Default: {DEFAULT_MODEL}.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    tta: Annotated[
        str,
        typer.Option(
            "--tta",
            metavar="none|flips",
            help="flips: average over windows turned over along each axis and along both; four times the work.",
            rich_help_panel=COMPUTE,
        ),
    ] = "none",
    trust: Trust = False,
    level: Level = None,
    mpp: Mpp = None,
    diameter: Diameter = "auto",
    pixel_size: PixelSize = None,
    series: Series = None,
    channel: Channel = None,
    z: Annotated[
        str | None,
        typer.Option(
            "--z",
            metavar="N|A:B|all",
            help="Plane of a stack, from 0; planes A to B, B excluded; or all: then OUT is a stack.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    time: Annotated[
        str | None,
        typer.Option(
            "--time", metavar="N|A:B|all", help="Point in time of a series, or several, as --z.", rich_help_panel=INPUT
        ),
    ] = None,
    scaling: Annotated[
        str | None,
        typer.Option(
            metavar="stack|plane",
            help="Scale intensities, and estimate sizes, by the whole stack or by each plane alone. Default: by the"
            " plane where one is chosen, else by the stack.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Segment only where this image, of any resolution, is not 0, or inside of these GeoJSON polygons.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    nodata: Annotated[
        str,
        typer.Option(
            metavar="outside|keep",
            help="Pixels without data, as a map declares them, or NaN: outside of the image, or as any others.",
            rich_help_panel=INPUT,
        ),
    ] = "outside",
    skip_background: Annotated[
        bool,
        typer.Option(
            "--skip-background",
            help="Leave out what is nothing but noise about the commonest intensity, far from all else.",
            rich_help_panel=INPUT,
        ),
    ] = False,
    write: Annotated[
        list[Write] | None,
        typer.Option(
            metavar=choices(Write),
            help="classes: one number a pixel. probabilities: one 8-bit plane a class. instances: an id for every"
            " object. depth: how deep inside objects a pixel lies, if the model knows. uncertainty: how"
            " near its two likeliest classes are. Repeat it for several, in one"
            " .ome.tif or .ome.zarr. Default: classes.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    frame: Annotated[
        str,
        typer.Option(
            metavar="image|model",
            help="Whose pixels the mask has where --diameter segments the image at another size.",
            rich_help_panel=OUTPUT,
        ),
    ] = "image",
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="With --write instances: change how the model's objects are made, such as min_size=30; repeatable.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    ending: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="ENDING",
            help="Ending, and so format, of the masks in a directory: tif, ome.tif, ome.zarr or png. Default: tif.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    overwrite: Overwrite = False,
    format_version: FormatVersion = "0.5",
    force: Annotated[
        bool,
        typer.Option("--force", help="Segment a mask that unettile wrote, too.", rich_help_panel=INPUT),
    ] = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Compute a sample again at another tile edge; report the difference.",
            rich_help_panel=OUTPUT,
        ),
    ] = False,
    show_profile: Annotated[
        bool,
        typer.Option(
            "--profile", help="Show where the time went, by thread: a table, and in --json.", rich_help_panel=OUTPUT
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Check everything, say what would be done, write nothing.", rich_help_panel=OUTPUT
        ),
    ] = False,
    tile: Annotated[
        int | None,
        typer.Option(
            metavar="EDGE",
            help="Edge of a tile, px, margin excluded. Default: 388 on a CPU, chosen by the memory of a GPU.",
            rich_help_panel=COMPUTE,
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Windows at once. Default: by device.", rich_help_panel=COMPUTE),
    ] = None,
    device: Device = "auto",
    precision: Annotated[
        Precision,
        typer.Option(
            metavar=choices(Precision),
            help="Arithmetic; auto takes bf16 where the processor has it, else fp16 on a GPU.",
            rich_help_panel=COMPUTE,
        ),
    ] = Precision.AUTO,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N",
            help="Do part I of N, counted from 0, of one image; OUT is then a run directory for `stitch`.",
            rich_help_panel=COMPUTE,
        ),
    ] = None,
    shards: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="With --dry-run: print the scripts that have Slurm segment one image in N jobs and make OUT of them.",
            rich_help_panel=COMPUTE,
        ),
    ] = None,
    max_time: MaxTime = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Segment images of any size into masks.

    With one IMAGE, OUT is a file, .tif, .ome.tif or .png, or an .ome.zarr;
    with several, or a directory, it is a directory of .tif files (--format). A
    run that died goes on when the same command is given again.
    """
    from unettile.images.planes import parse_planes
    from unettile.images.view import View
    from unettile.tiling import Shard

    deadline = None if max_time is None else monotonic() + parse_duration(max_time)
    channels = parse_channels(channel)
    if mask is not None and is_batch(images):
        raise UsageError("--mask takes one image: give a command for each")
    part = None if shard is None else Shard.parse(shard)
    depth, depths = parse_planes(z, "--z")
    moment, times = parse_planes(time, "--time")
    view = View(series, level, mpp, channels, depth, moment)
    array = None
    if shards is not None:
        if times is not None or depths is not None:
            raise UsageError("--shards writes scripts for one plane: of a stack, give each job its --shard I/N")
        check_shards(shards, dry_run, shard, len(images) == 1 and not is_batch(images))
        destination = Destination.of(output)
        array = JobArray(images[0].absolute(), destination, shards, given_options(context, ELSEWHERE), overwrite)
        output = destination.output
    with loading():
        tasks = plan_tasks(images, output, ending) if part is None else plan_shard(images, output, ending)
        from unettile.devices import keep_freed_memory, set_threads
        from unettile.ensemble import find_models, load_models
        from unettile.inference.predict import Predictor
        from unettile.protection import protect
        from unettile.segmentation.options import SegmentOptions
        from unettile.segmentation.run.profile import Profile
        from unettile.segmentation.segment import run_directory_for

    profile = Profile()
    console = Console(quiet, json)
    threads = set_threads(job_threads() if array else None)
    keep_freed_memory()
    checkpoint = load_models(model or [DEFAULT_MODEL], trust=trust, tta=tta)
    written = [place for task in tasks for place in (task.output, run_directory_for(task.output))]
    protect([*find_models(model or [DEFAULT_MODEL]), mask, *images], written)
    if tile is not None:
        checkpoint.geometry.check_output_edge(tile)
    for line in cautions(checkpoint):
        console.message(line)
    predictor = Predictor(checkpoint, device, precision.value)
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
    job = Job(
        predictor,
        options,
        profile,
        shard=part,
        batch=is_batch(images),
        overwrite=overwrite,
        verify=verify,
        deadline=deadline,
    )
    for line in passed_over(images):
        console.message(line)
    results = job.plan_all(tasks) if dry_run else job.run_all(tasks, console)
    report(results, job.batch, console, profile if show_profile else None)
