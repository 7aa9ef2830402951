"""Segmenting: an image, or a shard of it, from its slide to a file or a run directory."""

from __future__ import annotations

import time
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from unettile.atomic import remove_leftovers
from unettile.errors import Incomplete, InputError
from unettile.inference.predict import Predictor
from unettile.segmentation.blockreader import BlockReader
from unettile.segmentation.finished import is_finished
from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.output import Written, check_format, check_output, write_output
from unettile.segmentation.plan import Plan, pixel_size_advice
from unettile.segmentation.planning import open_image
from unettile.segmentation.preparing import prepare
from unettile.segmentation.rundir import RunDirectory, is_run_directory, remove_run
from unettile.segmentation.watch import Tally, Watch
from unettile.segmentation.windows import WindowReader
from unettile.segmentation.within import open_within
from unettile.segmentation.work import Work
from unettile.tiling import Shard


@dataclass(frozen=True)
class SegmentResult:
    """How a run went.

    Args:
        output: the file, or the run directory of a shard.
        tally: of the blocks.
        seconds: that this process took.
        written: what the file holds; nothing for shards, and where another process had the file ready.
        left_out: share of the image that --skip-background left out; None without it.
    """

    output: Path
    plan: Plan = field(repr=False)
    tally: Tally
    seconds: float
    written: Written = field(default_factory=Written)
    left_out: float | None = None

    @property
    def pixels_per_second(self) -> float:
        return self.tally.pixels / max(self.seconds, 1e-9)

    def to_dict(self) -> dict[str, object]:
        """Return the result as JSON."""
        plan = self.plan
        return {
            "output": str(self.output),
            "shape": list(plan.shape),
            "view": plan.view.to_dict(),
            "pixel_size_um": plan.pixel_size_um,
            "write": list(plan.write),
            "classes": list(plan.class_names),
            **self.written.to_dict(),
            **({} if self.left_out is None else {"left_out": round(self.left_out, 6)}),
            "model_sha256": plan.model["sha256"],
            "tile": plan.output_edge,
            "precision": plan.precision,
            "device": plan.device,
            "exact": plan.geometry.exact,
            "blocks": len(plan.blocks),
            "blocks_computed": self.tally.computed,
            "blocks_resumed": self.tally.resumed,
            "seconds": round(self.seconds, 3),
            "pixels_per_second": round(self.pixels_per_second),
        }


def run_directory_for(output: Path) -> Path:
    """Return where a run without `--shard` keeps what it has done: beside its output."""
    return output.with_name(f"{output.name}.run")


def segment_image(
    image: Path,
    output: Path,
    predictor: Predictor,
    options: SegmentOptions,
    watch: Watch | None = None,
    overwrite: bool = False,
) -> SegmentResult:
    """Segment a whole image into a file; a run that was stopped is gone on with.

    Two processes that are given the same work do it twice, and do each other no harm.

    Args:
        overwrite: replace the file, and discard an unfinished run of other options.

    Raises:
        InputError: image or destination refused, or an unfinished run differs; nothing is under the final name.
        UsageError: options that do not fit.
        Interrupted, Incomplete: `watch` asked to stop; what is finished is kept in the run directory.
    """
    watch = watch or Watch()
    start = time.monotonic()
    place = run_directory_for(output)
    was_killed_at_the_end = not overwrite and output.exists() and is_run_directory(place)
    if not was_killed_at_the_end:
        check_output(output, overwrite=overwrite)
    before = _identity(output)
    with open_image(image, options) as slide:
        with watch.profile.part("plan"):
            plan, batch = prepare(slide, predictor, options, None if overwrite else place, advise=watch.advise)
        check_format(output, plan)
        if was_killed_at_the_end and is_finished(output, plan):
            remove_run(place)
            return SegmentResult(output, plan, Tally(resumed=len(plan.blocks)), time.monotonic() - start)
        watch.advise(pixel_size_advice(predictor.checkpoint, plan, str(image)))
        run = RunDirectory.join(place, plan, discard=overwrite)
        reader = WindowReader(slide, plan, predictor.checkpoint.in_channels, partial(open_image, image, options))
        work = Work(reader, predictor, batch, run)
        try:
            with closing(reader), open_within(options.mask, plan, reader.read, reader.known) as within:
                work.do(range(len(plan.blocks)), watch, within)
                left_out = None if within is None else within.left_out()
            remove_leftovers(output)
            with watch.profile.part("write"), BlockReader(run) as blocks:
                written = write_output(blocks, output, watch)
        except Exception as error:
            expected = isinstance(error, InputError | Incomplete)
            if not expected or _identity(output) == before or not _is_by(output, plan):
                run.remove_if_empty()  # a run refused before its first block should not bind the next to its options
                raise
            # another process was given the same command, had the file ready and took the directory away
            written, left_out = Written(), None
    run.remove()
    return SegmentResult(output, plan, work.tally, time.monotonic() - start, written, left_out)


def segment_shard(
    image: Path,
    directory: Path,
    shard: Shard,
    predictor: Predictor,
    options: SegmentOptions,
    watch: Watch | None = None,
) -> SegmentResult:
    """Segment one shard of an image into a run directory, which `stitch_run` turns into a file.

    Raises:
        InputError: image or directory refused, or the directory's plan differs.
        UsageError: options that do not fit.
        Interrupted, Incomplete: `watch` asked to stop; what is finished is kept.
    """
    watch = watch or Watch()
    start = time.monotonic()
    with open_image(image, options) as slide:
        with watch.profile.part("plan"):
            plan, batch = prepare(slide, predictor, options, directory, shard.count, watch.advise)
        watch.advise(pixel_size_advice(predictor.checkpoint, plan, str(image)))
        run = RunDirectory.join(directory, plan)
        reader = WindowReader(slide, plan, predictor.checkpoint.in_channels, partial(open_image, image, options))
        work = Work(reader, predictor, batch, run)
        with closing(reader), open_within(options.mask, plan, reader.read, reader.known) as within:
            work.do(shard.blocks(plan.blocks), watch, within)
    return SegmentResult(directory, plan, work.tally, time.monotonic() - start)


def _identity(path: Path) -> tuple[int, int, int] | None:
    """Return what changes when a file is replaced; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _is_by(output: Path, plan: Plan) -> bool:
    with suppress(InputError):
        return is_finished(output, plan)
    return False
