"""Option types that several commands share, and the parsing that Typer does not do."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from unettile.errors import UsageError

INPUT = "What goes in"
OUTPUT = "What comes out"
COMPUTE = "How it is computed"

DEFAULT_MODEL = "nuclei"


def choices(values: type[StrEnum]) -> str:
    """Return the values of an option as its help shows them: auto|fp32."""
    return "|".join(values)


class Precision(StrEnum):
    """Values of --precision."""

    AUTO = "auto"
    FP32 = "fp32"
    TF32 = "tf32"
    BF16 = "bf16"
    FP16 = "fp16"


class Write(StrEnum):
    """Values of --write."""

    CLASSES = "classes"
    PROBABILITIES = "probabilities"
    UNCERTAINTY = "uncertainty"
    DEPTH = "depth"
    INSTANCES = "instances"


Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.", rich_help_panel=OUTPUT)]
FormatVersion = Annotated[
    str,
    typer.Option(
        "--format-version",
        metavar="0.5|0.4",
        help="Version of OME-Zarr, if OUT is one; 0.4 is read by more programs, and has many more files.",
        rich_help_panel=OUTPUT,
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Write nothing to stderr but errors.")]
Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout when done, or where the command fails.")
]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="OUT", help="Where to write.", rich_help_panel=OUTPUT)]
MaxTime = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="Stop after so long, what is finished safe; exit code 75. 55m, 2h, or as Slurm writes it: 0:55:00, "
        "1-02:00:00.",
        rich_help_panel=COMPUTE,
    ),
]

Level = Annotated[
    int | None,
    typer.Option(
        min=0, metavar="N", help="Resolution of a pyramid; 0 is the largest. Default: 0.", rich_help_panel=INPUT
    ),
]
Mpp = Annotated[
    float | None,
    typer.Option(
        metavar="UM",
        help="Pixel size to work at, micrometres: the nearest level that is not coarser, resampled if need be.",
        rich_help_panel=INPUT,
    ),
]
Diameter = Annotated[
    str,
    typer.Option(
        metavar="PX|auto|off",
        help="How large the objects are, in px of the image or, as in 12um, in micrometres: they are brought to the"
        " size that the model knows. auto estimates it; off segments the image as it is.",
        rich_help_panel=INPUT,
    ),
]
PixelSize = Annotated[
    float | None,
    typer.Option(
        metavar="UM",
        help="Edge of the image's pixels, micrometres, where the image does not state it. Default: what it states.",
        rich_help_panel=INPUT,
    ),
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Read a .pt2 program or TorchScript although reading one can run code that is hidden in it.",
        rich_help_panel=INPUT,
    ),
]
Series = Annotated[
    int | None,
    typer.Option(min=0, metavar="N", help="Image of a file that holds several, from 0.", rich_help_panel=INPUT),
]
Channel = Annotated[
    str | None,
    typer.Option(
        metavar="C[,C...]",
        help="Channels that the model sees, in its order: numbers from 0, or names that the file gives them. "
        "Default: all.",
        rich_help_panel=INPUT,
    ),
]
Depth = Annotated[
    int | None, typer.Option("--z", min=0, metavar="N", help="Plane of a stack, from 0.", rich_help_panel=INPUT)
]
Time = Annotated[
    int | None,
    typer.Option("--time", min=0, metavar="N", help="Point in time of a series, from 0.", rich_help_panel=INPUT),
]


def parse_channels(text: str | None) -> tuple[int | str, ...] | None:
    """Parse --channel: numbers counted from 0, or names, separated by commas; None if the option was not given.

    Raises:
        UsageError: not such a list.

    >>> parse_channels("0,1,DAPI")
    ('0', '1', 'DAPI')
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(parts) or any(re.fullmatch(r"[-+.\d]*[.\d]", part) and not part.isdecimal() for part in parts):
        raise UsageError(
            f'--channel got "{text}": need numbers counted from 0, like 0 or 0,1,2, or names that the file gives them'
        )
    return tuple(parts)  # what is a name and what a number depends on the file
