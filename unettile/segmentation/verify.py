"""Verifying: a sample of tiles, computed again in windows of another size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unettile.images.slide import ImageSource
from unettile.inference.predict import Predictor
from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.planning import make_plan, open_image
from unettile.segmentation.windows import WindowReader
from unettile.tiling import Tile, TileGrid

SAMPLE = 4
_MORE = 96  # px at least, on each side of the tile, so that both its origin and its edge differ


@dataclass(frozen=True)
class Verification:
    """What a sample of tiles showed.

    Args:
        tiles: that were computed twice.
        output_edge, other_edge: of the two kinds of window, px.
        pixels: compared.
        largest_difference: of a probability.
        differing_pixels: with another class.
    """

    tiles: int
    output_edge: int
    other_edge: int
    pixels: int
    largest_difference: float
    differing_pixels: int

    def to_dict(self) -> dict[str, float]:
        return dict(vars(self))


def verify_sample(
    image: ImageSource, predictor: Predictor, options: SegmentOptions, sample: int = SAMPLE
) -> Verification:
    """Compute up to `sample` tiles, spread evenly over the image, in windows of two sizes, and compare.

    The sample depends on the image's shape and the tile edge alone.

    Raises:
        InputError, UsageError: as `segment_image`.
    """
    with open_image(image, options) as slide:
        plan = make_plan(slide, predictor, options)
        reader = WindowReader(slide, plan, predictor.checkpoint.in_channels)
        strides = -(-_MORE // plan.geometry.stride) // 2 * 2 + 1  # odd: half of the true stride would show, too
        more = strides * plan.geometry.stride
        largest, differing, pixels = 0.0, 0, 0
        tiles = sample_tiles(plan.tiles, sample)
        for tile in tiles:
            box = tile.window
            wide = box.expand(more)  # an origin on the stride, too: the same pixels, elsewhere in a larger window
            first, second = (
                predictor.probabilities(reader.scale(reader.read(window))[None])[0] for window in (box, wide)
            )
            height, width = tile.write.shape
            first = first[:, :height, :width]
            second = second[:, more : more + height, more : more + width]
            largest = max(largest, float(np.abs(first - second).max()))
            differing += int((first.argmax(axis=0) != second.argmax(axis=0)).sum())
            pixels += height * width
    return Verification(len(tiles), plan.output_edge, plan.output_edge + 2 * more, pixels, largest, differing)


def sample_tiles(grid: TileGrid, count: int) -> list[Tile]:
    """Return up to `count` tiles, from the first to the last, at even steps in raster order."""
    total = len(grid)
    count = min(count, total)
    chosen = [index * (total - 1) // max(1, count - 1) for index in range(count)]
    return [grid.tile(*divmod(index, grid.columns)) for index in chosen]
