"""Options of `unettile segment` alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unettile.commands.options import COMPUTE, DEFAULT_MODEL, INPUT, OUTPUT, Precision, Write, choices
from unettile.errors import UsageError

MaybeOutput = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="OUT", help="Where to write.", rich_help_panel=OUTPUT)
]
IntoLabels = Annotated[
    str | None,
    typer.Option(
        "--into-labels",
        metavar="NAME",
        help="Write into the OME-Zarr image itself, as its label image labels/NAME, rather than to OUT.",
        rich_help_panel=OUTPUT,
    ),
]
ModelOption = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|FILE",
        help="A shipped model, a checkpoint, ONNX, a bioimage.io package, or a torch.export program (.pt2, with"
        f" --trust). Repeat it, or give a folder of checkpoints, to average several. Default: {DEFAULT_MODEL}.",
        rich_help_panel=INPUT,
    ),
]
Tta = Annotated[
    str,
    typer.Option(
        "--tta",
        metavar="none|flips",
        help="flips: average over windows turned over along each axis and along both; four times the work.",
        rich_help_panel=COMPUTE,
    ),
]
Depths = Annotated[
    str | None,
    typer.Option(
        "--z",
        metavar="N|A:B|all",
        help="Plane of a stack, from 0; planes A to B, B excluded; or all: then OUT is a stack.",
        rich_help_panel=INPUT,
    ),
]
Times = Annotated[
    str | None,
    typer.Option(
        "--time", metavar="N|A:B|all", help="Point in time of a series, or several, as --z.", rich_help_panel=INPUT
    ),
]
ScalingOption = Annotated[
    str | None,
    typer.Option(
        metavar="stack|plane",
        help="Scale intensities, and estimate sizes, by the whole stack or by each plane alone. Default: by the"
        " plane where one is chosen, else by the stack.",
        rich_help_panel=INPUT,
    ),
]
MaskOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Segment only where this image, of any resolution, is not 0, or inside of these GeoJSON polygons.",
        rich_help_panel=INPUT,
    ),
]
NoDataOption = Annotated[
    str,
    typer.Option(
        metavar="outside|keep",
        help="Pixels without data, as a map declares them, or NaN: outside of the image, or as any others.",
        rich_help_panel=INPUT,
    ),
]
SkipBackground = Annotated[
    bool,
    typer.Option(
        "--skip-background",
        help="Leave out what is nothing but noise about the commonest intensity, far from all else.",
        rich_help_panel=INPUT,
    ),
]
Writes = Annotated[
    list[Write] | None,
    typer.Option(
        metavar=choices(Write),
        help="classes: one number a pixel. probabilities: one 8-bit plane a class. instances: an id for every"
        " object. depth: how deep inside objects a pixel lies, if the model knows. uncertainty: how"
        " near its two likeliest classes are. Repeat it for several, in one"
        " .ome.tif or .ome.zarr. Default: classes.",
        rich_help_panel=OUTPUT,
    ),
]
FrameOption = Annotated[
    str,
    typer.Option(
        metavar="image|model",
        help="Whose pixels the mask has where --diameter segments the image at another size.",
        rich_help_panel=OUTPUT,
    ),
]
Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="With --write instances: change how the model's objects are made, such as min_size=30; repeatable.",
        rich_help_panel=OUTPUT,
    ),
]
Ending = Annotated[
    str | None,
    typer.Option(
        "--format",
        metavar="ENDING",
        help="Ending, and so format, of the masks in a directory: tif, ome.tif, ome.zarr or png. Default: tif.",
        rich_help_panel=OUTPUT,
    ),
]
Force = Annotated[
    bool,
    typer.Option("--force", help="Segment a mask that unettile wrote, too.", rich_help_panel=INPUT),
]
Verify = Annotated[
    bool,
    typer.Option(
        "--verify",
        help="Compute a sample again at another tile edge; report the difference.",
        rich_help_panel=OUTPUT,
    ),
]
ShowProfile = Annotated[
    bool,
    typer.Option(
        "--profile", help="Show where the time went, by thread: a table, and in --json.", rich_help_panel=OUTPUT
    ),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Check everything, say what would be done, write nothing.", rich_help_panel=OUTPUT),
]
Tile = Annotated[
    int | None,
    typer.Option(
        metavar="EDGE",
        help="Edge of a tile, px, margin excluded. Default: 388 on a CPU, chosen by the memory of a GPU.",
        rich_help_panel=COMPUTE,
    ),
]
Batch = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Windows at once. Default: by device.", rich_help_panel=COMPUTE),
]
PrecisionOption = Annotated[
    Precision,
    typer.Option(
        metavar=choices(Precision),
        help="Arithmetic; auto takes bf16 where the processor has it, else fp16 on a GPU.",
        rich_help_panel=COMPUTE,
    ),
]
ShardOption = Annotated[
    str | None,
    typer.Option(
        metavar="I/N",
        help="Do part I of N, counted from 0, of one image; OUT is then a run directory for `stitch`.",
        rich_help_panel=COMPUTE,
    ),
]
Shards = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="With --dry-run: print the scripts that have Slurm segment one image in N jobs and make OUT of them.",
        rich_help_panel=COMPUTE,
    ),
]

DeviceOption = Annotated[
    str,
    typer.Option(
        metavar="auto|cpu|cuda|cuda:N|cuda:all",
        help="Processor to compute on; cuda:all: every GPU of this machine, a process for each.",
        rich_help_panel=COMPUTE,
    ),
]
ShareOption = Annotated[
    str | None,
    typer.Option(
        "--share",
        metavar="SHARE",
        help="Compute a part of a run that another process has begun, for as long as standard input is open.",
        hidden=True,
    ),
]


def check_destination(
    output: Path | None, into_labels: str | None, ending: str | None, shard: str | None, shards: int | None
) -> None:
    """Refuse neither of -o and --into-labels, or both, and what says something of files that are not written.

    Raises:
        UsageError: it does.
    """
    if (output is None) == (into_labels is None):
        raise UsageError(
            f"need one of --output OUT and --into-labels NAME: got {'neither' if output is None else 'both'}; see"
            " `unettile segment --help`"
        )
    if into_labels is None:
        return
    if shard is not None or shards is not None:
        raise UsageError(
            "--into-labels is of whole images: give --shard with -o RUN, then `unettile stitch RUN -o IMAGE"
            " --into-labels NAME`"
        )
    if ending is not None:
        raise UsageError(f"--format {ending} is of files: --into-labels writes as the image is")
