"""Computing a window from top to bottom, so that no feature is computed twice and none is kept for long.

    window rows:   | 0 … 127 | 128 … 255 | …              each piece runs down through the network as far as it can:
    level 0        | conv conv |                          a step waits for the rows below that it needs, and keeps
    level 1          | pool conv conv |                   the few rows above that it will need again; the skip
    level 2              | pool conv conv | up |          connections wait for what comes up to them.

The margin of a window then costs work at its sides and at its top alone, however tall it is, and feature maps are as
tall as a piece. A window has no end: as long as rows are fed, rows come out. Every feature is the same sum as in one
pass over a whole window: the result is equal to it, bit by bit (see `unettile.inference.steady` for why that can be).

What depends on what is told by the graph of the network (`unettile.networks.graph`, with an example of eight rows);
here are the tensors.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from unettile.inference.steady import HalvingMax, OneDnnConv
from unettile.networks.graph import Passage, Step
from unettile.networks.record import Recording

ReadRows = Callable[[int, int], NDArray[np.float32]]
"""Gives the rows y0 … y1 of a scaled window, (n, W, C) float32."""

_EVEN = 16  # rows: pieces of as many give every level of a network whole rows


@dataclass(frozen=True)
class ByRows:
    """A network that is computed by rows, in windows of one width.

    Args:
        recording: of the network, for this width.
        network: with layers that round alike.
        margin: px.
        dtype: in which the network computes.
        finish: turns logits (N, K, h, w) into planes (N, P, h, w).
    """

    recording: Recording
    network: nn.Module
    margin: int
    dtype: torch.dtype
    finish: Callable[[Tensor], Tensor]

    def begin(self, y0: int) -> RowRun:
        """Return a window whose first row, in its margin, is y0."""
        return RowRun(self, y0)


class RowRun:
    """A window in work: what is kept of it between two pieces of rows.

    Args:
        y0: its first row, counted from wherever the caller counts.
    """

    def __init__(self, by_rows: ByRows, y0: int) -> None:
        graph = by_rows.recording.graph
        self._by_rows = by_rows
        self._graph = graph
        self._layers = dict(by_rows.network.named_modules())
        self._queues = {(number, passage.output): Rows() for passage in graph.passages for number in passage.inputs}
        self._done = [0] * len(graph.heights)
        self._cut = by_rows.margin - graph.lost  # a network that pads puts its margin out, too
        self._next = y0 + graph.lost
        self._top = y0 + by_rows.margin
        self.y1 = y0  # up to which row it was read

    def run(self, read: ReadRows, y1: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Read on to row y1; yield the first row and the planes (P, n, w) of what has come out.

        When the rows down to y1 are those of a legal window, so are the rows that have come out by then.
        """
        cut = self._cut
        count = -(-(y1 - self.y1) // self._graph.piece)
        step = -(-(y1 - self.y1) // max(1, count) // _EVEN) * _EVEN
        first = (y1 - self.y1) % max(1, step) or step  # the odd piece comes first: all others are in the same phase
        with torch.inference_mode():
            while self.y1 < y1:
                rows = torch.from_numpy(read(self.y1, self.y1 + first))[None].permute(0, 3, 1, 2)
                self.y1, first = self.y1 + first, step
                window = rows.to(self._by_rows.dtype).contiguous(memory_format=torch.channels_last)
                logits = self.feed(window)
                if logits is None:
                    continue
                start = max(0, self._top - self._next)
                place, self._next = max(self._next, self._top), self._next + logits.shape[2]
                if place < self._next:
                    kept = logits[:, :, start:, cut : logits.shape[3] - cut]
                    yield place, self._by_rows.finish(kept.float().contiguous())[0].numpy()

    def feed(self, rows: Tensor) -> Tensor | None:
        """Return the rows (1, K, n, w) of the output that are decided now, after those returned before; None for none.

        Args:
            rows: of the window, (1, C, n, W), channels last, after those fed before.
        """
        result = None
        self._push(0, rows)
        for passage in self._graph.passages:
            start = self._done[passage.output]
            stop = passage.reachable(min(self._done[number] for number in passage.inputs))
            if stop > start:
                made = self._compute(passage, start, stop)
                self._push(passage.output, made)
                if passage.output == len(self._done) - 1:
                    result = made
        return result

    @property
    def waiting(self) -> list[Rows]:
        """The rows that are kept, for each passage and each of its inputs."""
        return list(self._queues.values())

    def _push(self, number: int, rows: Tensor) -> None:
        for (source, _), queue in self._queues.items():
            if source == number:
                queue.push(self._done[number], rows)
        self._done[number] += rows.shape[2]

    def _compute(self, passage: Passage, start: int, stop: int) -> Tensor:
        """Compute the rows start … stop of a passage's output."""
        sources = [self._queues[number, passage.output] for number in passage.inputs]
        spans = passage.spans(start, stop)
        rows = _gather(sources, passage.join, *spans[0])
        own = passage.join is not None
        for step, have, want in zip(passage.steps, spans[:-1], spans[1:], strict=True):
            rows = self._apply(step, rows, have, want, own=own)
            own = own or step.rows.fill is not None or step.rows.up > 1
        following = passage.first_needed(stop)
        for source in sources:
            source.drop(following)
        return rows

    def _apply(self, step: Step, x: Tensor, have: tuple[int, int], want: tuple[int, int], *, own: bool) -> Tensor:
        """Apply a step to the input rows `have`; return the output rows `want`. `own`: nobody else reads the input."""
        rows = step.rows
        if step.layer is None:
            return self._by_rows.recording.functions[step.output](x)
        layer = self._layers[step.layer]
        if rows.up > 1:
            y: Tensor = layer(x)
            offset = have[0] * rows.up
            return y[:, :, want[0] - offset : want[1] - offset]
        if rows.fill is not None:
            above = max(0, -rows.first(want[0]))
            if above:
                x = F.pad(x, (0, 0, above, 0), value=rows.fill).contiguous(memory_format=torch.channels_last)
            return _without_row_padding(layer, x)
        if getattr(layer, "inplace", False) and not own:
            x = x.clone(memory_format=torch.preserve_format)  # rows that others read, too, are not overwritten
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
