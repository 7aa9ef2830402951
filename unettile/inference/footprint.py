"""Footprint: the feature maps that a network needs in memory at once where it is computed by rows."""

from __future__ import annotations

from itertools import pairwise

from unettile.inference.rows import RowStream
from unettile.inference.stages import Stage

_MORE = 8  # pieces after the first rows have come out: by then all is as it stays


def footprint(stream: RowStream) -> int:
    """Return the bytes of feature maps at their peak, by going through the stages with the numbers of rows alone."""
    done = [0] * stream.maps
    held: dict[tuple[int, int], int] = {
        (number, stage.output): 0 for stage in stream.stages for number in stage.inputs
    }  # feature map and its reader: the first row that is kept
    peak, left = 0, _MORE
    while left:
        done[0] += stream.piece
        for stage in stream.stages:
            start, stop = done[stage.output], stage.reachable(min(done[number] for number in stage.inputs))
            if stop <= start:
                continue
            peak = max(peak, _kept(stream, done, held) + _made(stream, stage, start, stop))
            done[stage.output] = stop
            for number in stage.inputs:
                held[number, stage.output] = stage.first_needed(stop)
        left -= done[-1] > 0
    return peak


def _kept(stream: RowStream, done: list[int], held: dict[tuple[int, int], int]) -> int:
    """Return the bytes of what waits to be read; rows are let go of by the piece."""
    first: dict[int, int] = {}
    for (number, _), row in held.items():
        first[number] = min(row, first.get(number, row))
    total = 0
    for number, row in first.items():
        piece = stream.piece * stream.heights[number] // stream.heights[0]
        total += min(done[number], done[number] - row + piece) * stream.row_bytes[number]
    return total


def _made(stream: RowStream, stage: Stage, start: int, stop: int) -> int:
    """Return the bytes of what a stage gathers, and of the two maps at a time that its steps need."""
    spans = stage.spans(start, stop)
    sizes = [(spans[0][1] - spans[0][0]) * sum(stream.row_bytes[number] for number in stage.inputs)]
    sizes += [
        (last - first) * stream.row_bytes[step.output]
        for step, (first, last) in zip(stage.steps, spans[1:], strict=True)
    ]
    return max((one + other for one, other in pairwise(sizes)), default=sizes[0])
