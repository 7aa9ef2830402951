"""`unettile evaluate`: scores of predicted masks against true ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from unettile.commands.console import Console
from unettile.commands.options import COMPUTE, INPUT, OUTPUT, Json, Overwrite, Quiet

if TYPE_CHECKING:
    from unettile.evaluation.pairs import Meaning
    from unettile.evaluation.score import Evaluation, Totals
    from unettile.metrics.objects import ObjectCounts

WORST = 10
"""Images that the table names, the worst first."""


def evaluate(
    prediction: Annotated[
        Path,
        typer.Argument(metavar="PREDICTION", help="A predicted mask, or a folder of them; or polygons."),
    ],
    truth: Annotated[
        Path,
        typer.Argument(
            metavar="TRUTH",
            help="The true mask, or a folder of masks with the same names; or polygons: GeoJSON, ImageJ's ROI sets, "
            "COCO or LabelMe JSON.",
        ),
    ],
    objects: Annotated[
        bool,
        typer.Option(
            "--objects",
            help="Score objects, too: average precision at IoU 0.50 … 0.95, F1, panoptic quality, also of each class, "
            "SEG, aggregated Jaccard, detection F1, Rand error, variation of information.",
            rich_help_panel=INPUT,
        ),
    ] = False,
    boundaries: Annotated[
        bool,
        typer.Option(
            "--boundaries",
            help="Score outlines, too: the Hausdorff distance at 95 %, in px, and boundary F1 of each class.",
            rich_help_panel=INPUT,
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
    class_names: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            help="Names of the classes, background first, by which drawn labels have their numbers. Default: those "
            "that a mask of unettile states, with --classes.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    ignore: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Pixels of this number in TRUTH do not count, nor what lies there. Drawings have regions for it.",
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
    distance: Annotated[
        float,
        typer.Option(
            metavar="PX",
            help="With --objects: two objects count as detected where their middles are no further apart.",
            rich_help_panel=COMPUTE,
        ),
    ] = 12.0,
    tolerance: Annotated[
        float,
        typer.Option(
            metavar="PX",
            help="With --boundaries: outlines agree where they are no further apart.",
            rich_help_panel=COMPUTE,
        ),
    ] = 2.0,
    prediction_classes: Annotated[
        Path | None,
        typer.Option(
            metavar="MASK",
            help="With --objects: classes of the predicted objects, a mask or a folder; with --truth-classes.",
            rich_help_panel=INPUT,
        ),
    ] = None,
    truth_classes: Annotated[
        Path | None,
        typer.Option(metavar="MASK", help="Classes of the true objects, likewise.", rich_help_panel=INPUT),
    ] = None,
    match: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="With --objects: list every matched, missed and invented object: .csv.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Score masks against the truth, by pixel, by object and by outline.

    The table goes to stdout, the worst images first. Pixels and objects of several images are pooled, with 95 %
    confidence intervals from the bootstrap over images; --json has every image by itself, too.
    """
    from unettile.evaluation.comparison import Comparison, pair_classes
    from unettile.evaluation.pairs import Meaning, note_ids, note_pairs, pair_masks

    names = () if class_names is None else tuple(name.strip() for name in class_names.split(","))
    meaning = Meaning(classes, instances, truth_components, objects, boundaries, names, ignore)
    kinds = pair_classes(prediction_classes, truth_classes, lambda *both: pair_masks(*both, subset=True))
    comparison = Comparison(meaning, distance, tolerance, kinds, match, overwrite)
    pairs = pair_masks(prediction, truth, subset=subset)
    console = Console(quiet, json)
    with console.images("images") as show:
        evaluation = comparison.score(pairs, lambda done: show(done, len(pairs), ""))
    notes = [note for note in (note_pairs(pairs), *note_ids(pairs, meaning)) if note is not None]
    for note in notes:
        console.message(note)
    if json:
        console.result(evaluation.to_dict() | {"notes": notes})
    else:
        console.text("\n".join(_report(evaluation, meaning)) + "\n")


def _report(evaluation: Evaluation, meaning: Meaning) -> list[str]:
    pooled, intervals = evaluation.pooled, evaluation.intervals()
    count = len(evaluation.scores)
    lines = [f"{count} image{'s' if count > 1 else ''}, {pooled.confusion.sum() / 1e6:.2f} Mpx", ""]
    if ignored := sum(score.ignored for score in evaluation.scores.values()):
        lines[0] += f", and {ignored / 1e6:.2f} Mpx ignored"
    lines += _class_table(pooled, meaning)
    if pooled.counts is not None:
        lines += ["", *_object_table(pooled.counts)]
    lines += ["", f"{'score':<26}{'pooled':>9}{'95 % interval':>18}{'mean':>9}{'95 % interval':>18}"]
    figures, means = pooled.figures, evaluation.mean_over_images
    for name in means:
        if name.startswith(("iou_", "dice_")):
            continue  # stands in the table of the classes
        cells = [_figure(figures.get(name)), _interval(intervals, "pooled", name)]
        cells += [_figure(means[name]), _interval(intervals, "mean_over_images", name)] if count > 1 else []
        if count == 1 and name not in figures:
            cells[0] = _figure(means[name])
        widths = (9, 18, 9, 18)
        row = "".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=False))
        lines.append(f"{name.replace('_', ' '):<26}{row}".rstrip())
    if count > 1:
        lines += ["", *_worst(evaluation)]
    return lines


def _class_table(pooled: Totals, meaning: Meaning) -> list[str]:
    from unettile.metrics.pixels import dice, iou

    numbered = ["background", "foreground"] if meaning.classes is None else [str(k) for k in range(meaning.classes)]
    names = [name[:11] for name in meaning.names] or numbered
    lines = [f"{'class':<12}{'IoU':>8}{'Dice':>8}{'true px':>14}{'predicted px':>14}"]
    for k, name in enumerate(names):
        true, predicted = pooled.confusion[k].sum(), pooled.confusion[:, k].sum()
        figures = f"{iou(pooled.confusion)[k]:8.4f}{dice(pooled.confusion)[k]:8.4f}"
        lines.append(f"{name:<12}{figures}{true:>14}{predicted:>14}")
    return lines


def _object_table(counts: ObjectCounts) -> list[str]:
    from unettile.metrics.objects import average_precision, f1

    lines = [f"{'object IoU >':<12}{'AP':>8}{'F1':>8}{'matched':>10}{'invented':>10}{'missed':>10}"]
    precision, balanced = average_precision(counts), f1(counts)
    for k, threshold in enumerate(counts.thresholds):
        numbers = f"{counts.tp[k]:>10}{counts.fp[k]:>10}{counts.fn[k]:>10}"
        lines.append(f"{threshold:<12.2f}{precision[k]:8.4f}{balanced[k]:8.4f}{numbers}")
    lines.append(f"{'mean':<12}{precision.mean():8.4f}{balanced.mean():8.4f}")
    return lines


def _worst(evaluation: Evaluation) -> list[str]:
    first = evaluation.worst_first[:WORST]
    by = evaluation.ranked_by
    lines = [f"{'worst ' + str(len(first)) if len(first) < len(evaluation.scores) else 'worst first':<12}{by:>10}"]
    return lines + [f"{_figure(evaluation.scores[name].figures[by]):>22}  {name}" for name in first]


def _interval(intervals: dict[str, dict[str, tuple[float, float] | None]], of: str, name: str) -> str:
    found = intervals.get(of, {}).get(name)
    return "" if found is None else f"{found[0]:.4f} … {found[1]:.4f}"


def _figure(value: float | None) -> str:
    return "" if value is None else "–" if value != value else f"{value:.4f}"
