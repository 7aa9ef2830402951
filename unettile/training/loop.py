"""The training loop, on one process or several: Lightning Fabric places, casts and synchronises."""

from __future__ import annotations

import hashlib
import math
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.data import DataLoader

from unettile.atomic import atomic_path
from unettile.checkpoint import Checkpoint, ClassInfo, load_checkpoint, save_checkpoint
from unettile.errors import Incomplete, InputError, Interrupted
from unettile.geometry import Geometry
from unettile.images.colours import distinct_colours
from unettile.images.normalize import Normalization
from unettile.networks import build_network
from unettile.training.job import TrainJob
from unettile.training.loss import weighted_cross_entropy
from unettile.training.pairs import Pair
from unettile.training.samples import Samples
from unettile.training.setup import class_weights, learning_rate, look_at, make_fabric, make_optimizer, start_from
from unettile.training.state import LogRow, TrainingFolder
from unettile.training.validate import Scores, validate

LOG_EVERY = 10  # steps between two reports of progress


@dataclass(frozen=True)
class TrainProgress:
    """Where a run is: steps done, in all; the mean loss lately; the scores of the epoch that has just ended, if any."""

    step: int
    steps: int
    loss: float
    row: LogRow | None = None


@dataclass(frozen=True)
class TrainResult:
    """The finished checkpoint, the log and its best epoch; processes other than the first keep no log."""

    checkpoint: Checkpoint
    rows: tuple[LogRow, ...]
    best: LogRow | None
    folder: Path


def train(
    job: TrainJob, on_progress: Callable[[TrainProgress], None], should_stop: Callable[[], int | None]
) -> TrainResult:
    """Train a network by a recipe and write the best epoch's checkpoint.

    Args:
        on_progress: called every few steps and after each epoch, on the first process only.
        should_stop: asked after each step; the number of the signal that asks for a stop, or None.

    Raises:
        InputError: unusable images, labels or recipe, or a run to resume that differs.
        Incomplete: `max_seconds` is over; the run is saved.
        Interrupted: `should_stop` said so; the run is saved.
    """
    fabric = make_fabric(job.device, job.precision)
    batch, processes = job.recipe.run.batch, fabric.world_size
    if batch % processes:
        raise InputError(f"run.batch = {batch} cannot be shared by {processes} processes: use a multiple")
    return _Run(job, fabric).go(on_progress, should_stop)


class _Run:
    """One training run on one process of its world."""

    def __init__(self, job: TrainJob, fabric: Fabric) -> None:
        recipe = job.recipe
        self.job, self.recipe, self.fabric = job, recipe, fabric
        self.folder = TrainingFolder.beside(job.output)
        self.began = time.monotonic()
        self.training = look_at(job.training, recipe)
        self.validation = look_at(job.validation, recipe)
        self._begin_folder()
        self.class_weights = class_weights(self.training, recipe)
        torch.manual_seed(recipe.run.seed)
        network = build_network(recipe.network.name, recipe.network_config())
        if job.start is not None:
            start_from(network, job.start, recipe)
        geometry = network.geometry
        assert isinstance(geometry, Geometry)
        geometry.check_output_edge(recipe.run.output_edge)
        self.geometry = geometry
        self.network = fabric.setup_module(network.to(memory_format=torch.channels_last))  # type: ignore[call-overload]
        optimizer = fabric.setup_optimizers(make_optimizer(network, recipe))
        assert not isinstance(optimizer, tuple)
        self.optimizer = optimizer
        self.step = 0
        self.seconds_before = 0.0
        self.rows: list[LogRow] = []
        self.loss_sum, self.loss_count = 0.0, 0
        if job.resume and self.folder.has_state:
            self._restore()

    def go(self, on_progress: Callable[[TrainProgress], None], should_stop: Callable[[], int | None]) -> TrainResult:
        run = self.recipe.run
        steps = run.epochs * run.steps_per_epoch
        recent: list[float] = []
        for batch in self._batches():
            recent = [*recent[1 - LOG_EVERY :], self._train_step(batch)]
            done = self.step % run.steps_per_epoch == 0
            if done:
                self._end_epoch()
            if self.fabric.is_global_zero and (done or self.step % LOG_EVERY == 0):
                row = self.rows[-1] if done else None
                on_progress(TrainProgress(self.step, steps, float(np.mean(recent)), row))
            self._stop_if_asked(should_stop(), self.step == steps)
        return self._finish()

    def _batches(self) -> Iterator[list[Tensor]]:
        run = self.recipe.run
        samples = Samples(self.training, self.recipe, self.geometry, self.class_weights)
        world, rank = self.fabric.world_size, self.fabric.global_rank
        share = run.batch // world
        # sample numbers depend on the step alone, so that a resumed or distributed run sees the same ones
        numbers = [
            list(range(step * run.batch + rank * share, step * run.batch + (rank + 1) * share))
            for step in range(self.step, run.epochs * run.steps_per_epoch)
        ]
        own = torch.Generator()  # else the loader draws from the generator that dropout uses, and a resumed run differs
        workers = self.job.workers
        loader = DataLoader(
            samples, batch_sampler=numbers, num_workers=workers, generator=own, worker_init_fn=_leave_signals
        )
        placed = self.fabric.setup_dataloaders(loader, use_distributed_sampler=False)
        assert not isinstance(placed, list)
        return iter(placed)

    def _train_step(self, batch: list[Tensor]) -> float:
        windows, classes, weights = batch
        rate = learning_rate(self.step, self.recipe)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.network.train()
        self.optimizer.zero_grad()
        logits = self.network(windows.contiguous(memory_format=torch.channels_last))
        loss = weighted_cross_entropy(logits, classes, weights)
        self.fabric.backward(loss)
        self.fabric.clip_gradients(self.network, self.optimizer, max_norm=self.recipe.optimizer.clip_norm)
        self.optimizer.step()
        self.step += 1
        value = float(loss.detach())
        if not math.isfinite(value):
            raise InputError(f"the loss is {value} at step {self.step}: lower optimizer.learning_rate, or check inputs")
        self.loss_sum, self.loss_count = self.loss_sum + value, self.loss_count + 1
        return value

    def _end_epoch(self) -> None:
        scores: Scores | None = None
        if self.fabric.is_global_zero:
            network = self.network.module
            network.eval()
            with self.fabric.autocast():
                scores = validate(network, self.geometry, self.validation, self.recipe)
            self._log(scores)
        self.fabric.barrier()

    def _log(self, scores: Scores) -> None:
        before = max((self._selected(row) for row in self.rows), default=-math.inf)
        row = LogRow(
            epoch=self.step // self.recipe.run.steps_per_epoch,
            step=self.step,
            training_loss=self.loss_sum / self.loss_count,
            validation_loss=scores.loss,
            iou=scores.foreground_iou,
            ap=scores.ap,
            learning_rate=learning_rate(self.step - 1, self.recipe),
            seconds=self._seconds(),
        )
        self.loss_sum, self.loss_count = 0.0, 0
        self.rows.append(row)
        if self._selected(row) > before or not self.folder.best.exists():
            save_checkpoint(self._checkpoint(row), self.folder.best)
        self.folder.write_log(self.rows)
        self._save()

    def _selected(self, row: LogRow) -> float:
        by = self.recipe.run.select
        return Scores(row.validation_loss, (math.nan, row.iou), row.ap).selected(by)

    def _stop_if_asked(self, signum: int | None, finished: bool) -> None:
        limit = self.job.max_seconds
        over = limit is not None and time.monotonic() - self.began > limit
        asked, late = self._highest(signum or 0), self._highest(over)  # a stop of one process is a stop of all
        if finished or not (asked or late):
            return
        if self.fabric.is_global_zero:
            self._save()
        self.fabric.barrier()
        if asked:
            raise Interrupted(asked)
        raise Incomplete(f"the time limit is reached after step {self.step}: give the same command with --resume")

    def _highest(self, value: int) -> int:
        """Return the largest of the processes' values."""
        highest = self.fabric.all_reduce(torch.tensor(float(value)), reduce_op="max")
        assert isinstance(highest, Tensor)
        return int(highest)

    def _finish(self) -> TrainResult:
        if self.fabric.is_global_zero:
            with atomic_path(self.job.output) as temporary:
                shutil.copyfile(self.folder.best, temporary)
        self.fabric.barrier()
        best = max(self.rows, key=self._selected, default=None)
        return TrainResult(load_checkpoint(self.job.output), tuple(self.rows), best, self.folder.path)

    def _begin_folder(self) -> None:
        """Start a new training folder, or check that the one to resume is of the same run."""
        plan = {
            "recipe": self.recipe.to_dict(),
            "precision": self.job.precision,
            "start": self.job.start.sha256 if self.job.start else None,
            "training": _names_digest(self.job.training),
            "validation": _names_digest(self.job.validation),
        }
        if self.folder.has_state and not self.job.resume:
            raise InputError(f"{self.folder.path} holds an unfinished run: go on with --resume, or --overwrite it")
        if self.job.resume and self.folder.has_state:
            self.folder.check_plan(plan)
        elif self.fabric.is_global_zero:
            self.folder.start(plan, [pair.name for pair in self.job.validation])
        self.fabric.barrier()

    def _seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.began

    def _save(self) -> None:
        self.folder.save(
            {
                "network": self.network.module.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "step": self.step,
                "loss": [self.loss_sum, float(self.loss_count)],
                "rows": [[getattr(row, entry.name) for entry in fields(LogRow)] for row in self.rows],
                "seconds": self._seconds(),
                "random": torch.get_rng_state(),
            }
        )

    def _restore(self) -> None:
        state = self.folder.load()
        self.network.module.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = int(state["step"])
        self.loss_sum, self.loss_count = float(state["loss"][0]), int(state["loss"][1])
        self.rows = [LogRow(*values) for values in state["rows"]]
        self.seconds_before = float(state["seconds"])
        torch.set_rng_state(state["random"])

    def _checkpoint(self, row: LogRow) -> Checkpoint:
        recipe = self.recipe
        images = recipe.images
        return Checkpoint(
            network=recipe.network.name,
            config=recipe.network_config(),
            geometry=self.geometry,
            normalization=Normalization(images.low_percentile, images.high_percentile, images.per_channel),
            classes=tuple(
                ClassInfo(name, color)
                for name, color in zip(recipe.labels.names, distinct_colours(recipe.classes), strict=True)
            ),
            parameters=dict(self.network.module.state_dict()),
            grey_to_rgb=images.grey_to_rgb,
            recipe=recipe.to_dict(),
            card={
                **{key: text for key, text in asdict(recipe.card).items() if text},
                "images": {"training": len(self.training), "validation": len(self.validation)},
                "epoch": row.epoch,
                "scores": {"iou": row.iou, "ap": row.ap, "loss": row.validation_loss},
            },
        )


def _leave_signals(worker: int) -> None:
    """Let a worker ignore signals that a terminal or scheduler sends to the whole job: the training process decides."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _names_digest(pairs: Sequence[Pair]) -> dict[str, Any]:
    names = "\n".join(sorted(pair.name for pair in pairs))
    return {"images": len(pairs), "names": hashlib.sha256(names.encode()).hexdigest()}
