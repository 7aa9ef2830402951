"""Computing on a CPU: by rows where most of a strip is wanted and its windows are unlike, by tiles elsewhere.

A network that is computed by rows goes down a column of blocks side by side, a row of tiles at a time:

    block 0     | block 1     | block 2          strip 0: tiles 0 … 23      of three blocks of 8 × 8 tiles
    ------------|-------------|-----------       strip 1: tiles 24 … 47     …
    block 33    | block 34    | block 35         strip 8: the first row of tiles of the next three blocks, …

so that the margin costs work at the sides of the column alone. The bits are those of tiles.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.inference.engine import Advise, Cut, Listener, Memory, Patch, Strip, Supply, Task
from unettile.inference.kinds import count_planes
from unettile.inference.recall import RECALL_BYTES, Recall
from unettile.inference.rows import RowRun
from unettile.inference.tiles import Scale, Tiles
from unettile.networks.footprint import footprint
from unettile.networks.graph import PIECES

if TYPE_CHECKING:
    from unettile.inference.predict import Predictor

TILE_EDGE = 384  # px that a tile writes

COLUMN_WIDTH = 9216
"""Of the blocks side by side, px, at most: wider columns save little margin and need more memory."""

MAP_BYTES = 2**27
"""Of the largest feature map of a column, with the fewest rows that are fed at once."""

BESIDE_BYTES = 2**26
"""Of the planes of the blocks side by side, more than one: a few such rows of blocks are in memory at once."""

LEAST_TILES = 4
"""Of an image that is computed by rows: noting the steps of a network takes time, too."""

NEW_ENOUGH = 0.75
"""Share of a strip's windows that are to be computed and unlike each other, from which on it is computed by rows."""

_SCRATCH = 1.3  # times the feature maps: what oneDNN and the allocator take beside them
_SCRATCH_BY_ROWS = 1.5  # the same, where pieces of many sizes leave gaps between them; measured


class CpuEngine:
    """Computes on the processor.

    Args:
        predictor: the model there.
        recall_bytes: of windows that are remembered in order not to be computed twice; 0 for none.
    """

    readers = 1
    writers = 1
    mirrors = False

    def __init__(self, predictor: Predictor, recall_bytes: int = RECALL_BYTES) -> None:
        self._predictor = predictor
        self._recall_bytes = recall_bytes

    def choose_edge(self, shape: tuple[int, int]) -> int:
        """Return the paper's 388 px, or what the margin makes worth while, or the image allows."""
        return self._predictor.fitting_edge(TILE_EDGE, shape)

    def smaller_edge(self, output_edge: int) -> int | None:
        """Return None: what does not fit into the machine's memory is refused."""
        return None

    def cut(self, task: Task) -> Cut:
        """Return rows of tiles of as many blocks side by side as memory allows, or whole blocks."""
        edge = task.blocks.edge
        if len(task.tiles) < LEAST_TILES or self._predictor.by_rows(task.kinds, _window_width(task, edge)) is None:
            return Cut(edge, edge)
        return Cut(self._column_width(task), task.tiles.write_edge, NEW_ENOUGH)

    def prepare(self, task: Task, batch: int, advise: Advise) -> int:
        """Return the batch that is wished for."""
        return batch

    def memory(self, task: Task, batch: int) -> Memory:
        """Return the bytes of the parameters and of the feature maps of a batch, or of a column."""
        need = self._predictor.maps_bytes(task.window_edge, _SCRATCH) * batch
        cut = self.cut(task)
        if cut.height < task.blocks.edge or cut.width > task.blocks.edge:
            by_rows = self._predictor.by_rows(task.kinds, _window_width(task, cut.width))
            assert by_rows is not None
            need = max(need, int(_SCRATCH_BY_ROWS * footprint(by_rows.recording.graph)))
        return Memory(self._predictor.parameter_bytes + need)

    def stage(self, strip: Strip) -> Strip:
        return strip

    def run(self, task: Task, supply: Supply, batch: int, listener: Listener) -> Iterator[Patch]:
        """Compute strips; see `Engine.run`."""
        predictor = self._predictor
        planes = count_planes(task.kinds, len(predictor.checkpoint.classes))
        recall = Recall(planes * task.tiles.write_edge**2, self._recall_bytes)

        def scale(pixels: NDArray[np.generic]) -> NDArray[np.float32]:
            with listener.part("normalise"):
                return predictor.see(pixels, task.scaling)

        cut = self.cut(task)
        if cut.height < task.blocks.edge:  # no more windows at once than a strip has of a block
            batch = min(batch, task.blocks.edge // task.tiles.write_edge)
        tiles = Tiles(task, scale, partial(predictor.planes, task.kinds), batch, recall)
        column = Column(task, predictor, scale, recall)
        while (strip := supply.take()) is not None:
            yield from (column if column.suits(strip) else tiles).compute(strip)

    def _column_width(self, task: Task) -> int:
        edge, planes = task.blocks.edge, count_planes(task.kinds, len(self._predictor.checkpoint.classes))
        for width in range(COLUMN_WIDTH // edge * edge, edge, -edge):
            if width * edge * planes > BESIDE_BYTES:
                continue
            by_rows = self._predictor.by_rows(task.kinds, _window_width(task, width))
            if by_rows is not None and by_rows.recording.graph.most_bytes * PIECES[0] <= MAP_BYTES:
                return width
        return edge


@dataclass
class Column:
    """A window that goes down a column of blocks, from a strip to the one below it.

    Args:
        scale: pixels as the network sees them.
    """

    task: Task
    predictor: Predictor
    scale: Scale
    recall: Recall
    _run: RowRun | None = field(default=None, init=False)
    _below: Box = field(default=Box(0, 0, 0, 0), init=False)  # where the window goes on, down to what has come out
    _early: NDArray[np.uint8] | None = field(default=None, init=False)  # what has come out of it

    def suits(self, strip: Strip) -> bool:
        """Whether a strip is better computed so: most of it is wanted, and most windows are new."""
        suits = strip.whole and self._is_new(strip) and strip.region.contains(self._window(strip.box))
        if not suits:
            self._run = self._early = None
        return suits

    def compute(self, strip: Strip) -> Iterator[Patch]:
        """Yield rows of a strip as they come out; its tiles are done together, with the last of them."""
        window, box = self._window(strip.box), strip.box
        if self._run is None or (self._below.x0, self._below.x1, self._below.y0) != (box.x0, box.x1, box.y0):
            by_rows = self.predictor.by_rows(self.task.kinds, window.width)
            assert by_rows is not None
            self._run, self._early = by_rows.begin(window.y0), None
        if self._early is not None:
            ahead = self._below.intersect(box)
            yield Patch(strip, ahead, self._early[:, : ahead.height, : box.width], len(strip.tiles) * (ahead == box))
        left = window.x0 - strip.region.x0

        def read(y0: int, y1: int) -> NDArray[np.float32]:
            top = strip.region.y0
            return self.scale(strip.pixels[y0 - top : y1 - top, left : left + window.width])

        self._early = None
        self._below = Box(box.y1, box.x0, box.y1, box.x1)
        for y0, rows in self._run.run(read, window.y1):
            y1 = y0 + rows.shape[1]
            if y1 > box.y1:
                early = rows[:, max(0, box.y1 - y0) :, : box.width]
                self._early = early if self._early is None else np.concatenate([self._early, early], axis=1)
                self._below = Box(box.y1, box.x0, y1, box.x1)
            if y0 < box.y1:
                part = Box(y0, box.x0, min(y1, box.y1), box.x1)
                done = len(strip.tiles) if part.y1 == box.y1 else 0
                yield Patch(strip, part, rows[:, : part.height, : box.width], done)

    def _is_new(self, strip: Strip) -> bool:
        windows = [strip.pixels[tile.window.relative_to(strip.region).slices] for tile in strip.tiles]
        enough = NEW_ENOUGH * len(list(self.task.tiles.tiles_in(strip.box)))
        if self.recall.new_kinds(windows) < enough:
            return False
        return self.predictor.by_rows(self.task.kinds, self._window(strip.box).width) is not None

    def _window(self, box: Box) -> Box:
        """Return the smallest legal window around a box, which begins on the grid of tiles."""
        geometry = self.task.tiles.geometry
        height, width = (geometry.smallest_output_edge(edge) for edge in box.shape)
        return Box(box.y0, box.x0, box.y0 + height, box.x0 + width).expand(geometry.margin)


def _window_width(task: Task, width: int) -> int:
    """Return how wide the window is around the widest of the columns that are at most `width` px wide."""
    grid, geometry = task.blocks, task.tiles.geometry
    widest = -(-grid.columns // columns_of(grid.columns, grid.edge, width)) * grid.edge
    return geometry.input_edge(geometry.smallest_output_edge(min(widest, grid.shape[1])))


def columns_of(blocks: int, edge: int, width: int) -> int:
    """Return into how many columns so many blocks side by side are parted, each at most `width` px wide."""
    return -(-blocks // max(1, width // edge))
