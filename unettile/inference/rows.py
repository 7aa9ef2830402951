"""Computing a window from top to bottom, so that no feature is computed twice and none is kept for long.

    window rows:   | 0 … 127 | 128 … 255 | …              each piece runs down through the network as far as it can:
    level 0        | conv conv |                          a step waits for the rows below that it needs, and keeps
    level 1          | pool conv conv |                   the few rows above that it will need again; the skip
    level 2              | pool conv conv | up |          connections wait for what comes up to them.

The margin of a window then costs work at its sides and at its top alone, however tall it is, and feature maps are as
tall as a piece. A window has no end: as long as rows are fed, rows come out. Every feature is the same sum as in one
pass over a whole window: the result is equal to it, bit by bit (see `unettile.inference.steady` for why that can
be).

Passes: 1. `record` notes the steps (tape.py); 2. `stages_of` groups steps that need no store between them (stages.py);
3. a `Descent` takes pieces in and carries each stage on as far as its inputs allow.
"""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unettile.inference.stages import Stage, stages_of
from unettile.inference.steady import HalvingMax, OneDnnConv
from unettile.inference.tape import Step, record

PIECES = 32, 128
"""The fewest and the most rows of a window that are fed at once: kernels want enough to do."""

LARGEST_MAP = 2**26
"""Bytes that the rows of a feature map take, unless a piece is to have fewer rows than the fewest."""


class RowStream:
    """A network, ready to compute windows of one width by rows.

    Args:
        shapes: of the network (see `unettile.inference.tape.shapes_of`), to learn its steps from.
        network: with layers that round alike; computes.
        channels, width: of the windows, px.
        piece: rows of the window that are meant to be fed at once; None for as many as suit its width.

    Raises:
        NotByRows: the network cannot be computed by rows.
    """

    def __init__(
        self, shapes: nn.Module, network: nn.Module, channels: int, width: int, piece: int | None = None
    ) -> None:
        tape = record(shapes, (channels, width, width))
        item = next((parameter.element_size() for parameter in shapes.parameters()), 4)
        self.row_bytes = [item * count * edge for count, edge in zip(tape.channels, tape.heights, strict=True)]
        # of the largest feature map, for each row of the window
        self.most_bytes = max(size * edge // width for size, edge in zip(self.row_bytes, tape.heights, strict=True))
        fewest, most = PIECES
        self.piece = piece or max(fewest, min(most, LARGEST_MAP // max(1, self.most_bytes) // 16 * 16))
        self.lost = width - tape.heights[-1]
        self.layers = dict(network.named_modules())
        self.stages = stages_of(tape, self.piece)
        self.heights = tape.heights
        self.maps = len(tape.heights)


class Descent:
    """A window in work: what is kept of it between two pieces of rows."""

    def __init__(self, stream: RowStream) -> None:
        self._stream = stream
        self._queues = {(number, stage.output): Rows() for stage in stream.stages for number in stage.inputs}
        self._done = [0] * stream.maps

    def feed(self, rows: Tensor) -> Tensor | None:
        """Return the rows (1, K, n, w) of the output that are decided now, after those returned before; None for none.

        Args:
            rows: of the window, (1, C, n, W), channels last, after those fed before.
        """
        result = None
        self._push(0, rows)
        for stage in self._stream.stages:
            start = self._done[stage.output]
            stop = stage.reachable(min(self._done[number] for number in stage.inputs))
            if stop > start:
                made = self._compute(stage, start, stop)
                self._push(stage.output, made)
                if stage.output == self._stream.maps - 1:
                    result = made
        return result

    @property
    def waiting(self) -> list[Rows]:
        """The rows that are kept, for each stage and each of its inputs."""
        return list(self._queues.values())

    def _push(self, number: int, rows: Tensor) -> None:
        for (source, _), queue in self._queues.items():
            if source == number:
                queue.push(self._done[number], rows)
        self._done[number] += rows.shape[2]

    def _compute(self, stage: Stage, start: int, stop: int) -> Tensor:
        """Compute the rows start … stop of a stage's output."""
        sources = [self._queues[number, stage.output] for number in stage.inputs]
        spans = stage.spans(start, stop)
        rows = _gather(sources, stage.join, *spans[0])
        own = stage.join is not None
        for step, have, want in zip(stage.steps, spans[:-1], spans[1:], strict=True):
            rows = self._apply(step, rows, have, want, own=own)
            own = own or step.rows.fill is not None or step.rows.up > 1
        following = stage.first_needed(stop)
        for source in sources:
            source.drop(following)
        return rows

    def _apply(self, step: Step, x: Tensor, have: tuple[int, int], want: tuple[int, int], *, own: bool) -> Tensor:
        """Apply a step to the input rows `have`; return the output rows `want`. `own`: nobody else reads the input."""
        rows = step.rows
        if step.layer is None:
            assert step.apply is not None
            return step.apply(x)
        layer = self._stream.layers[step.layer]
        if rows.up > 1:
            y: Tensor = layer(x)
            offset = have[0] * rows.up
            return y[:, :, want[0] - offset : want[1] - offset]
        if rows.fill is not None:
            above = max(0, -rows.first(want[0]))
            if above:
                x = F.pad(x, (0, 0, above, 0), value=rows.fill).contiguous(memory_format=torch.channels_last)
            return _without_row_padding(layer, x)
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


def _pair(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else value
