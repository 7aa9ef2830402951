"""Results as pictures: the curves of a training run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from unettile.atomic import atomic_path
from unettile.training.state import LogRow


def plot_curves(rows: Sequence[LogRow], path: Path) -> None:
    """Draw losses and scores over epochs into a PNG file.

    Raises:
        InputError: the file cannot be written.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")  # no pyplot: nothing global, no display
    losses, scores = figure.subplots(1, 2)
    epochs = [row.epoch for row in rows]
    losses.plot(epochs, [row.training_loss for row in rows], label="training (weighted)")
    losses.plot(epochs, [row.validation_loss for row in rows], label="validation (not weighted)")
    losses.set(xlabel="epoch", ylabel="cross entropy", yscale="log")
    scores.plot(epochs, [row.iou for row in rows], label="foreground IoU")
    if any(row.ap is not None for row in rows):
        scores.plot(epochs, [row.ap for row in rows], label="AP of objects at IoU 0.5")
    scores.set(xlabel="epoch", ylabel="score on validation images", ylim=(0, 1))
    for axes in (losses, scores):
        axes.legend(frameon=False)
        axes.grid(alpha=0.3)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
