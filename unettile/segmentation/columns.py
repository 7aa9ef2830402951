"""Columns: blocks side by side that are computed by rows as one window, from the top of the image to its bottom."""

from __future__ import annotations

from collections.abc import Iterator

from unettile.inference.predict import Predictor
from unettile.inference.rows import PIECES
from unettile.segmentation.plan import Plan
from unettile.tiling import Block, BlockGrid

COLUMN_WIDTH = 9216
"""Of the blocks side by side, px, at most: wider columns save little margin and need more memory."""

MAP_BYTES = 2**27
"""Of the largest feature map of a column, with the fewest rows that are fed at once."""

BESIDE_BYTES = 2**26
"""Of the planes of the blocks side by side, more than one: a few such rows of blocks are in memory at once."""


def blocks_by_column(grid: BlockGrid, indices: range, width: int) -> Iterator[list[Block]]:
    """Yield blocks side by side, column by column and each from top to bottom.

    Args:
        indices: of the blocks that are wanted.
        width: most that blocks side by side have, px; one block is always taken.
    """
    count = _count(grid, width)
    for column in range(count):
        places = range(column * grid.columns // count, (column + 1) * grid.columns // count)
        for row in range(grid.rows):
            beside = [row * grid.columns + place for place in places if row * grid.columns + place in indices]
            if beside:
                yield [grid[index] for index in beside]


def column_width(plan: Plan, predictor: Predictor) -> int:
    """Return how wide a column is at most, px; 0 if the blocks of a run are not computed by rows."""
    edge = plan.blocks.edge
    if predictor.by_rows(plan.stored, window_width(plan, edge)) is None:
        return 0
    for width in range(COLUMN_WIDTH // edge * edge, edge, -edge):
        if width * edge * plan.planes > BESIDE_BYTES:
            continue
        rows = predictor.by_rows(plan.stored, window_width(plan, width))
        if rows is not None and rows.stream.most_bytes * PIECES[0] <= MAP_BYTES:
            return width
    return edge


def window_width(plan: Plan, width: int) -> int:
    """Return how wide the window is around the widest of the columns that are at most `width` px wide."""
    grid, geometry = plan.blocks, plan.geometry
    widest = -(-grid.columns // _count(grid, width)) * grid.edge
    return geometry.input_edge(geometry.smallest_output_edge(min(widest, grid.shape[1])))


def _count(grid: BlockGrid, width: int) -> int:
    return -(-grid.columns // max(1, width // grid.edge))
