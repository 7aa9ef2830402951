"""Segmenting: an image, or a shard of it, from its slide to a file or a run directory."""

from __future__ import annotations

import time
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from unettile.atomic import remove_leftovers
from unettile.errors import Incomplete, InputError
from unettile.images.formats import announce, leave, make_room
from unettile.images.slide import ImageSource, Slide
from unettile.inference.predict import Predictor
from unettile.segmentation.budget import estimate_memory
from unettile.segmentation.compute.loop import Loop
from unettile.segmentation.compute.pixels import PixelReader
from unettile.segmentation.crew import Crew, Work, together
from unettile.segmentation.finished import is_finished
from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.output import Written, check_apart, check_format, check_output, write_output
from unettile.segmentation.plan import Plan
from unettile.segmentation.planning import make_plan, open_image, open_seen, prepare
from unettile.segmentation.run.directory import RunDirectory
from unettile.segmentation.run.planfile import check_agrees, is_run_directory, remove_run
from unettile.segmentation.run.reader import BlockReader
from unettile.segmentation.run.watch import Tally, Watch
from unettile.segmentation.share import Share
from unettile.segmentation.suiting import advice
from unettile.segmentation.verify import SAMPLE, Verification, WrittenPlanes, sample_tiles, verify_written
from unettile.segmentation.where import open_within
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
        verification: of what was written; None where none was asked for, or nothing was left to read.
        was_finished: the file was there already, of the same plan, and nothing was done.
        planes: of a stack; `plan` is that of the first of them.
    """

    output: Path
    plan: Plan = field(repr=False)
    tally: Tally
    seconds: float
    written: Written = field(default_factory=Written)
    left_out: float | None = None
    verification: Verification | None = None
    was_finished: bool = False
    planes: int = 1

    @property
    def pixels_per_second(self) -> float:
        """Px of the image, for those blocks that were computed."""
        share = self.tally.pixels / (self.plan.shape[0] * self.plan.shape[1])
        return share * self.plan.output_shape[0] * self.plan.output_shape[1] / max(self.seconds, 1e-9)

    def to_dict(self) -> dict[str, object]:
        """Return the result as JSON."""
        plan = self.plan
        return {
            "output": str(self.output),
            "shape": list(plan.output_shape),
            **({} if self.planes == 1 else {"planes": self.planes}),
            "view": plan.view.to_dict(),
            "pixel_size_um": plan.pixel_size_um,
            "sizing": None if plan.sizing is None else plan.sizing.to_dict(),
            "write": list(plan.write),
            "classes": list(plan.class_names),
            **self.written.to_dict(),
            **({} if self.left_out is None else {"left_out": round(self.left_out, 6)}),
            "model_sha256": plan.model.sha256,
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
    image: ImageSource,
    output: Path,
    predictor: Predictor,
    options: SegmentOptions,
    watch: Watch | None = None,
    overwrite: bool = False,
    verify: bool = False,
    crew: Crew | None = None,
) -> SegmentResult:
    """Segment a whole image into a file, or go on with a run that was stopped; a file that is finished stays.

    Two processes that are given the same work do it twice, and do each other no harm.

    Args:
        overwrite: replace the file, and discard an unfinished run of other options.
        verify: compute a sample of tiles again, in windows of another size, and compare it with the file.
        crew: who starts other processes that compute a share each; None for this process alone.

    Raises:
        InputError: image or destination refused, a file that was made otherwise, or an unfinished run that differs.
        UsageError: options that do not fit.
        Interrupted, Incomplete: `watch` asked to stop; what is finished is kept in the run directory.
    """
    watch = watch or Watch()
    start = time.monotonic()
    place = run_directory_for(output)
    check_apart(image, options.mask, output, place)
    is_there = not overwrite and output.exists()
    check_output(output, overwrite=overwrite or is_there)
    before = _identity(output)
    with open_image(image, options) as slide:
        if is_there and is_finished(output, plan := make_plan(slide, predictor, options), options.zarr):
            _remove_run_of(place, plan)  # a process that was killed at the very end left it
            remove_leftovers(output)
            announce(output)
            return SegmentResult(output, plan, Tally(), time.monotonic() - start, was_finished=True)
        with watch.profile.part("plan"):
            plan, batch = prepare(slide, predictor, options, None if overwrite else place, advise=watch.advise)
        check_format(output, plan)
        for line in advice(predictor.checkpoint, plan, str(image)):
            watch.advise(line)
        make_room(output)
        run = RunDirectory.join(place, plan, discard=overwrite)
        reader = PixelReader(open_seen(slide, plan, image, options), plan, partial(_reopen, plan, image, options))
        loop = Loop(run, reader, predictor.engine, batch)
        need = partial(estimate_memory, plan, predictor, batch)
        work = Work([run.path], len(plan.blocks), plan.shape[0] * plan.shape[1], need)
        tally = loop.tally
        verification = None
        try:
            with (
                closing(reader),
                open_within(options.mask, plan, reader.read, reader.known) as within,
                BlockReader(run) as blocks,
            ):
                with together(crew, work, watch) as own:
                    loop.do(own.share.blocks(len(plan.blocks)), own.watch, within)
                tally = own.tally or tally
                left_out = None if within is None else within.left_out()
                remove_leftovers(output)
                with watch.profile.part("write"):
                    written = write_output(blocks, output, watch, options.zarr)
                if verify:
                    tiles = sample_tiles(plan.tiles, SAMPLE)
                    verification = verify_written(predictor, reader, tiles, WrittenPlanes(blocks, output), within)
        except Exception as error:
            expected = isinstance(error, InputError | Incomplete)
            if not expected or _identity(output) == before or not _is_by(output, plan, options.zarr):
                run.remove_if_empty()  # a run refused before its first block should not bind the next to its options
                leave(output)
                raise
            # another process was given the same command, had the file ready and took the directory away
            written, left_out = Written(), None
    run.remove()
    seconds = time.monotonic() - start
    return SegmentResult(output, plan, tally, seconds, written, left_out, verification)


def segment_shard(
    image: ImageSource,
    directory: Path,
    shard: Shard,
    predictor: Predictor,
    options: SegmentOptions,
    watch: Watch | None = None,
    verify: bool = False,
    share: Share | None = None,
) -> SegmentResult:
    """Segment one shard of an image into a run directory, which `stitch_run` turns into a file.

    Args:
        verify: compute a sample of tiles again, in windows of another size, and compare it with the shard's blocks.
        share: which blocks to compute in the place of the shard's; the plan has as many shards as before.

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
        for line in advice(predictor.checkpoint, plan, str(image)):
            watch.advise(line)
        run = RunDirectory.join(directory, plan)
        reader = PixelReader(open_seen(slide, plan, image, options), plan, partial(_reopen, plan, image, options))
        loop = Loop(run, reader, predictor.engine, batch)
        with closing(reader), open_within(options.mask, plan, reader.read, reader.known) as within:
            own = shard.blocks(plan.blocks) if share is None else share.blocks(len(plan.blocks))
            loop.do(own, watch, within)
            verification = None
            boxes = [plan.blocks[index].box for index in own]
            if verify and boxes:  # of more shards than blocks, some have none
                tiles = sample_tiles(plan.tiles, SAMPLE, boxes)
                with BlockReader(run) as blocks:
                    verification = verify_written(predictor, reader, tiles, WrittenPlanes(blocks), within)
    return SegmentResult(directory, plan, loop.tally, time.monotonic() - start, verification=verification)


def _reopen(plan: Plan, image: ImageSource, options: SegmentOptions) -> Slide:
    return open_seen(open_image(image, options), plan, image, options)


def _identity(path: Path) -> tuple[int, int, int] | None:
    """Return what changes when a file is replaced; None if there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size


def _remove_run_of(place: Path, plan: Plan) -> None:
    """Remove a run directory of this plan; that of another one stays."""
    with suppress(InputError):
        if is_run_directory(place):
            check_agrees(place, plan)
            remove_run(place)


def _is_by(output: Path, plan: Plan, zarr: str) -> bool:
    with suppress(InputError):
        return is_finished(output, plan, zarr)
    return False
