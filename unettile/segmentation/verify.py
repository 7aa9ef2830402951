"""Verifying: a sample of tiles, computed again in windows of another size and held against what was written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.images.slide import open_labels
from unettile.images.view import FIRST, View
from unettile.inference.predict import Predictor
from unettile.segmentation.compute.pixels import PixelReader
from unettile.segmentation.frame import Frame
from unettile.segmentation.run.reader import BlockReader
from unettile.segmentation.where import Within
from unettile.tiling import Tile, TileGrid

SAMPLE = 4
_MORE = 96  # px at least, on each side of the tile, so that both its origin and its edge differ


@dataclass(frozen=True)
class Verification:
    """What a sample of tiles showed.

    Args:
        tiles: that were computed again, twice.
        output_edge, other_edge: of the two kinds of window, px.
        pixels: compared; where the mask has other pixels than the network saw, those of both.
        largest_difference: of a probability, between the two kinds of window.
        differing_pixels: where what was written is not what the other kind of window gives.
        planes: of a stack, in each of which tiles were computed; None of a single image.
    """

    tiles: int
    output_edge: int
    other_edge: int
    pixels: int
    largest_difference: float
    differing_pixels: int
    planes: int | None = None

    @classmethod
    def of_planes(cls, every: Sequence[Verification]) -> Verification:
        """Sum up what the planes of a stack showed."""
        return cls(
            sum(one.tiles for one in every),
            every[0].output_edge,
            every[0].other_edge,
            sum(one.pixels for one in every),
            max(one.largest_difference for one in every),
            sum(one.differing_pixels for one in every),
            len(every),
        )

    def to_dict(self) -> dict[str, float]:
        return {name: value for name, value in vars(self).items() if value is not None}


class WrittenPlanes:
    """The planes of a run as they were written: those of the output, where it has them, else those of the blocks.

    Args:
        output: the finished file; None where there is none yet.
        plane: of it, in a stack.
    """

    def __init__(self, blocks: BlockReader, output: Path | None = None, plane: View = FIRST) -> None:
        self.plan = blocks.plan
        self._blocks, self._output, self._plane = blocks, output, plane

    def read(self, box: Box) -> NDArray[np.uint8]:
        """Return what is stored of a box, (P, h, w)."""
        return np.concatenate([self._read(kind, box) for kind in self.plan.stored])

    def _read(self, kind: str, box: Box) -> NDArray[np.uint8]:
        if self._output is None or kind not in self.plan.write or self.plan.is_brought_back:
            return self._blocks.read_box(box)[self.plan.planes_with(kind)]
        return self._read_file(self._output, kind, box)

    def count_strays(self, box: Box) -> tuple[int, int]:
        """Return how many pixels of the output are not what the blocks, brought back into its pixels, say; of how many.

        None are compared where the output has the network's own pixels, or is not there yet.

        Args:
            box: in the network's pixels.
        """
        kinds = [kind for kind in self.plan.write if kind != "instances"]
        if self._output is None or not self.plan.is_brought_back or not kinds:
            return 0, 0
        y0, x0, y1, x1 = (round(edge / self.plan.scale) for edge in (box.y0, box.x0, box.y1, box.x1))
        there, frame = Box(y0, x0, y1, x1).intersect(Box.of_shape(self.plan.output_shape)), Frame(self._blocks)
        strays = np.zeros(there.shape, np.bool_)
        for kind in kinds:
            strays |= (self._read_file(self._output, kind, there) != frame.read(kind, there)).any(axis=0)
        return int(np.count_nonzero(strays)), strays.size

    def _read_file(self, output: Path, kind: str, box: Box) -> NDArray[np.uint8]:
        several = len(self.plan.write) > 1
        series = self.plan.write.index(kind) if several else None
        with open_labels(output, replace(self._plane, series=series)) as image:
            planes: NDArray[np.uint8] = np.moveaxis(image.read(box), -1, 0)
        return planes


def verify_written(
    predictor: Predictor, reader: PixelReader, tiles: Sequence[Tile], written: WrittenPlanes, within: Within | None
) -> Verification:
    """Compute tiles in windows of two sizes, and compare.

    Args:
        within: tells where pixels were computed; None for everywhere.

    Raises:
        InputError: the image or what was written cannot be read.
    """
    plan = written.plan
    strides = -(-_MORE // plan.geometry.stride) // 2 * 2 + 1  # odd: half of the true stride would show, too
    more = strides * plan.geometry.stride
    largest, differing, pixels = 0.0, 0, 0
    make = predictor.finish(plan.stored)
    for tile in tiles:
        height, width = tile.write.shape
        # an origin on the stride, too: the same pixels, elsewhere in a larger window
        wide = predictor.logits(predictor.see(reader.read(tile.window.expand(more)), plan.scaling)[None])
        wide = wide[:, :, more : more + height, more : more + width].contiguous()
        near = predictor.logits(predictor.see(reader.read(tile.window), plan.scaling)[None])
        first, second = (predictor.shares(logits) for logits in (near[:, :, :height, :width].contiguous(), wide))
        largest = max(largest, float(np.abs(first - second).max()))
        differs = (make(wide)[0].cpu().numpy() != written.read(tile.write)).any(axis=0)
        if within is not None:
            differs &= within(tile.write)
        strays, compared = written.count_strays(tile.write)
        differing += int(np.count_nonzero(differs)) + strays
        pixels += height * width + compared
    return Verification(len(tiles), plan.output_edge, plan.output_edge + 2 * more, pixels, largest, differing)


def sample_tiles(
    grid: TileGrid, count: int, boxes: Sequence[Box] = (), stretch: tuple[int, int] = (0, 1)
) -> list[Tile]:
    """Return up to `count` tiles, from the first to the last, at even steps in raster order.

    The sample depends on the image's shape and the tile edge alone.

    Args:
        boxes: of the image, in which they are to lie, one tile each; none for the whole image.
        stretch: which of how many, one after the other, that go from the first to the last together.
    """
    total, all_steps = len(boxes) or len(grid), max(1, count * stretch[1] - 1)
    chosen = sorted({(stretch[0] * count + step) * (total - 1) // all_steps for step in range(count)})
    if boxes:
        return [next(grid.tiles_in(boxes[index])) for index in chosen]
    return [grid.tile(*divmod(index, grid.columns)) for index in chosen]
