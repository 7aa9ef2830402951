"""Stages: the steps of a network in groups, between which rows are stored until they are needed.

A stage ends where several read its output, where feature maps join, and where it is cheaper to store rows than to
compute those at the seam of two pieces again.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from unettile.inference.tape import Step, Tape

SHORT = 48
"""Rows of a piece of a feature map, below which computing the few at its seam again costs more than storing them."""


@dataclass(frozen=True)
class Stage:
    """Steps in a row, of which only the first has several inputs and only the last several consumers.

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


def stages_of(tape: Tape, piece: int) -> tuple[Stage, ...]:
    """Group the steps of a tape.

    Args:
        piece: rows of the window that are fed at once.
    """
    readers = [0] * len(tape.heights)
    scale = [Fraction(1)] * len(tape.heights)  # rows of a feature map for each of the window
    for step in tape.steps:
        for number in step.inputs:
            readers[number] += 1
        scale[step.output] = scale[step.inputs[0]] * step.rows.up / step.rows.down
    groups: list[tuple[tuple[int, ...], str | None, list[Step]]] = []
    ending: dict[int, int] = {}  # feature map that a group ends with, and the group
    for step in tape.steps:
        before = ending.get(step.inputs[0]) if step.join is None and readers[step.inputs[0]] == 1 else None
        short = step.rows.overlaps and piece * scale[step.inputs[0]] < SHORT
        if before is not None and not (short and groups[before][2]):
            groups[before][2].append(step)
            ending[step.output] = before
        else:
            ending[step.output] = len(groups)
            groups.append((step.inputs, step.join, [] if step.join else [step]))
    outputs = {group: number for number, group in ending.items()}  # the last one noted is the group's output
    return tuple(
        Stage(inputs, join, tuple(steps), outputs[index]) for index, (inputs, join, steps) in enumerate(groups)
    )
