"""What a training run reports while it goes on and when it is over."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from unettile.checkpoint import Checkpoint
from unettile.training.cost import Cost
from unettile.training.state import LogRow
from unettile.training.survey import Source
from unettile.training.validate import Judge, Scores


@dataclass(frozen=True)
class TrainProgress:
    """Where a run is: steps done, in all; the mean loss lately; the scores of the epoch that has just ended, if any."""

    step: int
    steps: int
    loss: float
    row: LogRow | None = None


@dataclass(frozen=True)
class TrainResult:
    """A finished run.

    Args:
        checkpoint: the best epoch.
        rows, best: the log and its best epoch.
        validation, test: scores of the checkpoint; there may be no images to test on.
        sources: the images validated on, in the order of their scores.
        judge: scores and predicts with the checkpoint's network.
        cost: what the run took.
        first: whether this is the first of several processes, which alone writes and speaks.
    """

    checkpoint: Checkpoint
    rows: tuple[LogRow, ...]
    best: LogRow
    validation: Scores
    test: Scores | None
    sources: tuple[Source, ...]
    judge: Judge
    cost: Cost
    folder: Path
    first: bool
