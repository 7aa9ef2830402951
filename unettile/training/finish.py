"""The end of a run: the best epoch is calibrated, scored once more, and written as the model.

Calibration: the background's logit is shifted, so that what is likeliest is also what scores best; weights on borders
skew it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from unettile.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from unettile.geometry import Geometry
from unettile.networks import build_network
from unettile.networks.background import shift_background
from unettile.training.card import Seen, make_checkpoint, make_model, scores_of_kinds
from unettile.training.job import UNFINISHED, TrainJob, check_best
from unettile.training.processes import score_together
from unettile.training.result import Cost, TrainResult
from unettile.training.state import LogRow, TrainingFolder, kept
from unettile.training.survey import Source
from unettile.training.validate import Judge

SHIFTS = tuple(step / 4 for step in range(-8, 9))
"""Of the logit of class 0, natural logarithms of odds; 0 is in the middle."""


def best_shift(figures: Sequence[float]) -> int:
    """Return the number of the shift whose figure, averaged with its neighbours' against noise, is the largest.

    Of equals the one nearest to no shift.

    Args:
        figures: one for each of `SHIFTS`, larger is better.
    """
    padded = np.pad(np.asarray(figures, np.float64), 1, mode="edge")
    smooth = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
    best = np.flatnonzero(smooth >= smooth.max())
    return int(best[np.abs(best - len(SHIFTS) // 2).argmin()])


def judge_of(job: TrainJob, network: nn.Module, geometry: Geometry, fabric: Fabric) -> Judge:
    """Return what scores a network as it is now."""
    return Judge(make_model(job, network, geometry), job.recipe, str(fabric.device))


@dataclass(frozen=True)
class Ending:
    """What is done after the last epoch, by all processes of a run together.

    Args:
        validation, test: images to score; there may be none to test on.
        seen: of the images that were trained on.
    """

    job: TrainJob
    fabric: Fabric
    geometry: Geometry
    validation: tuple[Source, ...]
    test: tuple[Source, ...]
    seen: Seen

    def finish(self, rows: Sequence[LogRow], folder: TrainingFolder, cost: Cost) -> TrainResult:
        """Write the model of the best epoch, and return how the run went."""
        checkpoint = load_checkpoint(folder.best)
        check_best(self.job, checkpoint)
        return self._finish(checkpoint, rows, folder, cost)

    def leave(self, checkpoint: Checkpoint, rows: Sequence[LogRow], folder: TrainingFolder, cost: Cost) -> TrainResult:
        """Write the model of the best epoch so far of a run that stops, first as it is: the time may end here."""
        done = f"{rows[-1].epoch} of {self.job.recipe.run.epochs} epochs"
        checkpoint = replace(checkpoint, card=checkpoint.card | {UNFINISHED: done})
        if self.fabric.is_global_zero:
            save_checkpoint(checkpoint, self.job.output)
        return replace(self, test=())._finish(checkpoint, rows, folder, cost)

    def _finish(
        self, checkpoint: Checkpoint, rows: Sequence[LogRow], folder: TrainingFolder, cost: Cost
    ) -> TrainResult:
        best = kept(rows, self.job.recipe.run)
        unfinished = {key: checkpoint.card[key] for key in (UNFINISHED,) if key in checkpoint.card}
        network = build_network(checkpoint.network, checkpoint.config)
        network.load_state_dict(checkpoint.parameters)
        network = network.to(self.fabric.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        if self.job.recipe.run.calibrate:
            best, checkpoint = self._calibrate(network, best)
            checkpoint = replace(checkpoint, card=checkpoint.card | unfinished)
        judge = judge_of(self.job, network, self.geometry, self.fabric)
        (validation,) = score_together(judge, network, self.validation, self.fabric)
        test = score_together(judge, network, self.test, self.fabric)[0] if self.test else None
        if self.fabric.is_global_zero:
            if test is not None:
                said = {"iou": test.iou, "ap": test.ap, "loss": test.loss} | scores_of_kinds(test, self.job.recipe)
                scores = checkpoint.card["scores"] | {"test": said}
                checkpoint = replace(checkpoint, card=checkpoint.card | {"scores": scores})
            checkpoint = save_checkpoint(checkpoint, self.job.output)
        self.fabric.barrier()
        return TrainResult(
            checkpoint=checkpoint,
            rows=tuple(rows),
            best=best,
            validation=validation,
            test=test,
            sources=self.validation,
            judge=judge,
            cost=cost,
            folder=folder.path,
            first=self.fabric.is_global_zero,
        )

    def _calibrate(self, network: nn.Module, best: LogRow) -> tuple[LogRow, Checkpoint]:
        """Shift the logit of a network's background; return its row of the log and its checkpoint, newly scored."""
        judge = judge_of(self.job, network, self.geometry, self.fabric)
        tried = score_together(judge, network, self.validation, self.fabric, SHIFTS)
        rows = [
            replace(best, validation_loss=scores.loss, iou=scores.iou, ap=scores.ap, mpq=scores.mpq) for scores in tried
        ]
        chosen = best_shift([row.figure(self.job.recipe.run.select) for row in rows])
        shift_background(network, self.job.recipe.in_channels, SHIFTS[chosen])
        checkpoint = make_checkpoint(self.job, network, self.geometry, tried[chosen], rows[chosen], self.seen)
        return rows[chosen], replace(checkpoint, card=checkpoint.card | {"background_shift": SHIFTS[chosen]})
