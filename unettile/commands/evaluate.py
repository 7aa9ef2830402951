"""`unettile evaluate`: scores of predicted masks against true ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unettile.commands.console import Console
from unettile.commands.options import INPUT, Json

if TYPE_CHECKING:
    from unettile.evaluation import Evaluation, Meaning


def evaluate(
    prediction: Annotated[Path, typer.Argument(metavar="PREDICTION", help="A predicted mask, or a folder of them.")],
    truth: Annotated[
        Path, typer.Argument(metavar="TRUTH", help="The true mask, or a folder of masks with the same names.")
    ],
    objects: Annotated[
        bool,
        typer.Option(
            "--objects", help="Score objects, too: average precision at IoU 0.50 … 0.95.", rich_help_panel=INPUT
        ),
    ] = False,
    classes: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            help="Ids of both masks are the classes 0 … K - 1. Default: an id above 0 is foreground, whatever it is.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    instances: Annotated[
        bool,
        typer.Option(
            "--instances",
            help="The prediction's ids are objects. Default: its objects are the connected parts of its foreground.",
            rich_help_panel=INPUT,
        ),
    ] = False,
    truth_components: Annotated[
        bool,
        typer.Option(
            "--truth-components",
            help="The truth's objects are the connected parts of its foreground. Default: its ids are objects.",
            rich_help_panel=INPUT,
        ),
    ] = False,
    subset: Annotated[
        bool,
        typer.Option("--subset", help="Let TRUTH have images that PREDICTION has not.", rich_help_panel=INPUT),
    ] = False,
    json: Json = False,
) -> None:
    """Score masks against the truth: IoU and Dice by class, and average precision by object.

    The table goes to stdout. Pixels and objects of several images are pooled;
    --json has every image by itself, too.
    """
    from unettile.evaluation import Meaning, pair_masks
    from unettile.evaluation import evaluate as score

    meaning = Meaning(classes, instances, truth_components, objects)
    evaluation = score(pair_masks(prediction, truth, subset=subset), meaning)
    if json:
        Console(json_output=True).result(evaluation.to_dict())
    else:
        typer.echo("\n".join(_report(evaluation, meaning)))


def _report(evaluation: Evaluation, meaning: Meaning) -> list[str]:
    from unettile.metrics.objects import average_precision
    from unettile.metrics.pixels import dice, iou

    pooled = evaluation.pooled
    count = len(evaluation.scores)
    lines = [f"{count} image{'s' if count > 1 else ''}, {pooled.confusion.sum() / 1e6:.2f} Mpx", ""]
    names = ["background", "foreground"] if meaning.classes is None else [str(k) for k in range(meaning.classes)]
    lines.append(f"{'class':<12}{'IoU':>8}{'Dice':>8}{'true px':>14}{'predicted px':>14}")
    for k, name in enumerate(names):
        true, predicted = pooled.confusion[k].sum(), pooled.confusion[:, k].sum()
        figures = f"{iou(pooled.confusion)[k]:8.4f}{dice(pooled.confusion)[k]:8.4f}"
        lines.append(f"{name:<12}{figures}{true:>14}{predicted:>14}")
    if pooled.counts is not None:
        lines += ["", f"{'object IoU >':<12}{'AP':>8}{'matched':>10}{'invented':>10}{'missed':>10}"]
        precision = average_precision(pooled.counts)
        for k, threshold in enumerate(pooled.counts.thresholds):
            tp, fp, fn = pooled.counts.tp[k], pooled.counts.fp[k], pooled.counts.fn[k]
            lines.append(f"{threshold:<12.2f}{precision[k]:8.4f}{tp:>10}{fp:>10}{fn:>10}")
        lines.append(f"{'mean':<12}{precision.mean():8.4f}")
    return lines
