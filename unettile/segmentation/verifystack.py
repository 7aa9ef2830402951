"""Verifying a stack: some tiles of every plane, computed again and held against what was written of that plane."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from unettile.images.slide import ImageSource
from unettile.images.view import FIRST, View
from unettile.inference.predict import Predictor
from unettile.segmentation.compute.pixels import PixelReader
from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.planes import of_plane
from unettile.segmentation.planning import open_image, open_seen
from unettile.segmentation.run.directory import RunDirectory
from unettile.segmentation.run.reader import BlockReader
from unettile.segmentation.stackrun import StackDirectory
from unettile.segmentation.verify import SAMPLE, Verification, WrittenPlanes, sample_tiles, verify_written
from unettile.segmentation.where import open_within
from unettile.tiling import Shard


def verify_stack(
    image: ImageSource,
    directory: StackDirectory,
    shard: Shard,
    predictor: Predictor,
    options: SegmentOptions,
    output: Path | None = None,
) -> Verification | None:
    """Compute tiles of every plane of a shard in windows of two sizes, and compare.

    As many tiles as of a single image, but at least one of each plane; from plane to plane they move over the image.
    None of a shard that has no block.

    Args:
        output: the finished file; None where there is none yet, and the shard's blocks are compared.

    Raises:
        InputError: the image or what was written cannot be read.
    """
    planes, division = list(directory.planes), directory.division
    own, depths = division.planes_of(shard.index), len(directory.planes.depths)
    each = -(-SAMPLE // len(own))
    found = []
    for place, number in enumerate(own):
        run, seen = RunDirectory.open(directory.paths[number]), of_plane(options, planes[number])
        plan = run.plan
        boxes = [plan.blocks[index].box for index in division.part(shard).blocks(plan.blocks)]
        if not boxes:
            continue
        tiles = sample_tiles(plan.tiles, each, () if output is not None else boxes, (place, len(own)))
        plane = FIRST if output is None else View(t=number // depths, z=number % depths)
        reader = PixelReader(open_seen(open_image(image, seen), plan, image, seen), plan)
        with (
            closing(reader),
            open_within(options.mask, plan, reader.read, reader.known) as within,
            BlockReader(run) as blocks,
        ):
            written = WrittenPlanes(blocks, output, plane)
            found.append(verify_written(predictor, reader, tiles, written, within))
    return Verification.of_planes(found) if found else None
