"""Stitching: the shards of a run, or a folder of crops, become one file; every part is checked first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from unettile.atomic import remove_leftovers
from unettile.errors import Incomplete, InputError
from unettile.images import provenance
from unettile.images.canvas import ZARR_VERSIONS, Canvas, Layer
from unettile.images.fingerprint import Fingerprint
from unettile.images.formats import announce, make_room, write_image
from unettile.images.labelplace import is_label_place
from unettile.images.slide import open_slide
from unettile.segmentation.crops import CropMosaic
from unettile.segmentation.finished import is_finished
from unettile.segmentation.output import Written, check_format, check_output, write_output
from unettile.segmentation.plan import Plan
from unettile.segmentation.run.directory import RunDirectory
from unettile.segmentation.run.planfile import is_run_directory, lacks_plan
from unettile.segmentation.run.reader import BlockReader
from unettile.segmentation.run.watch import Watch
from unettile.tiling import Shard

__all__ = ["MissingBlocks", "StitchResult", "is_of_run", "shard_list", "stitch_crops", "stitch_run"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class StitchResult:
    """What was joined.

    Args:
        parts: blocks or crops.
        written: what the file holds; nothing for crops.
        start: of crops of a part of an image, where that begins, (y, x) px of the crops.
        was_finished: the file was there already, made of the same parts, and nothing was done.
    """

    output: Path
    shape: tuple[int, int]
    parts: int
    written: Written = field(default_factory=Written)
    start: tuple[int, int] | None = None
    was_finished: bool = False

    def to_dict(self) -> dict[str, object]:
        return {
            "output": str(self.output),
            "shape": list(self.shape),
            "parts": self.parts,
            **({} if self.start is None else {"start": list(self.start)}),
            **self.written.to_dict(),
        }


def is_of_run(source: Path) -> bool:
    """Whether it is a run directory, or what is left of one, rather than a folder of crops."""
    return is_run_directory(source) or lacks_plan(source)


class MissingBlocks(Incomplete):
    """Blocks of a run that are not finished, or damaged, and the shards that compute them.

    Args:
        directory: of the run.
        blocks: their indices.
    """

    def __init__(self, directory: Path, plan: Plan, blocks: Sequence[int]) -> None:
        lacking = set(blocks)
        self.blocks = sorted(lacking)
        self.count = plan.shards
        shards = (Shard(index, plan.shards) for index in range(plan.shards))
        self.shards = [shard.index for shard in shards if not lacking.isdisjoint(shard.blocks(plan.blocks))]
        super().__init__(
            f"{directory} lacks {len(blocks)} of {len(plan.blocks)} blocks (missing or damaged): run "
            f"shard{'s' if len(self.shards) > 1 else ''} {self.array} of {plan.shards} again"
            f" (--array={self.array}, --shard {self.shards[0]}/{plan.shards}), then stitch"
        )

    @property
    def array(self) -> str:
        """The shards as Slurm's --array takes them."""
        return shard_list(self.shards)

    def to_dict(self) -> dict[str, object]:
        return {"blocks": self.blocks, "shards": self.shards, "of_shards": self.count, "array": self.array}


def stitch_run(
    directory: Path,
    output: Path,
    overwrite: bool = False,
    watch: Watch | None = None,
    zarr: str = ZARR_VERSIONS[0],
) -> StitchResult:
    """Write the blocks of a run directory to one file; the directory stays, and so does a file that is finished.

    The file equals, byte for byte, that of a run without shards. Every block is checked as it is written; the file gets
    its name after the last one.

    Args:
        watch: told how many pixels are checked.
        zarr: the version of OME-Zarr, if it is one.

    Raises:
        MissingBlocks: blocks are missing or damaged; names the shards that compute them.
        InputError: no run directory, or the destination is refused: a file of another plan, say, or a label image of
            another image.
        UsageError: an output whose format is not written, or cannot hold the pixels.
    """
    watch = watch or Watch()
    is_there = not overwrite and output.exists()
    check_output(output, overwrite=overwrite or is_there)
    run = RunDirectory.open(directory)
    plan = run.plan
    make_room(output)
    remove_leftovers(output)
    if is_there and is_finished(output, plan, zarr):
        announce(output)
        return StitchResult(output, plan.output_shape, len(plan.blocks), was_finished=True)
    check_format(output, plan)
    check_of_image(directory, plan, output)
    checked: set[int] = set()
    area = 0

    def note(index: int) -> None:
        nonlocal area
        checked.add(index)
        area += plan.blocks[index].box.area
        watch.on_progress(area, plan.shape[0] * plan.shape[1])

    missing = run.unmarked()
    with BlockReader(run, note) as blocks:
        if not missing:
            try:
                written = write_output(blocks, output, watch, zarr)
            except Incomplete:
                missing = blocks.missing(index for index in range(len(plan.blocks)) if index not in checked)
                if not missing:
                    raise
        else:
            missing += blocks.missing(sorted(set(range(len(plan.blocks))).difference(missing)))
    if missing:
        raise MissingBlocks(directory, plan, missing)
    return StitchResult(output, plan.output_shape, len(plan.blocks), written)


def check_of_image(directory: Path, plan: Plan, output: Path) -> None:
    """Refuse a label image of another image than the one that was segmented; any other file may be anywhere.

    Raises:
        InputError: it would be.
    """
    if not is_label_place(output):
        return
    image = output.parent.parent
    with open_slide(image, plan.view) as slide:
        if Fingerprint.of(slide) != plan.image:
            raise InputError(f"{directory} is a run of another image than {image}: give -o the image that it is of")


def stitch_crops(
    folder: Path,
    output: Path,
    overwrite: bool = False,
    shape: tuple[int, int] | None = None,
    on_progress: Progress = lambda done, total: None,
    region: bool = False,
    zarr: str = ZARR_VERSIONS[0],
) -> StitchResult:
    """Write the crops of a folder, whose names carry their offsets, to one file.

    Args:
        shape: of the image; None takes it from the crops: from (0, 0) to where the last of them ends.
        on_progress: takes pixels written and pixels in all.
        region: the crops are of a part of the image; the file begins where the first of them do.
        zarr: the version of OME-Zarr, if it is one.

    Raises:
        Incomplete: the crops leave gaps, which are named.
        InputError: a name without an offset, crops of several images or kinds, overlaps that disagree, or the
            destination is refused.
        UsageError: an output whose format is not written, or cannot hold the pixels.
    """
    is_there = not overwrite and output.exists()
    check_output(output, overwrite=overwrite or is_there)
    mosaic = CropMosaic.of_folder(folder, shape, region)
    gaps = mosaic.gaps()
    if gaps:
        named = ", ".join(f"y {b.y0} to {b.y1}, x {b.x0} to {b.x1}" for b in gaps[:5])
        more = f" and {len(gaps) - 5} more" if len(gaps) > 5 else ""
        inset = min(crop.box.y0 for crop in mosaic.crops) > 0 or min(crop.box.x0 for crop in mosaic.crops) > 0
        part = ", or give --region if they are of a part of the image" if inset else ""
        count = f"{len(gaps)} gap{'s' if len(gaps) > 1 else ''}"
        raise Incomplete(f"the crops in {folder} leave {count}: {named}{more}; add the crops that cover them{part}")
    metadata = mosaic.provenance()
    make_room(output)
    remove_leftovers(output)
    if is_there and provenance.is_finished(output, metadata, "stitched image", zarr):
        announce(output)
        return StitchResult(output, mosaic.shape, len(mosaic.crops), was_finished=True)
    reduction = "majority" if mosaic.channels == 1 and mosaic.dtype.kind != "f" else "mean"
    layer = Layer("stitched", mosaic.channels, reduction)
    size = mosaic.pixel_size_um
    offset = (mosaic.start[0] * size[0], mosaic.start[1] * size[1]) if region and size is not None else None
    canvas = Canvas(
        mosaic.shape,
        (layer,),
        mosaic.dtype,
        pixel_size_um=size,
        offset_um=offset,
        metadata=metadata,
        georeference=mosaic.georeference,
        zarr=zarr,
    )
    write_image(output, canvas, mosaic.reader(on_progress))
    return StitchResult(output, mosaic.shape, len(mosaic.crops), start=mosaic.start if region else None)


def shard_list(indices: Iterable[int]) -> str:
    """Return sorted shard indices as Slurm's --array takes them.

    >>> shard_list([2, 5, 6, 7])
    '2,5-7'
    """
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
