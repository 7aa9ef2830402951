"""What a run costs: time, steps a second, memory, and the machine it ran on."""

from __future__ import annotations

import platform
import resource
import time
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric


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
