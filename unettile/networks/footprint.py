"""Footprint: the feature maps that a network needs in memory at once where it is computed by rows."""

from __future__ import annotations

from itertools import pairwise

from unettile.networks.graph import Graph, Passage

_MORE = 8  # pieces after the first rows have come out: by then all is as it stays


def footprint(graph: Graph) -> int:
    """Return the bytes of feature maps at their peak, by going through the passages with the numbers of rows alone."""
    done = [0] * len(graph.heights)
    held: dict[tuple[int, int], int] = {
        (number, passage.output): 0 for passage in graph.passages for number in passage.inputs
    }  # feature map and its reader: the first row that is kept
    peak, left = 0, _MORE
    while left:
        done[0] += graph.piece
        for passage in graph.passages:
            start, stop = done[passage.output], passage.reachable(min(done[number] for number in passage.inputs))
            if stop <= start:
                continue
            peak = max(peak, _kept(graph, done, held) + _made(graph, passage, start, stop))
            done[passage.output] = stop
            for number in passage.inputs:
                held[number, passage.output] = passage.first_needed(stop)
        left -= done[-1] > 0
    return peak


def _kept(graph: Graph, done: list[int], held: dict[tuple[int, int], int]) -> int:
    """Return the bytes of what waits to be read; rows are let go of by the piece."""
    first: dict[int, int] = {}
    for (number, _), row in held.items():
        first[number] = min(row, first.get(number, row))
    total = 0
    for number, row in first.items():
        piece = graph.piece * graph.heights[number] // graph.heights[0]
        total += min(done[number], done[number] - row + piece) * graph.row_bytes[number]
    return total


def _made(graph: Graph, passage: Passage, start: int, stop: int) -> int:
    """Return the bytes of what a passage gathers, and of the two maps at a time that its steps need."""
    spans = passage.spans(start, stop)
    sizes = [(spans[0][1] - spans[0][0]) * sum(graph.row_bytes[number] for number in passage.inputs)]
    sizes += [
        (last - first) * graph.row_bytes[step.output]
        for step, (first, last) in zip(passage.steps, spans[1:], strict=True)
    ]
    return max((one + other for one, other in pairwise(sizes)), default=sizes[0])
