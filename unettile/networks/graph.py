"""Graph: what a network does to a window, step by step, in whole numbers alone.

Each step says which rows of its input a row of its output depends on. What follows from that, without a tensor: the
margin and the receptive field, and how a window is computed from top to bottom, piece by piece
(`unettile.inference.rows`).

    Eight rows of a window go down through a network of two valid 3×3 convolutions around a 2×2 pooling:

    window        rows 0 … 7
    convolution   a row o depends on the rows o … o + 2: rows 0 … 5 are decided; 6 and 7 wait for row 8
    pooling       a row o depends on the rows 2o and 2o + 1: rows 0 … 2
    convolution   row 0 alone: row 1 would need row 3 of the pooling

    Eight more rows, 8 … 15, and the first convolution decides its rows 6 … 13, for which it keeps rows 6 and 7 of the
    window; the pooling gives 3 … 6, the last convolution 1 … 4. No row is computed twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

SHORT = 48
"""Rows of a piece of a feature map, below which computing the few at its seam again costs more than keeping them."""

PIECES = 32, 128
"""The fewest and the most rows of a window that are fed at once: kernels want enough to do."""

LARGEST_MAP = 2**26
"""Bytes that the rows of a feature map take, unless a piece is to have fewer rows than the fewest."""


@dataclass(frozen=True)
class RowMap:
    """Which rows of the input a row of the output depends on.

    Output row o depends on the rows from ⌊(o · down - before) / up⌋ to ⌊(o · down + after) / up⌋, of which those
    outside the input are `fill`, or do not exist for enlarging steps (`up` > 1).

    Args:
        down, up: one of them is 1.
        before, after: reach around the row, in input rows · up.
        fill: value of rows outside the input, or None if the step needs none.

    >>> conv = RowMap(after=2)  # 3 rows, not padded
    >>> conv.first(4), conv.last(4), conv.ready(8)
    (4, 6, 6)
    """

    down: int = 1
    up: int = 1
    before: int = 0
    after: int = 0
    fill: float | None = None

    @property
    def overlaps(self) -> bool:
        """Whether neighbouring output rows share input rows."""
        return self.before + self.after >= self.down

    def first(self, row: int) -> int:
        """Return the first input row that an output row depends on; below 0 for rows before the input."""
        return (row * self.down - self.before) // self.up

    def last(self, row: int) -> int:
        """Return the last input row that an output row depends on."""
        return (row * self.down + self.after) // self.up

    def ready(self, rows: int) -> int:
        """Return how many output rows the first `rows` rows of the input decide."""
        return max(0, -((self.after - rows * self.up) // self.down)) if rows else 0


POINTWISE = RowMap()


@dataclass(frozen=True)
class Step:
    """One step: an operation on one or more feature maps.

    Args:
        inputs, output: numbers of the feature maps; 0 is the window.
        join: cat or add, for several inputs; None for one.
        rows: of an operation on one input.
        layer: name of the module that does it; None for a function, or a join.
    """

    inputs: tuple[int, ...]
    output: int
    join: str | None = None
    rows: RowMap = POINTWISE
    layer: str | None = None


@dataclass(frozen=True)
class Passage:
    """Steps in a row between which no rows are kept: only the first has several inputs, only the last several readers.

    Args:
        inputs: numbers of the feature maps that it reads.
        join: cat or add, for several inputs.
        steps: what is done then, one after the other; may be empty after a join.
        output: number of the feature map that it makes.
    """

    inputs: tuple[int, ...]
    join: str | None
    steps: tuple[Step, ...]
    output: int

    def reachable(self, rows: int) -> int:
        """Return how many rows of the output the first `rows` rows of the inputs decide."""
        for step in self.steps:
            rows = step.rows.ready(rows)
        return rows

    def spans(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Return the rows that the output's rows start … stop need of the input, and of what each step makes."""
        spans = [(start, stop)]
        for step in reversed(self.steps):
            first, last = step.rows.first(spans[0][0]), step.rows.last(spans[0][1] - 1) + 1
            spans.insert(0, (max(0, first), last))
        return spans

    def first_needed(self, row: int) -> int:
        """Return the first row of the input that the output's rows from `row` on need."""
        for step in reversed(self.steps):
            row = max(0, step.rows.first(row))
        return row


@dataclass(frozen=True)
class Graph:
    """The steps of a network in order, for windows of one size.

    Args:
        steps: one for each feature map but the window.
        heights, channels: of all feature maps, the window's first.
        item_bytes: of a number in them.
        fed: rows of the window that are fed at once; None for as many as suit its width.
    """

    steps: tuple[Step, ...]
    heights: tuple[int, ...]
    channels: tuple[int, ...]
    item_bytes: int = 4
    fed: int | None = None

    @property
    def lost(self) -> int:
        """How many px the output is smaller than the window, on each side."""
        return (self.heights[0] - self.heights[-1]) // 2

    def reach(self, first: int, last: int) -> tuple[int, int]:
        """Return the first and the last row of the window on which the rows first … last of the output depend.

        Rows of the window are counted from where the output's row 0 lies: without padding, `lost` below its own.
        """
        needs: dict[int, tuple[int, int]] = {len(self.heights) - 1: (first, last)}
        for step in reversed(self.steps):
            if step.output not in needs:
                continue  # nothing of the output depends on it
            low, high = needs[step.output]
            low, high = step.rows.first(low), step.rows.last(high)
            for number in step.inputs:
                before = needs.get(number, (low, high))
                needs[number] = min(low, before[0]), max(high, before[1])
        return needs[0][0] - self.lost, needs[0][1] - self.lost

    @property
    def is_padded(self) -> bool:
        """Whether a step sees rows outside its input."""
        return any(step.rows.before > 0 and step.rows.fill is not None for step in self.steps)

    def reach_beyond(self, stride: int) -> int:
        """Return the px by which `stride` rows of the output look past themselves, on the side that they look
        furthest."""
        low, high = self.reach(0, stride - 1)
        return max(-low, high - stride + 1)

    def receptive_field(self, stride: int) -> int:
        """Return the edge, px, of the largest square of the image on which one pixel of the output depends."""
        reaches = (self.reach(phase, phase) for phase in range(stride))
        return max(high - low + 1 for low, high in reaches)

    @property
    def row_bytes(self) -> list[int]:
        """Bytes of a row of each feature map; maps are square."""
        return [self.item_bytes * count * edge for count, edge in zip(self.channels, self.heights, strict=True)]

    @property
    def most_bytes(self) -> int:
        """Bytes of the largest feature map, for each row of the window."""
        return max(size * edge // self.heights[0] for size, edge in zip(self.row_bytes, self.heights, strict=True))

    @cached_property
    def piece(self) -> int:
        """How many rows of the window are meant to be fed at once."""
        fewest, most = PIECES
        return self.fed or max(fewest, min(most, LARGEST_MAP // max(1, self.most_bytes) // 16 * 16))

    @cached_property
    def passages(self) -> tuple[Passage, ...]:
        """The steps in groups. A group ends where several read its output, where feature maps join, and where it is
        cheaper to keep rows than to compute those at the seam of two pieces again."""
        readers = [0] * len(self.heights)
        scale = [Fraction(1)] * len(self.heights)  # rows of a feature map for each of the window
        for step in self.steps:
            for number in step.inputs:
                readers[number] += 1
            scale[step.output] = scale[step.inputs[0]] * step.rows.up / step.rows.down
        groups: list[tuple[tuple[int, ...], str | None, list[Step]]] = []
        ending: dict[int, int] = {}  # feature map that a group ends with, and the group
        for step in self.steps:
            before = ending.get(step.inputs[0]) if step.join is None and readers[step.inputs[0]] == 1 else None
            short = step.rows.overlaps and self.piece * scale[step.inputs[0]] < SHORT
            if before is not None and not (short and groups[before][2]):
                groups[before][2].append(step)
                ending[step.output] = before
            else:
                ending[step.output] = len(groups)
                groups.append((step.inputs, step.join, [] if step.join else [step]))
        outputs = {group: number for number, group in ending.items()}  # the last one noted is the group's output
        return tuple(
            Passage(inputs, join, tuple(steps), outputs[index]) for index, (inputs, join, steps) in enumerate(groups)
        )
