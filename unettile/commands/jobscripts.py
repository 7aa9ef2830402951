"""The scripts with which Slurm segments an image in parts and stitches them: their text, made of a forecast."""

from __future__ import annotations

import math
import shlex
import string
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from unettile.commands.again import program_words
from unettile.errors import InputError
from unettile.wording import counted

if TYPE_CHECKING:
    from unettile.segmentation.forecast import Forecast

_JOB_NAME = frozenset(string.ascii_letters + string.digits + "-_.")
_TURNS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")  # turn the direction of what is shown

_MEMORY_HEADROOM = 1.25
_TIME_HEADROOM = 3  # nodes differ, and file systems are shared
_STITCHED_PER_SECOND = 5e6  # px, with little luck
_STITCH_MEMORY_MB = 1500

SUBMIT = """\
#!/bin/bash
# Segments {image} in {jobs} of Slurm, and stitches what they make.
#   everything:                               bash submit.sh
#   again the shards that `stitch` names:     bash submit.sh --array=2,5-7
# --mem: {memory} as estimated, and a quarter more.
# --time: {headroom} times what a probe promised: where this was written, {windows} took {seconds:.2f} s
#   with {threads} on {device}.
# unettile is called by its full path, so that no environment has to be activated: the nodes must see that path.
set -euo pipefail

array=$(sbatch --parsable "$@" <<'ARRAY'
{array}ARRAY
)
array=${{array%%;*}}
echo "array job $array" >&2
sbatch --dependency="afterok:$array" --kill-on-invalid-dep=yes <<'STITCH'
{stitch}STITCH
"""

ARRAY = """\
#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --array=0-{last}
#SBATCH --cpus-per-task={cpus}
#SBATCH --mem={memory_mb}M
#SBATCH --time={time}
#SBATCH --signal=B:TERM@{notice}
#SBATCH --requeue
{gpu}exec {command} --shard "${{SLURM_ARRAY_TASK_ID}}/{shards}"
"""

STITCH = """\
#!/bin/bash
#SBATCH --job-name={name}-stitch
#SBATCH --cpus-per-task={cpus}
#SBATCH --mem={memory_mb}M
#SBATCH --time={time}
#SBATCH --requeue
exec {command}
"""


@dataclass(frozen=True)
class Destination:
    """Where the parts of a run go, and what is made of them; both absolute.

    Args:
        run_directory: that the jobs share.
        output: that `stitch` writes.
    """

    run_directory: Path
    output: Path

    @classmethod
    def of(cls, out: Path) -> Destination:
        """Take OUT for the file to make, or, if it has no ending or .run, for the run directory.

        Beside mask.tif the run directory is mask.tif.run; of slide.run, slide_mask.tif is made.
        """
        out = out.absolute()
        if out.suffix.lower() in ("", ".run"):
            return cls(out, out.with_name(f"{out.stem}_mask.tif"))
        return cls(out.with_name(f"{out.name}.run"), out)


@dataclass(frozen=True)
class Scripts:
    """Batch scripts for Slurm.

    Args:
        array: segments the shards.
        stitch: makes the file of them.
        submit: holds both, and submits the second to run after the first.
    """

    array: str
    stitch: str
    submit: str


@dataclass(frozen=True)
class JobArray:
    """An image that several jobs segment.

    Args:
        image: absolute.
        shards: how many jobs.
        options: of `segment`, beyond these.
        overwrite: replace a file that exists.

    Raises:
        InputError: a name that could end a line of a script.
    """

    image: Path
    destination: Destination
    shards: int
    options: tuple[str, ...] = ()
    overwrite: bool = False

    def __post_init__(self) -> None:
        to = self.destination
        check_names([self.image, to.run_directory, to.output, *self.options])

    def scripts(self, forecast: Forecast, cpus: int) -> Scripts:
        """Return the scripts; every path in them is absolute, and a quoted word.

        Args:
            cpus: threads that the probe had, and each job gets.

        Raises:
            InputError: unettile is installed in such a place.
        """
        plan, to = forecast.plan, self.destination
        program = program_words()
        check_names(program)
        segment = [*program, "segment", str(self.image), "--output", str(to.run_directory), *self.options]
        segment += ["--device", plan.device, "--precision", plan.precision]  # nodes that differ would choose unlike
        stitch = [*program, "stitch", str(to.run_directory), "--output", str(to.output)]
        name = "".join(letter if letter in _JOB_NAME else "_" for letter in self.image.stem)[:64]
        array = ARRAY.format(
            name=name,
            last=self.shards - 1,
            shards=self.shards,
            cpus=cpus,
            memory_mb=_round_up(forecast.memory_bytes * _MEMORY_HEADROOM / 2**20, 100),
            time=_slurm_time(forecast.seconds),
            notice=max(60, _round_up(2 * forecast.block_seconds, 30)),
            gpu="#SBATCH --gres=gpu:1\n" if plan.device == "cuda" else "",
            command=shlex.join(segment),
        )
        last = STITCH.format(
            name=name,
            cpus=min(cpus, 4),
            memory_mb=_STITCH_MEMORY_MB,
            time=_slurm_time(
                forecast.division.planes * plan.shape[0] * plan.shape[1] * plan.planes / _STITCHED_PER_SECOND
            ),
            command=shlex.join([*stitch, "--overwrite"] if self.overwrite else stitch),
        )
        submit = SUBMIT.format(
            image=shlex.quote(self.image.name),
            jobs=counted(self.shards, "job"),
            memory=f"{forecast.memory_bytes / 2**20:.0f} MiB",
            headroom=_TIME_HEADROOM,
            windows=counted(forecast.probe.windows, "window"),
            seconds=forecast.probe.seconds,
            threads=counted(cpus, "thread"),
            device=plan.device,
            array=array,
            stitch=last,
        )
        return Scripts(array, last, submit)


def check_names(words: Iterable[object]) -> None:
    """Refuse names that do not stay within a line of a script, or that show another line than the shell reads.

    Quotes hold everything else, but a line break within them could end the text of a job, and what follows would run.

    Raises:
        InputError: names the word.
    """
    for word in map(str, words):
        if any(unicodedata.category(letter) in ("Cc", "Zl", "Zp") or letter in _TURNS for letter in word):
            raise InputError(
                f"{word!r} has a control character in its name, and no script may hold that: rename it, or segment it"
                " without --shards"
            )


def _slurm_time(seconds: float) -> str:
    minutes = _round_up(_TIME_HEADROOM * seconds / 60, 5) + 5
    return f"{minutes // 60}:{minutes % 60:02d}:00"


def _round_up(value: float, step: int) -> int:
    return math.ceil(value / step) * step
