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

from unettile.checkpoint import load_checkpoint, save_checkpoint
from unettile.errors import Incomplete, InputError, Interrupted
from unettile.training.auto import describe
from unettile.training.card import Seen, make_checkpoint
from unettile.training.finish import Ending, judge_of
from unettile.training.job import TrainJob, check_best, with_steps
from unettile.training.learner import Learner
from unettile.training.loader import Share, load_batches, placed
from unettile.training.processes import make_fabric, mean_and_signal, on_any, score_together, shared_number
from unettile.training.result import Meter, TrainProgress, TrainResult
from unettile.training.samples import Samples
from unettile.training.schedule import LAST_SCORES, Clock, learning_rate, out_of_patience
from unettile.training.state import LogRow, TrainingFolder, kept
from unettile.training.survey import class_weights, settle_diameter, survey
from unettile.training.validate import Scores, validation_steps

LOG_EVERY = 10  # steps between two reports of progress
SAVE_EVERY_S = 600.0  # a process that is killed loses no more than this


def train(
    job: TrainJob,
    on_progress: Callable[[TrainProgress], None],
    should_stop: Callable[[], int | None],
    report: Callable[[TrainResult], None] = lambda result: None,
) -> TrainResult:
    """Train a network by a recipe and write the best epoch's checkpoint; that of the best so far where it is stopped.

    Args:
        on_progress: called every few steps and after each epoch, on the first process only.
        should_stop: asked after each step; the number of the signal that asks for a stop, or None.
        report: takes the result once a checkpoint is written, on the first process only.

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
    job = replace(job, recipe=with_steps(job.recipe, len(job.training)))
    with TrainingFolder.beside(job.output).held() if fabric.is_global_zero else nullcontext():
        return _Run(job, fabric).go(on_progress, should_stop, report)


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
        self.learner = Learner(job, fabric, fresh=fresh)
        self.step, self.rate = 0, recipe.optimizer.learning_rate
        self.rows: list[LogRow] = []
        self.stopping = False
        self.longest = 0.0  # of the validations, seconds
        self.clock = (
            None
            if job.clock_seconds is None
            else Clock(job.clock_seconds, recipe.run.epochs, validation_steps(self.validation, recipe))
        )
        self.loss_sum, self.loss_count = 0.0, 0
        if job.resume and self.folder.has_state:
            self._restore()

    def go(
        self,
        on_progress: Callable[[TrainProgress], None],
        should_stop: Callable[[], int | None],
        report: Callable[[TrainResult], None],
    ) -> TrainResult:
        ending = Ending(self.job, self.fabric, self.learner.geometry, self.validation, self.test, self.seen)
        try:
            if not self._is_over():
                with closing(self._batches()) as batches:  # closed at once, or workers would outlive what is raised
                    self._train(batches, on_progress, should_stop)
        except (Incomplete, Interrupted, InputError) as error:
            left = self._leave(ending)
            if left is None:
                raise
            if left.first:
                report(left)
            error.args = (f"{error}; {self.job.output} is the best so far, of epoch {left.best.epoch}",)
            raise
        result = ending.finish(self.rows, self.folder, self.meter.cost(self.step, self.fabric))
        if result.first:
            report(result)
        return result

    def _leave(self, ending: Ending) -> TrainResult | None:
        """Write the best so far as the model; None where there is nothing yet, or processes did not stop together."""
        if not self.step or (self.fabric.world_size > 1 and not self.stopping):
            return None
        cost = self.meter.cost(self.step, self.fabric)
        if self.rows:
            checkpoint = load_checkpoint(self.folder.best)
            check_best(self.job, checkpoint)
            return ending.leave(checkpoint, self.rows, self.folder, cost)
        try:
            row, scores, network = self._validate()
        except InputError:  # the network says nothing
            return None
        checkpoint = make_checkpoint(self.job, network, self.learner.geometry, scores, row, self.seen)
        return ending.leave(checkpoint, [row], self.folder, cost)

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
                self.clock.read(shared_number(self.meter.seconds, self.fabric), self.step)
                done = self.clock.epoch_is_over(len(self.rows), self.rows[-1].seconds if self.rows else 0.0)
                steps = self.clock.expected_steps(self.step)
            else:
                done, steps = self.step % run.steps_per_epoch == 0, run.epochs * run.steps_per_epoch
            if done:
                self._end_epoch()
            if self.fabric.is_global_zero and (done or self.step % LOG_EVERY == 0):
                row = self.rows[-1] if done else None
                pace = self.meter.training_seconds / self.step
                on_progress(TrainProgress(self.step, steps, float(np.mean(recent)), row, pace))
            if self._is_over():
                break
            self._stop_if_asked(signum)

    def _batches(self) -> Generator[Any, None, None]:
        samples = Samples(self.training, self.recipe, self.learner.lost, self.class_weights)
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

    def _train_step(self, *batch: Tensor) -> float:
        """Take one step; return the loss of this process's share of the batch."""
        used = None if self.clock is None else self.clock.used
        self.rate = learning_rate(self.step, self.recipe, [row.validation_loss for row in self.rows], used)
        loss = self.learner.step(batch, self.step, self.rate)
        self.step += 1
        return loss

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

    def _validate(self) -> tuple[LogRow, Scores, nn.Module]:
        """Return the row of the log of the network as it is now, its scores, and itself.

        Raises:
            InputError: its parameters or its loss are no finite numbers.
        """
        network = self.learner.network(self.step)
        judge = judge_of(self.job, network, self.learner.geometry, self.fabric)
        (scores,) = score_together(judge, network, self.validation, self.fabric)
        row = LogRow(
            epoch=len(self.rows) + 1,
            step=self.step,
            training_loss=self.loss_sum / max(1, self.loss_count),
            validation_loss=scores.loss,
            iou=scores.iou,
            ap=scores.ap,
            learning_rate=self.rate,
            seconds=self.meter.seconds,
            mpq=scores.mpq,
        )
        if not math.isfinite(row.validation_loss):
            raise InputError(
                f"the validation loss is {row.validation_loss} after epoch {row.epoch}, the training loss "
                f"{row.training_loss:.4f}: lower optimizer.learning_rate, or train with --precision fp32"
            )
        return row, scores, network

    def _end_epoch(self) -> None:
        self.meter.pause()
        began = self.meter.seconds
        row, scores, network = self._validate()
        self.loss_sum, self.loss_count = 0.0, 0
        self.rows.append(row)
        if self.fabric.is_global_zero:
            if kept(self.rows, self.recipe.run) is row or not self.folder.best.exists():
                save_checkpoint(
                    make_checkpoint(self.job, network, self.learner.geometry, scores, row, self.seen), self.folder.best
                )
            self.folder.write_log(self.rows, self.plan)
        took = shared_number(self.meter.seconds - began, self.fabric)
        self.longest = max(self.longest, took)
        if self.clock is not None:
            self.clock.validated(took, shared_number(self.meter.seconds, self.fabric))
        if self.fabric.is_global_zero:
            self._save()
        self.fabric.barrier()
        self.meter.go_on()

    def _is_over(self) -> bool:
        run = self.recipe.run
        if self.clock is not None:
            return self.clock.is_over
        ended = self.step % run.steps_per_epoch == 0
        late = ended and out_of_patience([row.figure(run.select) for row in self.rows], run.patience)
        return self.step == run.epochs * run.steps_per_epoch or late

    def _stop_if_asked(self, signum: int | None) -> None:
        limit = self.job.max_seconds
        kept = LAST_SCORES * self.longest  # for what is done with the best so far
        late = limit is not None and on_any(self.meter.seconds_here > limit - kept, self.fabric)
        stop = bool(signum) or late
        if self.fabric.is_global_zero and (stop or self.meter.since_saved > SAVE_EVERY_S):
            self._save()
        if not stop:
            return
        self.stopping = True
        self.fabric.barrier()
        if signum and signum != signal.SIGUSR1:
            raise Interrupted(signum, "the run is saved; give the same command with --resume")
        why = "SIGUSR1 came" if signum else "the time limit is reached"
        raise Incomplete(f"{why} after step {self.step}: the run is saved; give the same command with --resume")

    def _begin_folder(self) -> None:
        """Start a new training folder, or check that the one to resume is of the same run."""
        if self.folder.has_state and not self.job.resume:
            raise InputError(f"{self.folder.path} holds an unfinished run: go on with --resume, or --overwrite it")
        if self.job.resume and self.folder.has_state:
            self.folder.check_plan(self.plan)
            if self.fabric.is_global_zero:
                self.folder.report.unlink(missing_ok=True)  # of what was left when it stopped
        elif self.fabric.is_global_zero:
            held_out = {"validation": self.job.validation, "test": self.job.test}
            names = {part: [pair.full_name for pair in pairs] for part, pairs in held_out.items()}
            self.folder.start(self.plan, describe(self.job.reasons) + self.recipe.to_toml(), names)
        self.fabric.barrier()

    def _save(self) -> None:
        self.folder.save(
            {
                **self.learner.state(),
                "step": self.step,
                "loss": [self.loss_sum, float(self.loss_count)],
                "rows": [[getattr(row, entry.name) for entry in fields(LogRow)] for row in self.rows],
                "meter": self.meter.to_list(),
                "clock": [] if self.clock is None else self.clock.to_list(),
            },
            self.plan,
        )
        self.meter.saved()

    def _restore(self) -> None:
        state = self.folder.load(self.plan)
        self.learner.load(state)
        self.step = int(state["step"])
        self.loss_sum, self.loss_count = float(state["loss"][0]), int(state["loss"][1])
        self.rows = [LogRow(*values) for values in state["rows"]]
        self.meter.add(state["meter"])
        if self.clock is not None:
            self.clock.go_on(state["clock"], shared_number(self.meter.seconds, self.fabric))
