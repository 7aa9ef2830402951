"""Computing strips by rows.

pixels of a strip + margin -- some rows --scale-- Predictor.by_rows --> rows --> blocks

The bits are those of tiles. Rows waste less on margins; tiles need not be computed where windows are alike, or lie
outside a mask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.inference.rowpredict import RowDescent, RowPredictor
from unettile.segmentation.compute import Scale
from unettile.segmentation.plan import Plan
from unettile.segmentation.recall import Recall
from unettile.segmentation.strips import NOWHERE, Strip

LEAST_TILES = 4
"""Of the blocks of a strip that is computed by rows: noting the steps of a network takes time, too."""

NEW_ENOUGH = 0.75
"""Share of a strip's windows that are to be computed and unlike each other, from which on it is computed by rows."""


@dataclass
class RowComputer:
    """Computes strips as parts of one window each, which goes on from a strip to the one below it.

    Args:
        scale: pixels as the network sees them.
        by_rows: for a window's width what computes it; None if the network cannot be computed so.
    """

    plan: Plan
    scale: Scale
    by_rows: Callable[[int], RowPredictor | None]
    recall: Recall
    _descent: RowDescent | None = field(default=None, init=False)
    _below: Box = field(default=NOWHERE, init=False)  # where the window goes on, down to what has come out
    _early: NDArray[np.uint8] | None = field(default=None, init=False)  # what has come out of it

    def suits(self, strip: Strip) -> bool:
        """Whether a strip is better computed so: most of it is wanted, and most windows are new."""
        suits = strip.whole and self._is_new(strip) and strip.region.contains(self._window(strip.box))
        if not suits:
            self._descent = self._early = None
        return suits

    def _is_new(self, strip: Strip) -> bool:
        windows = [strip.pixels[tile.window.relative_to(strip.region).slices] for _, tile in strip.tiles]
        enough = NEW_ENOUGH * len(list(self.plan.tiles.tiles_in(strip.box)))
        if sum(len(block.tiles) for block in strip.blocks) < LEAST_TILES or self.recall.new_kinds(windows) < enough:
            return False
        return self.by_rows(self._window(strip.box).width) is not None

    def fill(self, strip: Strip) -> Iterator[int]:
        """Fill in a strip; yield after some rows how many of its tiles are done: none, and at last all."""
        window, box = self._window(strip.box), strip.box
        if self._descent is None or (self._below.x0, self._below.x1, self._below.y0) != (box.x0, box.x1, box.y0):
            predictor = self.by_rows(window.width)
            assert predictor is not None
            self._descent, self._early = predictor.begin(window.y0), None
        if self._early is not None:
            strip.place(self._below, self._early[..., : box.width])
        left = window.x0 - strip.region.x0

        def read(y0: int, y1: int) -> NDArray[np.float32]:
            top = strip.region.y0
            return self.scale(strip.pixels[y0 - top : y1 - top, left : left + window.width])

        self._early = None
        self._below = Box(box.y1, box.x0, box.y1, box.x1)
        for y0, rows in self._descent.run(read, window.y1):
            y1 = y0 + rows.shape[-2]
            strip.place(Box(y0, box.x0, y1, box.x1), rows[..., : box.width])
            if y1 > box.y1:
                early = rows[..., max(0, box.y1 - y0) :, : box.width]
                self._early = early if self._early is None else np.concatenate([self._early, early], axis=-2)
                self._below = Box(box.y1, box.x0, y1, box.x1)
            yield 0
        yield len(strip.tiles)

    def _window(self, box: Box) -> Box:
        """Return the smallest legal window around a box, which begins on the grid of tiles."""
        geometry = self.plan.geometry
        height, width = (geometry.smallest_output_edge(edge) for edge in box.shape)
        return Box(box.y0, box.x0, box.y0 + height, box.x0 + width).expand(geometry.margin)
