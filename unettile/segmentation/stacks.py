"""Stacks: an image, or every plane of a stack as an image of its own, to one file."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unettile.atomic import remove_leftovers
from unettile.images import provenance
from unettile.images.canvas import ZARR_VERSIONS, Canvas
from unettile.images.formats import announce, format_of, leave, make_room
from unettile.images.planes import Planes, stack_spacing
from unettile.images.slide import ImageSource
from unettile.inference.predict import Predictor
from unettile.segmentation.budget import estimate_memory, fit_batch
from unettile.segmentation.crew import Crew, Work, together
from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.output import check_apart, check_output
from unettile.segmentation.plan import Plan
from unettile.segmentation.planes import choose_planes, of_plane
from unettile.segmentation.planning import plan_image
from unettile.segmentation.run.directory import RunDirectory
from unettile.segmentation.run.watch import Tally, Watch
from unettile.segmentation.segment import SegmentResult, run_directory_for, segment_image, segment_shard
from unettile.segmentation.share import Share
from unettile.segmentation.stackfile import check_stack_format, stack_canvas, write_stack
from unettile.segmentation.stackrun import MissingPlanes, StackDirectory, is_stack_run
from unettile.segmentation.stitch import StitchResult, check_of_image, stitch_run
from unettile.segmentation.verifystack import verify_stack
from unettile.tiling import Shard


def segment(
    image: ImageSource,
    output: Path,
    predictor: Predictor,
    options: SegmentOptions,
    watch: Watch | None = None,
    overwrite: bool = False,
    verify: bool = False,
    crew: Crew | None = None,
) -> SegmentResult:
    """Segment an image, or the planes of a stack, into a file; see `segment_image`.

    Raises:
        UsageError: options that do not fit.
        InputError: image or destination refused.
        Interrupted, Incomplete: `watch` asked to stop; what is finished is kept in the run directory.
    """
    options, planes = choose_planes(image, predictor, options)
    if planes is None:
        return segment_image(image, output, predictor, options, watch, overwrite, verify, crew)
    watch, start, place = watch or Watch(), time.monotonic(), run_directory_for(output)
    check_apart(image, options.mask, output, place)
    is_there = not overwrite and output.exists()
    check_output(output, overwrite=overwrite or is_there)
    first = plan_image(image, predictor, of_plane(options, next(iter(planes))))
    if is_there and is_stack_finished(image, output, predictor, options, planes):
        remove_leftovers(output)
        announce(output)
        return SegmentResult(output, first, Tally(), time.monotonic() - start, was_finished=True)
    check_stack_format(output, planes, first)
    make_room(output)
    spacing = stack_spacing(image, first.view)

    def need() -> int:
        return estimate_memory(first, predictor, fit_batch(first, predictor, options.batch))

    directory = StackDirectory.join(place, planes, 1, spacing, discard=overwrite)
    work = Work(directory.paths, len(first.blocks), first.shape[0] * first.shape[1], need)
    try:
        with together(crew, work, watch) as own:
            tally = directory.compute(image, Shard(0, 1), predictor, options, own.watch, own.share)
        tally = own.tally or tally
        remove_leftovers(output)
        with watch.profile.part("write"):
            written = write_stack(directory, output, watch, options.zarr)
        verification = None
        if verify:
            verification = verify_stack(image, directory, Shard(0, 1), predictor, options, output)
    except Exception:
        directory.remove_if_empty()
        leave(output)
        raise
    directory.remove()
    seconds = time.monotonic() - start
    return SegmentResult(output, first, tally, seconds, written, verification=verification, planes=len(planes))


def segment_part(
    image: ImageSource,
    directory: Path,
    shard: Shard,
    predictor: Predictor,
    options: SegmentOptions,
    watch: Watch | None = None,
    verify: bool = False,
    share: Share | None = None,
) -> SegmentResult:
    """Segment one shard of an image, or of a stack, or a share of it, into a run directory; as `segment_shard`."""
    options, planes = choose_planes(image, predictor, options)
    if planes is None:
        return segment_shard(image, directory, shard, predictor, options, watch, verify, share)
    start = time.monotonic()
    first = plan_image(image, predictor, of_plane(options, next(iter(planes))))
    stack = StackDirectory.join(directory, planes, shard.count, stack_spacing(image, first.view))
    tally = stack.compute(image, shard, predictor, options, watch or Watch(), share)
    verification = verify_stack(image, stack, shard, predictor, options) if verify else None
    seconds = time.monotonic() - start
    return SegmentResult(directory, first, tally, seconds, verification=verification, planes=len(planes))


def stitch(
    directory: Path,
    output: Path,
    overwrite: bool = False,
    watch: Watch | None = None,
    zarr: str = ZARR_VERSIONS[0],
) -> StitchResult:
    """Write a run directory, of an image or of a stack, to one file; see `stitch_run`.

    Raises:
        MissingBlocks, MissingPlanes: blocks are missing or damaged; names the shards that compute them.
        InputError: no run directory, or the destination is refused.
        UsageError: an output whose format is not written, or cannot hold the pixels.
    """
    if not is_stack_run(directory):
        return stitch_run(directory, output, overwrite, watch, zarr)
    is_there = not overwrite and output.exists()
    check_output(output, overwrite=overwrite or is_there)
    stack = StackDirectory.open(directory)
    missing = stack.missing()
    if missing:
        raise MissingPlanes(stack, missing)
    plans = [RunDirectory.open(path).plan for path in stack.paths]
    canvas, parts = stack_canvas(stack.planes, plans), sum(len(plan.blocks) for plan in plans)
    make_room(output)
    remove_leftovers(output)
    if is_there and provenance.is_finished(output, _wanted(canvas, plans), zarr=zarr):
        announce(output)
        return StitchResult(output, canvas.shape, parts, was_finished=True)
    format_of(output).check(canvas)
    check_of_image(directory, plans[0], output)
    return StitchResult(output, canvas.shape, parts, write_stack(stack, output, watch or Watch(), zarr))


def is_stack_finished(
    image: ImageSource, output: Path, predictor: Predictor, options: SegmentOptions, planes: Planes
) -> bool:
    """Whether `output` is there and is the mask of these planes.

    Raises:
        InputError: it is there and is another, or the image cannot be read.
    """
    if not output.exists():
        return False
    plans = [plan_image(image, predictor, of_plane(options, plane)) for plane in planes]
    return provenance.is_finished(output, _wanted(stack_canvas(planes, plans), plans), zarr=options.zarr)


def _wanted(canvas: Canvas, plans: Sequence[Plan]) -> dict[str, Any]:
    """Return what the metadata of a finished file must say; where the tile edge changes nothing, any will do."""
    return {key: value for key, value in canvas.metadata.items() if key != "tile" or not plans[0].geometry.exact}
