"""Computing a large window from top to bottom, so that no feature is computed twice and none is kept for long.

    window rows:   | 0 … 127 | 128 … 255 | …              each piece runs down through the network as far as it can:
    level 0        | conv conv |                          a step waits for the rows below that it needs, and keeps
    level 1          | pool conv conv |                   the few rows above that it will need again; the skip
    level 2              | pool conv conv | up |          connections wait for what comes up to them.

The margin of a window then costs work at its sides, top and bottom alone, however tall it is, and feature maps are as
tall as a piece. Every feature is the same sum as in one pass over the whole window: the result is equal to it, bit by
bit (see `unettile.segmentation.steady` for why that can be).

Passes: 1. `record` notes the steps (tape.py); 2. `_stages` groups steps that need no store between them; 3. `RowStream`
feeds pieces in and carries each stage on as far as its inputs allow.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unettile.segmentation.steady import HalvingMax, OneDnnConv
from unettile.segmentation.tape import Step, Tape, record

PIECE = 128
"""Rows of the window that are fed at once: enough for kernels to be busy, few enough for the processor's cache."""


@dataclass(frozen=True)
class Stage:
    """Steps in a row, of which only the first has several inputs and only the last several consumers.

    Args:
        inputs: numbers of the feature maps that it reads.
        join: cat or add, for several inputs.
        steps: what is done then, one after the other; may be empty after a join.
        output: number of the feature map that it makes.
        multiple: its rows come in multiples of this, so that whoever halves them finds whole pairs.
        piece: rows that it waits for, so that kernels find enough to do.
    """

    inputs: tuple[int, ...]
    join: str | None
    steps: tuple[Step, ...]
    output: int
    multiple: int
    piece: int


class RowStream:
    """A network, ready to compute windows of one shape by rows.

    Args:
        shapes: of the network (see `unettile.segmentation.tape.shapes_of`), to learn its steps from.
        network: with layers that round alike; computes.
        shape: of the windows, (C, H, W).
        piece: rows of the window that are fed at once; None for `PIECE`.

    Raises:
        NotByRows: the network cannot be computed by rows.
    """

    def __init__(
        self, shapes: nn.Module, network: nn.Module, shape: tuple[int, int, int], piece: int | None = None
    ) -> None:
        self._tape = record(shapes, shape)
        self._layers = dict(network.named_modules())
        self._piece = piece or PIECE
        self._stages = _stages(self._tape, self._piece)

    @property
    def output_height(self) -> int:
        return self._tape.heights[-1]

    def run(self, read: Callable[[int, int], Tensor]) -> Iterator[tuple[int, Tensor]]:
        """Yield the first row and the rows (1, K, n, w) of the output, from top to bottom.

        Args:
            read: gives rows of the window, (1, C, n, W), channels last.
        """
        heights = self._tape.heights
        queues = {(number, stage.output): Rows() for stage in self._stages for number in stage.inputs}
        done = [0] * len(heights)
        last = len(heights) - 1
        for y0 in range(0, heights[0], self._piece):
            y1 = min(heights[0], y0 + self._piece)
            done[0] = y1
            _push(queues, 0, y0, read(y0, y1))
            for stage in self._stages:
                start = done[stage.output]
                stop = self._reachable(stage, [done[number] for number in stage.inputs])
                if stop - start < (1 if stop == heights[stage.output] else stage.piece) or stop == start:
                    continue
                rows = self._compute(stage, [queues[number, stage.output] for number in stage.inputs], start, stop)
                done[stage.output] = stop
                if stage.output == last:
                    yield start, rows
                else:
                    _push(queues, stage.output, start, rows)

    def _reachable(self, stage: Stage, available: list[int]) -> int:
        """Return up to which row a stage can be computed, 0 if it had better wait for more."""
        heights = self._tape.heights
        rows = min(available)
        whole = all(count == heights[number] for count, number in zip(available, stage.inputs, strict=True))
        if whole:
            return heights[stage.output]
        for step in stage.steps:
            rows = min(step.rows.ready(rows), heights[step.output])
        return rows // stage.multiple * stage.multiple

    def _compute(self, stage: Stage, sources: list[Rows], start: int, stop: int) -> Tensor:
        """Compute the rows start … stop of a stage's output."""
        heights = self._tape.heights
        spans = [(start, stop)]  # of the output, then of what each step before it must give
        for step in reversed(stage.steps):
            first, last = step.rows.first(spans[0][0]), step.rows.last(spans[0][1] - 1) + 1
            spans.insert(0, (max(0, first), min(heights[step.inputs[0]], last)))
        rows = _gather(sources, stage.join, *spans[0])
        for step, have, want in zip(stage.steps, spans[:-1], spans[1:], strict=True):
            own = step is not stage.steps[0] or stage.join is not None
            rows = self._apply(step, rows, have, want, own=own)
        following = self._next_needed(stage, stop)
        for source in sources:
            source.drop(following)
        return rows

    def _next_needed(self, stage: Stage, row: int) -> int:
        for step in reversed(stage.steps):
            row = max(0, step.rows.first(row))
        return row

    def _apply(self, step: Step, x: Tensor, have: tuple[int, int], want: tuple[int, int], *, own: bool) -> Tensor:
        """Apply a step to the input rows `have`; return the output rows `want`. `own`: nobody else reads the input."""
        rows = step.rows
        if rows.up > 1:
            assert step.layer is not None
            y: Tensor = self._layers[step.layer](x)
            offset = have[0] * rows.up
            return y[:, :, want[0] - offset : want[1] - offset]
        if rows.fill is not None:
            above = max(0, -rows.first(want[0]))
            below = max(0, rows.last(want[1] - 1) + 1 - have[1])
            if above or below:
                x = F.pad(x, (0, 0, above, below), value=rows.fill).contiguous(memory_format=torch.channels_last)
            assert step.layer is not None
            return _without_row_padding(self._layers[step.layer], x)
        if step.layer is None:
            assert step.apply is not None
            return step.apply(x)
        layer = self._layers[step.layer]
        if isinstance(layer, nn.ReLU) and not own:
            return F.relu(x)  # rows that others read, too, are not overwritten
        if isinstance(layer, nn.LeakyReLU) and not own:
            return F.leaky_relu(x, layer.negative_slope)
        result: Tensor = layer(x)
        return result


class Rows:
    """A queue of rows (1, C, n, W), numbered from the top of their feature map."""

    def __init__(self) -> None:
        self._pieces: deque[tuple[int, Tensor]] = deque()

    def push(self, start: int, rows: Tensor) -> None:
        self._pieces.append((start, rows))

    def drop(self, before: int) -> None:
        """Forget pieces that lie above a row."""
        while self._pieces and self._pieces[0][0] + self._pieces[0][1].shape[2] <= before:
            self._pieces.popleft()

    def parts(self, start: int, stop: int) -> list[tuple[int, Tensor]]:
        """Return what the rows start … stop consist of: places counted from `start`, and rows."""
        found = []
        for first, rows in self._pieces:
            low, high = max(start, first), min(stop, first + rows.shape[2])
            if low < high:
                found.append((low - start, rows[:, :, low - first : high - first]))
        return found


def _gather(sources: list[Rows], join: str | None, start: int, stop: int) -> Tensor:
    """Return rows of one feature map, or of several joined; copied once at most."""
    parts = [source.parts(start, stop) for source in sources]
    if join is None and len(parts[0]) == 1:
        return parts[0][0][1]
    samples = [found[0][1] for found in parts]
    channels = [int(sample.shape[1]) for sample in samples]
    one = samples[0]
    total = sum(channels) if join == "cat" else channels[0]
    shape = (1, total, stop - start, int(one.shape[3]))
    joined = torch.empty(shape, dtype=one.dtype, device=one.device, memory_format=torch.channels_last)
    first = 0
    for number, (found, count) in enumerate(zip(parts, channels, strict=True)):
        for place, rows in found:
            target = joined[:, first : first + count, place : place + rows.shape[2]]
            if join == "add" and number:
                target.add_(rows)
            else:
                target.copy_(rows)
        if join == "cat":
            first += count
    return joined


def _without_row_padding(layer: nn.Module, x: Tensor) -> Tensor:
    """Apply a convolution or a pooling whose padding above and below is in `x` already."""
    if isinstance(layer, OneDnnConv):
        return layer.padded(x, (0, layer.padding[1]))
    result: Tensor
    if isinstance(layer, HalvingMax):
        result = layer(x)
    elif isinstance(layer, nn.MaxPool2d):
        padding = (0, _pair(layer.padding)[1])
        result = F.max_pool2d(x, layer.kernel_size, layer.stride, padding, layer.dilation, layer.ceil_mode)
    else:
        assert isinstance(layer, nn.Conv2d) and not isinstance(layer.padding, str)
        padding = (0, _pair(layer.padding)[1])
        result = F.conv2d(x, layer.weight, layer.bias, layer.stride, padding, layer.dilation, layer.groups)
    return result


def _stages(tape: Tape, piece: int) -> tuple[Stage, ...]:
    """Group the steps: a stage ends where several read its output, where feature maps join, and after what shrinks."""
    readers = [0] * len(tape.heights)
    for step in tape.steps:
        for number in step.inputs:
            readers[number] += 1
    groups: list[tuple[tuple[int, ...], str | None, list[Step]]] = []
    ending: dict[int, int] = {}  # feature map that a group ends with, and the group
    for step in tape.steps:
        before = ending.get(step.inputs[0]) if step.join is None and readers[step.inputs[0]] == 1 else None
        if before is not None and _continues(groups[before][2], step):
            groups[before][2].append(step)
            ending[step.output] = before
        else:
            ending[step.output] = len(groups)
            groups.append((step.inputs, step.join, [] if step.join else [step]))
    multiples = _multiples(tape)
    outputs = {group: number for number, group in ending.items()}  # the last one noted is the group's output
    stages = []
    for index, (inputs, join, steps) in enumerate(groups):
        output = outputs[index]
        least = piece * tape.heights[output] // tape.heights[0] // 2
        stages.append(Stage(inputs, join, tuple(steps), output, multiples[output], least))
    return tuple(stages)


def _continues(steps: list[Step], step: Step) -> bool:
    """Whether a step goes on with a group: not if rows would be read again that were made smaller, and so are cheap."""
    return not (
        steps and all(not one.rows.overlaps for one in steps) and step.rows.overlaps and steps[-1].rows.down > 1
    )


def _multiples(tape: Tape) -> list[int]:
    """Return of how many rows each feature map's pieces should be multiples, for the steps that read them."""
    multiples = [1] * len(tape.heights)
    for step in reversed(tape.steps):
        need = multiples[step.output] * step.rows.down
        need = -(-need // step.rows.up)
        for number in step.inputs:
            multiples[number] = math.lcm(multiples[number], need)
    return multiples


def _push(queues: dict[tuple[int, int], Rows], number: int, start: int, rows: Tensor) -> None:
    for (source, _), queue in queues.items():
        if source == number:
            queue.push(start, rows)


def _pair(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else value
