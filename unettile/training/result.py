"""What a training run reports while it goes on and when it is over, and what it costs: time, steps, memory."""

from __future__ import annotations

import platform
import resource
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning_fabric import Fabric

from unettile.checkpoint import Checkpoint
from unettile.training.state import LogRow
from unettile.training.survey import Source
from unettile.training.validate import Judge, Scores


@dataclass(frozen=True)
class Cost:
    """The costs of a run, those of stopped parts included.

    Args:
        seconds: from the start to the end, validation included.
        steps_per_second: while training.
        memory_bytes: peak of resident memory of the first process; of the device's memory, on a GPU.
        machine: processor or GPU, threads and processes.
    """

    seconds: float
    steps_per_second: float
    memory_bytes: int
    machine: str


@dataclass(frozen=True)
class TrainProgress:
    """Where a run is.

    Args:
        step, steps: done, and in all.
        loss: its mean lately.
        row: the scores of the epoch that has just ended, if one has.
        seconds_a_step: while training, so far.
    """

    step: int
    steps: int
    loss: float
    row: LogRow | None = None
    seconds_a_step: float = 0.0


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


class Meter:
    """A clock that goes on where an earlier part of a run stopped, and a second one that stands during validation."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._before = 0.0
        self._training = 0.0
        self._since: float | None = self._began
        self._saved = self._began

    @property
    def seconds(self) -> float:
        return self._before + self.seconds_here

    @property
    def seconds_here(self) -> float:
        """Seconds since this process began."""
        return time.monotonic() - self._began

    @property
    def training_seconds(self) -> float:
        return self._training + (0.0 if self._since is None else time.monotonic() - self._since)

    @property
    def since_saved(self) -> float:
        return time.monotonic() - self._saved

    def pause(self) -> None:
        """Stand still for validation."""
        self._training, self._since = self.training_seconds, None

    def go_on(self) -> None:
        self._since = time.monotonic()

    def saved(self) -> None:
        self._saved = time.monotonic()

    def to_list(self) -> list[float]:
        return [self.seconds, self.training_seconds]

    def add(self, values: list[float]) -> None:
        """Count what `to_list` gave for an earlier part of the run."""
        self._before, self._training = self._before + values[0], self._training + values[1]

    def cost(self, steps: int, fabric: Fabric) -> Cost:
        """Return the costs of so many steps."""
        gpu = fabric.device.type == "cuda"
        memory = torch.cuda.max_memory_allocated() if gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        name = torch.cuda.get_device_name() if gpu else f"{_processor()}, {torch.get_num_threads()} threads"
        times = f"{fabric.world_size} × " if fabric.world_size > 1 else ""
        return Cost(self.seconds, steps / max(self.training_seconds, 1e-9), memory, times + name)


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 (a device file)
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()
