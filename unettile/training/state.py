"""The training folder: what a run leaves beside its checkpoint, and how it goes on after a stop.

model.training/
    recipe.toml      the recipe as a file that `train --recipe` takes
    plan.json        recipe, data and precision; a resumed run must agree with it
    validation.txt   names of the images that validate, one a line; test.txt likewise
    log.csv          one line an epoch
    state.pt         parameters, optimiser and step; replaced at each epoch and at a stop
    best.safetensors the best epoch so far
    report.html      curves, pictures and scores of the finished run
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from unettile.atomic import atomic_path
from unettile.errors import InputError
from unettile.training.recipe import Recipe


@dataclass(frozen=True)
class LogRow:
    """One epoch: losses, scores on the validation images, the last learning rate and seconds so far."""

    epoch: int
    step: int
    training_loss: float
    validation_loss: float
    iou: float
    ap: float | None
    learning_rate: float
    seconds: float


COLUMNS = tuple(entry.name for entry in fields(LogRow))


class TrainingFolder:
    """The files of one run; see the module's drawing."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def beside(cls, checkpoint: Path) -> TrainingFolder:
        return cls(checkpoint.with_name(f"{checkpoint.stem}.training"))

    @property
    def log(self) -> Path:
        return self.path / "log.csv"

    @property
    def best(self) -> Path:
        return self.path / "best.safetensors"

    @property
    def has_state(self) -> bool:
        return (self.path / "state.pt").exists()

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    def start(self, plan: dict[str, Any], recipe: Recipe, held_out: dict[str, list[str]]) -> None:
        """Create the folder for a new run, or empty the log of one that is started afresh."""
        self.path.mkdir(exist_ok=True)
        self.clear()
        self._write_text("plan.json", json.dumps(plan, indent=1, sort_keys=True) + "\n")
        self._write_text("recipe.toml", recipe.to_toml())
        for part, names in held_out.items():
            if names:
                self._write_text(f"{part}.txt", "\n".join(names) + "\n")

    def clear(self) -> None:
        """Remove what an earlier run left."""
        for old in (self.path / "state.pt", self.best, self.log, self.report, self.path / "test.txt"):
            old.unlink(missing_ok=True)

    def check_plan(self, plan: dict[str, Any]) -> None:
        """Refuse to go on with another recipe or other data, naming the first difference.

        Raises:
            InputError: they differ, or the file is damaged.
        """
        try:
            earlier = json.loads((self.path / "plan.json").read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"cannot resume: {self.path / 'plan.json'} is damaged; start afresh") from error
        now = json.loads(json.dumps(plan))
        for key in sorted(earlier.keys() | now.keys()):
            if earlier.get(key) != now.get(key):
                raise InputError(
                    f"cannot resume {self.path}: {_difference(key, earlier.get(key), now.get(key))}; give the same "
                    "command, or start afresh with --overwrite"
                )

    def save(self, state: dict[str, Any]) -> None:
        with atomic_path(self.path / "state.pt") as temporary:
            torch.save(state, temporary)

    def load(self) -> dict[str, Any]:
        """Read the state; nothing in it is run.

        Raises:
            InputError: damaged.
        """
        try:
            state: dict[str, Any] = torch.load(self.path / "state.pt", map_location="cpu", weights_only=True)
        except (OSError, RuntimeError, ValueError, EOFError) as error:
            raise InputError(f"cannot resume: {self.path / 'state.pt'} is damaged; start afresh") from error
        return state

    def write_log(self, rows: list[LogRow]) -> None:
        """Write the whole log, one row an epoch."""
        with atomic_path(self.log) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for row in rows:
                values = (getattr(row, name) for name in COLUMNS)
                writer.writerow(["" if v is None else f"{v:.6g}" if isinstance(v, float) else v for v in values])

    def _write_text(self, name: str, text: str) -> None:
        with atomic_path(self.path / name) as temporary:
            temporary.write_text(text, "utf-8", "surrogateescape")


def _difference(key: str, earlier: Any, now: Any) -> str:
    if isinstance(earlier, dict) and isinstance(now, dict):
        inner = next(k for k in sorted(earlier.keys() | now.keys()) if earlier.get(k) != now.get(k))
        return _difference(f"{key}.{inner}", earlier.get(inner), now.get(inner))
    return f"{key} was {_short(earlier)}, is {_short(now)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
