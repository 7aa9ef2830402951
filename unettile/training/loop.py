"""The training loop, on one process or several: Lightning Fabric places, casts and synchronises."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, nullcontext
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from unettile.checkpoint import save_checkpoint
from unettile.errors import Incomplete, InputError, Interrupted
from unettile.training.auto import describe
from unettile.training.card import Seen, make_checkpoint
from unettile.training.finish import Ending, judge_of
from unettile.training.job import TrainJob
from unettile.training.loader import Share, load_batches, placed
from unettile.training.losses import training_loss
from unettile.training.network import Average, make_network
from unettile.training.processes import make_fabric, mean_and_signal, on_any, score_together, shared_number
from unettile.training.result import Meter, TrainProgress, TrainResult
from unettile.training.samples import Samples
from unettile.training.schedule import Clock, learning_rate, make_optimizer, out_of_patience, set_rate
from unettile.training.state import LogRow, TrainingFolder
from unettile.training.survey import class_weights, settle_diameter, survey

LOG_EVERY = 10  # steps between two reports of progress
SAVE_EVERY_S = 600.0  # a process that is killed loses no more than this


def train(
    job: TrainJob, on_progress: Callable[[TrainProgress], None], should_stop: Callable[[], int | None]
) -> TrainResult:
    """Train a network by a recipe and write the best epoch's checkpoint.

    Args:
        on_progress: called every few steps and after each epoch, on the first process only.
        should_stop: asked after each step; the number of the signal that asks for a stop, or None.

    Raises:
        InputError: unusable images, labels or recipe, or a run to resume that differs.
        Incomplete: `max_seconds` is over, or SIGUSR1 came; the run is saved.
        Interrupted: `should_stop` said so; the run is saved.
    """
    fabric = make_fabric(job.device, job.precision)
    run, processes = job.recipe.run, fabric.world_size
    if run.batch % (processes * run.accumulate):
        raise InputError(
            f"run.batch = {run.batch} cannot be shared by {processes} processes in {run.accumulate} passes: use a "
            "multiple"
        )
    if not run.steps_per_epoch:
        run = replace(run, steps_per_epoch=-(-len(job.training) // run.batch))
    with TrainingFolder.beside(job.output).held() if fabric.is_global_zero else nullcontext():
        return _Run(replace(job, recipe=replace(job.recipe, run=run)), fabric).go(on_progress, should_stop)


class _Run:
    """One training run on one process of its world."""

    def __init__(self, job: TrainJob, fabric: Fabric) -> None:
        recipe = settle_diameter(job.training, job.recipe)
        job = replace(job, recipe=recipe)
        self.job, self.recipe, self.fabric = job, recipe, fabric
        self.folder = TrainingFolder.beside(job.output)
        self.meter = Meter()
        self.training, self.validation = survey(job.training, recipe), survey(job.validation, recipe)
        self.test = survey(job.test, recipe)
        looked_at = (*self.training, *self.validation, *self.test)
        self.plan = job.plan() | {"content": {source.pair.full_name: source.content for source in looked_at}}
        self._begin_folder()
        self.seen = Seen.of(self.training, recipe)
        self.class_weights = class_weights(self.training, recipe)
        torch.manual_seed(recipe.run.seed)
        fresh = not (job.resume and self.folder.has_state)
        network, self.geometry, self.lost = make_network(recipe, job.start, fresh=fresh)
        if fabric.world_size > 1 and fabric.device.type == "cuda":  # on CPUs torch has none: one set a process
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        self.network = fabric.setup_module(network.to(memory_format=torch.channels_last))  # type: ignore[call-overload]
        optimizer = fabric.setup_optimizers(make_optimizer(network, recipe.optimizer, fused=job.precision != "fp16"))
        assert not isinstance(optimizer, tuple)
        self.optimizer = optimizer
        self.average = Average(self.network.module, recipe.run.ema) if recipe.run.ema > 0 else None
        self.step, self.rate = 0, recipe.optimizer.learning_rate
        self.rows: list[LogRow] = []
        self.clock = None if job.clock_seconds is None else Clock(job.clock_seconds, recipe.run.epochs)
        self.loss_sum, self.loss_count = 0.0, 0
        if job.resume and self.folder.has_state:
            self._restore()

    def go(self, on_progress: Callable[[TrainProgress], None], should_stop: Callable[[], int | None]) -> TrainResult:
        if not self._is_over():
            with closing(self._batches()) as batches:  # closed at once, or workers would outlive what is raised here
                self._train(batches, on_progress, should_stop)
        ending = Ending(self.job, self.fabric, self.geometry, self._figure, self.validation, self.test, self.seen)
        return ending.finish(self.rows, self.folder, self.meter.cost(self.step, self.fabric))

    def _train(
        self,
        batches: Iterator[Any],
        on_progress: Callable[[TrainProgress], None],
        should_stop: Callable[[], int | None],
    ) -> None:
        run = self.recipe.run
        recent: list[float] = []
        for batch in batches:
            if isinstance(batch, InputError):
                raise batch
            value, signum = self._together(self._train_step(*batch), should_stop())
            recent = [*recent[1 - LOG_EVERY :], value]
            if self.clock is not None:
                self.clock.read(shared_number(self.meter.seconds, self.fabric))
                done = self.clock.epoch_is_over(len(self.rows))
                steps = self.clock.expected_steps(self.step)
            else:
                done, steps = self.step % run.steps_per_epoch == 0, run.epochs * run.steps_per_epoch
            if done:
                self._end_epoch()
            if self.fabric.is_global_zero and (done or self.step % LOG_EVERY == 0):
                row = self.rows[-1] if done else None
                on_progress(TrainProgress(self.step, steps, float(np.mean(recent)), row))
            if self._is_over():
                break
            self._stop_if_asked(signum)

    def _batches(self) -> Generator[Any, None, None]:
        samples = Samples(self.training, self.recipe, self.lost, self.class_weights)
        share = Share(self.fabric.global_rank, self.fabric.world_size, self.step)
        endless = self.clock is not None
        try:
            with closing(load_batches(samples, self.recipe, share, self.job.workers, endless=endless)) as batches:
                for batch in batches:
                    yield batch if isinstance(batch, InputError) else placed(batch, self.fabric.device)
        except Incomplete:
            if self.fabric.is_global_zero:
                self._save()
            raise
        finally:
            samples.close()

    def _train_step(self, windows: Tensor, classes: Tensor, weights: Tensor, depths: Tensor) -> float:
        """Take one step of the optimiser; return the loss of this process's share of the batch."""
        run, part = self.recipe.run, self.recipe.optimizer
        used = None if self.clock is None else self.clock.used
        self.rate = learning_rate(self.step, self.recipe, [row.validation_loss for row in self.rows], used)
        set_rate(self.optimizer.param_groups, self.rate)
        # dropout follows from the step, so that a resumed run drops the same, and each process its own
        torch.manual_seed((run.seed * 1_000_003 + self.step) * self.fabric.world_size + self.fabric.global_rank)
        self.network.train()
        self.optimizer.zero_grad()
        losses: list[Tensor] = []
        passes = zip(*(tensor.chunk(run.accumulate) for tensor in (windows, classes, weights, depths)), strict=True)
        for index, (x, c, w, d) in enumerate(passes):
            with self.fabric.no_backward_sync(self.network, enabled=index < run.accumulate - 1):
                outputs = self.network(x.contiguous(memory_format=torch.channels_last))
                depth = d if self.recipe.labels.depth else None
                loss = training_loss(outputs, c, w, self.recipe.loss, depth) / run.accumulate
                self.fabric.backward(loss)
            losses.append(loss.detach())  # a number would have to be waited for
        if part.clip_norm > 0:
            # a norm that is not finite is told below, in our own words
            self.fabric.clip_gradients(self.network, self.optimizer, max_norm=part.clip_norm, error_if_nonfinite=False)
        self.optimizer.step()
        self.step += 1
        if self.average is not None:
            self.average.update(self.network.module, self.step)
        return sum(float(loss) for loss in losses)

    def _together(self, loss: float, signum: int | None) -> tuple[float, int | None]:
        """Return the mean loss of the processes, and the signal that any of them was sent.

        Raises:
            InputError: the loss is not a finite number.
        """
        loss, signum = mean_and_signal(loss, signum, self.fabric)
        if not math.isfinite(loss):
            raise InputError(f"the loss is {loss} at step {self.step}: lower optimizer.learning_rate, or check inputs")
        self.loss_sum, self.loss_count = self.loss_sum + loss, self.loss_count + 1
        return loss, signum

    def _end_epoch(self) -> None:
        self.meter.pause()
        began = self.meter.seconds
        network = self.network.module if self.average is None else self.average.network
        if not all(bool(torch.isfinite(parameter).all()) for parameter in network.parameters()):
            raise InputError(
                f"parameters are no finite numbers after step {self.step}: lower optimizer.learning_rate, or train with"
                " --precision fp32"
            )
        judge = judge_of(self.job, network.eval(), self.geometry, self.fabric)
        (scores,) = score_together(judge, network, self.validation, self.fabric)
        row = LogRow(
            epoch=len(self.rows) + 1,
            step=self.step,
            training_loss=self.loss_sum / self.loss_count,
            validation_loss=scores.loss,
            iou=scores.iou,
            ap=scores.ap,
            learning_rate=self.rate,
            seconds=self.meter.seconds,
        )
        if not math.isfinite(row.validation_loss):
            raise InputError(
                f"the validation loss is {row.validation_loss} after epoch {row.epoch}, the training loss "
                f"{row.training_loss:.4f}: lower optimizer.learning_rate, or train with --precision fp32"
            )
        self.loss_sum, self.loss_count = 0.0, 0
        best = max((self._figure(earlier) for earlier in self.rows), default=-math.inf)
        self.rows.append(row)
        if self.fabric.is_global_zero:
            if self._figure(row) > best or not self.folder.best.exists():
                save_checkpoint(
                    make_checkpoint(self.job, network, self.geometry, scores, row, self.seen), self.folder.best
                )
            self.folder.write_log(self.rows, self.plan)
            self._save()
        self.fabric.barrier()
        if self.clock is not None:
            self.clock.took(shared_number(self.meter.seconds - began, self.fabric))
        self.meter.go_on()

    def _figure(self, row: LogRow) -> float:
        """Return the figure that chooses the best epoch; larger is better."""
        by = self.recipe.run.select
        chosen = -row.validation_loss if by == "loss" else row.ap if by == "ap" and row.ap is not None else row.iou
        return -math.inf if math.isnan(chosen) else chosen

    def _is_over(self) -> bool:
        run = self.recipe.run
        if self.clock is not None:
            return len(self.rows) == run.epochs
        ended = self.step % run.steps_per_epoch == 0
        late = ended and out_of_patience([self._figure(row) for row in self.rows], run.patience)
        return self.step == run.epochs * run.steps_per_epoch or late

    def _stop_if_asked(self, signum: int | None) -> None:
        limit = self.job.max_seconds
        late = limit is not None and on_any(self.meter.seconds_here > limit, self.fabric)
        stop = bool(signum) or late
        if self.fabric.is_global_zero and (stop or self.meter.since_saved > SAVE_EVERY_S):
            self._save()
        if not stop:
            return
        self.fabric.barrier()
        if signum and signum != signal.SIGUSR1:
            raise Interrupted(signum)
        why = "SIGUSR1 came" if signum else "the time limit is reached"
        raise Incomplete(f"{why} after step {self.step}: the run is saved; give the same command with --resume")

    def _begin_folder(self) -> None:
        """Start a new training folder, or check that the one to resume is of the same run."""
        if self.folder.has_state and not self.job.resume:
            raise InputError(f"{self.folder.path} holds an unfinished run: go on with --resume, or --overwrite it")
        if self.job.resume and self.folder.has_state:
            self.folder.check_plan(self.plan)
        elif self.fabric.is_global_zero:
            held_out = {"validation": self.job.validation, "test": self.job.test}
            names = {part: [pair.full_name for pair in pairs] for part, pairs in held_out.items()}
            self.folder.start(self.plan, describe(self.job.reasons) + self.recipe.to_toml(), names)
        self.fabric.barrier()

    def _save(self) -> None:
        self.folder.save(
            {
                "network": self.network.module.state_dict(),
                "average": self.average.network.state_dict() if self.average is not None else {},
                "optimizer": self.optimizer.state_dict(),
                "precision": self.fabric.strategy.precision.state_dict(),
                "step": self.step,
                "loss": [self.loss_sum, float(self.loss_count)],
                "rows": [[getattr(row, entry.name) for entry in fields(LogRow)] for row in self.rows],
                "meter": self.meter.to_list(),
            },
            self.plan,
        )
        self.meter.saved()

    def _restore(self) -> None:
        state = self.folder.load(self.plan)
        self.network.module.load_state_dict(state["network"])
        if self.average is not None:
            self.average.network.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        self.step = int(state["step"])
        self.loss_sum, self.loss_count = float(state["loss"][0]), int(state["loss"][1])
        self.rows = [LogRow(*values) for values in state["rows"]]
        self.meter.add(state["meter"])
        if self.clock is not None:
            self.clock.read(shared_number(self.meter.seconds, self.fabric))
