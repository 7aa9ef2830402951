"""Computing: a block, or some of its tiles, from the pixels around them.

pixels of a block + margin --cut--> windows --scale--> batch --Predictor.writing--> tiles --> block
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.inference.staging import Staged
from unettile.segmentation.plan import Plan
from unettile.segmentation.recall import Recall, Window
from unettile.tiling import Block, Tile

Scale = Callable[[NDArray[np.generic]], NDArray[np.float32]]
Predict = Callable[[NDArray[np.float32]], NDArray[np.uint8]]


@dataclass(frozen=True)
class BlockPixels:
    """What is to be computed of a block, and the pixels for it.

    Args:
        tiles: to compute, in raster order; not those that lie outside the mask.
        region: of the pixels: around the windows of the tiles.
        pixels: (h, w, C) in the slide's own type.
        inside: (h, w) of the block, where the mask is; None for everywhere.
        part: what an earlier process stored of the block, and how many of its tiles; None if nothing.
        staged: the pixels on the device that computes; None if they are not there.
    """

    block: Block
    tiles: Sequence[Tile]
    region: Box
    pixels: NDArray[np.generic]
    inside: NDArray[np.bool_] | None = None
    part: tuple[NDArray[np.uint8], int] | None = None
    staged: Staged | None = None

    @property
    def start(self) -> int:
        """Number of the first tile to compute."""
        return 0 if self.part is None else self.part[1]


class Computer(Protocol):
    """Computes the tiles of blocks."""

    def fill(self, work: BlockPixels, result: NDArray[np.uint8], start: int = 0) -> Iterator[int]:
        """Fill in the tiles of a block from number `start`; yield now and then how many are done.

        Args:
            result: (h, w) or (K, h, w) of the block; changed in place.
        """
        ...


@dataclass(frozen=True)
class TileComputer:
    """Computes the tiles of blocks.

    Args:
        scale: pixels as the network sees them.
        predict: a batch (N, H, W, C) → (N, h, w) or (N, K, h, w).
        batch: windows at once.
    """

    plan: Plan
    scale: Scale
    predict: Predict
    batch: int
    recall: Recall

    def fill(self, work: BlockPixels, result: NDArray[np.uint8], start: int = 0) -> Iterator[int]:
        """Fill in the tiles of a block from number `start`; yield after each batch how many are done.

        Args:
            result: (h, w) or (K, h, w) of the block; changed in place.
        """
        waiting: list[Window] = []
        for number, tile in enumerate(work.tiles[start:], start + 1):
            window = self.recall.window(work.pixels[tile.window.relative_to(work.region).slices])
            window.tiles.append(tile)
            if window.output is not None:
                _place(window, work.block.box, result)
            elif len(window.tiles) == 1:
                waiting.append(window)
            last = number == len(work.tiles)
            if len(waiting) == self.batch or (last and waiting):
                self._compute(waiting)
                for one in waiting:
                    _place(one, work.block.box, result)
                waiting.clear()
                yield number
            elif last:
                yield number

    def _compute(self, windows: list[Window]) -> None:
        scaled = np.stack([self.scale(window.pixels) for window in windows])
        # the shape stays the same to the last: kernels may be chosen by it
        padding = np.repeat(scaled[-1:], self.batch - len(windows), axis=0)
        outputs = self.predict(np.concatenate([scaled, padding]) if len(padding) else scaled)
        edge = self.plan.tiles.write_edge
        for window, output in zip(windows, outputs, strict=False):
            window.output = np.ascontiguousarray(output[..., :edge, :edge])


def background(plan: Plan, box: Box) -> NDArray[np.uint8]:
    """Return pixels where nothing is computed, (h, w) or (K, h, w): class 0, its probability 255, depth 0."""
    planes = () if plan.planes == 1 else (plan.planes,)
    result = np.zeros((*planes, *box.shape), np.uint8)
    if "probabilities" in plan.stored:
        result[plan.planes_with("probabilities").start] = 255
    return result


def clear_outside(plan: Plan, box: Box, inside: NDArray[np.bool_] | None, pixels: NDArray[np.uint8]) -> None:
    """Turn what of a box lies outside the mask into background, so that it does not depend on where tiles end.

    Args:
        inside: (h, w), where the mask is; None for everywhere.
        pixels: (h, w) or (K, h, w); changed in place.
    """
    if inside is not None:
        np.copyto(pixels, background(plan, box), where=~inside)


def _place(window: Window, box: Box, result: NDArray[np.uint8]) -> None:
    """Copy a window's output to all tiles that wait for it."""
    assert window.output is not None
    for tile in window.tiles:
        place = tile.write.relative_to(box).slices
        result[(..., *place)] = window.output[..., : tile.write.height, : tile.write.width]
    window.tiles.clear()
