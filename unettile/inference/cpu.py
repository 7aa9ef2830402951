"""Computing on a CPU: by rows where most of a strip is wanted and its windows are unlike, by tiles elsewhere.

A network that is computed by rows goes down a column of blocks side by side, a row of tiles at a time:

    block 0     | block 1     | block 2          strip 0: tiles 0 … 23      of three blocks of 8 × 8 tiles
    ------------|-------------|-----------       strip 1: tiles 24 … 47     …
    block 33    | block 34    | block 35         strip 8: the first row of tiles of the next three blocks, …

so that the margin costs work at the sides of the column alone, or of its lanes (`unettile.inference.columns`). The bits
are those of tiles.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from unettile.box import Box
from unettile.inference.columns import NEW_ENOUGH, Column, lanes_of, window_around
from unettile.inference.engine import Advise, Cut, Listener, Memory, Patch, Strip, Supply, Task
from unettile.inference.kinds import count_planes
from unettile.inference.recall import RECALL_BYTES, Recall
from unettile.inference.tiles import Tiles
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
            maps, widest = 0, Box(0, 0, cut.height, _widest(task, cut.width))
            for lane in lanes_of(task, widest, torch.get_num_threads()):
                by_rows = self._predictor.by_rows(task.kinds, window_around(task, lane).width)
                assert by_rows is not None
                maps += footprint(by_rows.recording.graph)
            need = max(need, int(_SCRATCH_BY_ROWS * maps))
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
        with Column(task, predictor, scale, recall, torch.get_num_threads()) as column:
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


def _window_width(task: Task, width: int) -> int:
    """Return how wide the window is around the widest of the columns that are at most `width` px wide."""
    geometry = task.tiles.geometry
    return geometry.input_edge(geometry.smallest_output_edge(_widest(task, width)))


def _widest(task: Task, width: int) -> int:
    """Return how wide the widest of the columns is that are at most `width` px wide."""
    grid = task.blocks
    widest = -(-grid.columns // columns_of(grid.columns, grid.edge, width)) * grid.edge
    return min(widest, grid.shape[1])


def columns_of(blocks: int, edge: int, width: int) -> int:
    """Return into how many columns so many blocks side by side are parted, each at most `width` px wide."""
    return -(-blocks // max(1, width // edge))
