"""The training folder: what a run leaves beside its checkpoint, and how it goes on after a stop.

model.training/
    recipe.toml      the recipe as a file that `train --recipe` takes
    plan.json        recipe, data and precision; a resumed run must agree with it
    validation.txt   names of the images that validate, one a line; test.txt likewise
    log.csv          one line an epoch
    state.pt         parameters, optimiser and step; replaced at each epoch and at a stop
    lock             held by the process that trains
    best.safetensors the best epoch so far, or the last one by `run.last`
    report.html      curves, pictures and scores of the finished run
"""

from __future__ import annotations

import csv
import fcntl
import hashlib
import json
import math
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unettile.atomic import atomic_path, remove_all_leftovers
from unettile.errors import InputError
from unettile.regular import open_regular, read_regular
from unettile.training.parts import RunPart

_MOST_PLAN_BYTES = 2**30  # a line for each of millions of images


@dataclass(frozen=True)
class LogRow:
    """One epoch: losses, scores on the validation images, the last learning rate and seconds so far.

    `mpq` is the multi-class panoptic quality of kinds of objects, None where there are none.
    """

    epoch: int
    step: int
    training_loss: float
    validation_loss: float
    iou: float
    ap: float | None
    learning_rate: float
    seconds: float
    mpq: float | None = None

    def figure(self, select: str) -> float:
        """Return what chooses the best epoch, larger is better: `iou`, `ap` and `mpq` where there is one, or `loss`."""
        chosen = -self.validation_loss if select == "loss" else self.iou
        if select in ("ap", "mpq") and self.ap is not None:
            chosen = self.ap
        if select == "mpq" and self.mpq is not None:
            chosen = self.mpq
        return -math.inf if math.isnan(chosen) else chosen


def kept(rows: Sequence[LogRow], run: RunPart) -> LogRow:
    """Return the epoch whose model is kept: the last one if `run.last`, else the first of the best by `run.select`."""
    return rows[-1] if run.last else max(rows, key=lambda row: row.figure(run.select))


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
    def recipe(self) -> Path:
        return self.path / "recipe.toml"

    @property
    def has_state(self) -> bool:
        return (self.path / "state.pt").exists()

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other trainings out of the folder, which is made if need be; a process that ends lets go of it.

        Raises:
            InputError: another process trains here.
        """
        try:
            self.path.mkdir(exist_ok=True)
            file = (self.path / "lock").open("a+", encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot write {self.path}: {(error.strerror or str(error)).lower()}") from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                file.seek(0)
                raise InputError(
                    f"{self.path} is in use by another training ({file.read(200).strip() or 'unknown'}): wait for its"
                    " end, or choose another MODEL"
                ) from error
            except OSError:  # a file system without locks
                pass
            else:
                file.truncate(0)
                file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
                file.flush()
            remove_all_leftovers(self.path)
            yield

    def start(self, plan: dict[str, Any], recipe: str, held_out: dict[str, list[str]]) -> None:
        """Create the folder for a new run, or empty the log of one that is started afresh.

        Args:
            recipe: as a TOML file.
        """
        self.path.mkdir(exist_ok=True)
        self.clear()
        self._write_text("plan.json", json.dumps(plan, indent=1, sort_keys=True) + "\n")
        self._write_text("recipe.toml", recipe)
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
        damaged = f"cannot resume: {self.path / 'plan.json'} is damaged; start afresh with --overwrite"
        try:
            earlier = json.loads(read_regular(self.path / "plan.json", _MOST_PLAN_BYTES))  # names need not be UTF-8
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(damaged) from error
        if not isinstance(earlier, dict):
            raise InputError(damaged)
        now = json.loads(json.dumps(plan))
        for key in sorted(earlier.keys() | now.keys()):
            if earlier.get(key) != now.get(key):
                raise InputError(
                    f"cannot resume {self.path}: {_difference(key, earlier.get(key), now.get(key))}; give the same "
                    "command, or start afresh with --overwrite"
                )

    def save(self, state: dict[str, Any], plan: dict[str, Any]) -> None:
        """Write the state, and with it digests of itself and of the plan that it belongs to."""
        bound = state | {"plan": digest_of(plan), "content": _digest(state)}
        with atomic_path(self.path / "state.pt") as temporary:
            torch.save(bound, temporary)

    def load(self, plan: dict[str, Any]) -> dict[str, Any]:
        """Read the state; nothing in it is run.

        Raises:
            InputError: damaged, or of another plan.
        """
        file = self.path / "state.pt"
        damaged = f"cannot resume: {file} is damaged; start afresh with --overwrite"
        try:
            with open_regular(file) as opened:
                state: dict[str, Any] = torch.load(opened, map_location="cpu", weights_only=True)
            belongs, content = state.pop("plan"), state.pop("content")
            intact = content == _digest(state)
        except Exception as error:  # a damaged pickle raises whatever its bytes happen to say
            raise InputError(damaged) from error
        if not intact:
            raise InputError(damaged)
        if belongs != digest_of(plan):
            raise InputError(
                f"cannot resume: {file} is of another training than plan.json beside it; start afresh with --overwrite"
            )
        return state

    def write_log(self, rows: list[LogRow], plan: dict[str, Any]) -> None:
        """Write the whole log, one row an epoch, each with the digest of its plan."""
        with atomic_path(self.log) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow((*COLUMNS, "plan"))
            for row in rows:
                values = [getattr(row, name) for name in COLUMNS]
                cells = ["" if v is None else f"{v:.6g}" if isinstance(v, float) else v for v in values]
                writer.writerow([*cells, digest_of(plan)[:12]])

    def _write_text(self, name: str, text: str) -> None:
        with atomic_path(self.path / name) as temporary:
            temporary.write_text(text, "utf-8", "surrogateescape")


def digest_of(plan: dict[str, Any]) -> str:
    """Return the SHA-256 of a plan."""
    return hashlib.sha256(json.dumps(plan, sort_keys=True).encode()).hexdigest()


def _digest(value: Any) -> str:
    """Return the SHA-256 of nested plain values and tensors, of the bits of the latter."""
    digest = hashlib.sha256()
    _feed(digest.update, value)
    return digest.hexdigest()


def _feed(update: Callable[[Any], None], value: Any) -> None:
    if isinstance(value, Tensor):
        flat = value.detach().cpu().contiguous().reshape(-1)
        update(f"{value.dtype} {tuple(value.shape)}\n".encode())
        update(flat.view(torch.uint8).numpy().data)
    elif isinstance(value, dict):
        for key, inner in value.items():
            update(f"{key!r}:".encode())
            _feed(update, inner)
    elif isinstance(value, list | tuple):
        update(f"{len(value)} of\n".encode())
        for inner in value:
            _feed(update, inner)
    else:
        update(f"{value!r}\n".encode())


def _difference(key: str, earlier: Any, now: Any) -> str:
    if isinstance(earlier, dict) and isinstance(now, dict):
        inner = next(k for k in sorted(earlier.keys() | now.keys()) if earlier.get(k) != now.get(k))
        if key == "content":
            return f"the image {inner} or its labels have changed since it began"
        return _difference(f"{key}.{inner}", earlier.get(inner), now.get(inner))
    return f"{key} was {_short(earlier)}, is {_short(now)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
