"""The page of a training run: one HTML file that needs nothing else, no script and no network."""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
import torch

from unettile import __version__
from unettile.atomic import atomic_path
from unettile.metrics.aggregate import FN, FP, TP
from unettile.metrics.objects import average_precision
from unettile.metrics.pixels import dice, iou
from unettile.report.chart import Axis, Line, line_chart
from unettile.report.pictures import CONFUSED, EDGE, INVENTED, MISSED, draw_panels
from unettile.training.kindscores import KindCounts
from unettile.training.recipe import Recipe
from unettile.training.result import TrainResult
from unettile.training.validate import ImageScore, Scores

SHOWN = 8  # validation images, spread from the best to the worst
WORST = 10


def write_report(result: TrainResult, recipe: Recipe, path: Path) -> None:
    """Write the page of a finished run.

    Raises:
        InputError: the file cannot be written.
    """
    body = [
        _head(result, path),
        "<h2>Curves</h2>" + _curves(result),
        "<h2>Classes</h2>" + _classes(result.validation, result),
        _kinds(result.validation.kinds, result),
        _gallery(result, recipe),
        "<h2>What the run cost</h2>" + _cost(result),
        f"<h2>Recipe</h2><details><summary>as it ran</summary><pre>{escape(recipe.to_toml())}</pre></details>",
    ]
    style = Path(__file__).with_name("style.css").read_text("utf-8")
    text = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f"<title>{escape(_title(path))}</title><style>{style}</style></head><body>{''.join(body)}</body></html>\n"
    )
    with atomic_path(path) as temporary:
        temporary.write_text(text, "utf-8", "backslashreplace")


def _title(path: Path) -> str:
    return f"Training of {path.parent.name.removesuffix('.training')}"


def _head(result: TrainResult, path: Path) -> str:
    checkpoint, scores = result.checkpoint, result.validation
    images = checkpoint.card["images"]
    parts = [f"{images[part]} to {verb}" for part, verb in _PARTS if images[part]]
    tiles = [("mean IoU of the classes" if len(checkpoint.classes) > 2 and scores.ap is None else "IoU", scores.iou)]
    if scores.ap is not None and _has_objects(scores):
        tiles.append(("AP of objects at IoU 0.5", scores.ap))
    if scores.mpq is not None:
        tiles.append(("mPQ of the kinds", scores.mpq))
    tiles.append(("validation loss", scores.loss))
    if result.test is not None:
        tiles.append(("IoU on the test images", result.test.iou))
    shown = "".join(f'<div class="tile"><b>{_figure(value)}</b>{escape(name)}</div>' for name, value in tiles)
    return (
        f"<h1>{escape(_title(path))}</h1>"
        f'<p class="faint">{escape(checkpoint.network)}, {_parameters(result)} parameters, best of '
        f"{len(result.rows)} epochs: {result.best.epoch}; images: {', '.join(parts)}</p>"
        f'<div class="tiles">{shown}</div>'
    )


_PARTS = (("training", "train on"), ("validation", "validate on"), ("test", "test on"))


def _parameters(result: TrainResult) -> str:
    return f"{sum(t.numel() for t in result.checkpoint.parameters.values() if t.is_floating_point()):,}"


def _curves(result: TrainResult) -> str:
    rows = result.rows
    epochs = [float(row.epoch) for row in rows]
    losses = [
        Line("training (the recipe's loss)", "a", tuple(row.training_loss for row in rows)),
        Line("validation (cross entropy)", "b", tuple(row.validation_loss for row in rows)),
    ]
    scores = [Line("IoU", "a", tuple(row.iou for row in rows))]
    if result.validation.ap is not None and _has_objects(result.validation):
        ap = tuple(math.nan if row.ap is None else row.ap for row in rows)
        scores.append(Line("AP of objects at IoU 0.5", "b", ap))
    if result.validation.mpq is not None:
        mpq = tuple(math.nan if row.mpq is None else row.mpq for row in rows)
        scores.append(Line("mPQ of the kinds", "c", mpq))
    rates = [Line("learning rate", "c", tuple(row.learning_rate for row in rows))]
    best = float(result.best.epoch)
    charts = (
        line_chart(epochs, losses, Axis("loss", log=True), best),
        line_chart(epochs, scores, Axis("scores on the validation images", ends=(0.0, 1.0)), best),
        line_chart(epochs, rates, Axis("learning rate at the end of the epoch", log=True), best),
    )
    note = '<p class="faint">The dashed line is the epoch that was kept.</p>'
    return f'<div class="charts">{"".join(charts)}</div>{note}'


def _classes(scores: Scores, result: TrainResult) -> str:
    """Return per-class scores and the confusion of classes."""
    confusion = scores.confusion
    names = [_swatch(info.color) + escape(info.name) for info in result.checkpoint.classes]
    true, predicted, right = confusion.sum(axis=1), confusion.sum(axis=0), np.diagonal(confusion)
    rows = []
    for k, name in enumerate(names):
        figures = (iou(confusion)[k], dice(confusion)[k], _share(right[k], predicted[k]), _share(right[k], true[k]))
        rows.append([name, *(_figure(value) for value in figures), f"{true[k]:,}"])
    table = _table(["class", "IoU", "Dice", "precision", "recall", "true px"], rows)
    cells = "".join(
        f"<tr><td>{name}</td>"
        + "".join(_shaded(_share(confusion[k, j], true[k])) for j in range(len(names)))
        + f"<td>{true[k]:,}</td></tr>"
        for k, name in enumerate(names)
    )
    heads = "".join(f"<th>{name}</th>" for name in names)
    return (
        f'<div class="scroll">{table}</div><p class="faint">Of the pixels of each true class (row), the share that was '
        f'predicted as each class (column):</p><div class="scroll"><table><thead><tr><th>true class</th>{heads}'
        f"<th>true px</th></tr></thead><tbody>{cells}</tbody></table></div>"
    )


def _kinds(counts: KindCounts | None, result: TrainResult) -> str:
    """Return the scores of the kinds of objects; nothing where all are alike."""
    if counts is None:
        return ""
    infos = result.checkpoint.classes[1 : len(counts.table) + 1]
    figures = zip(infos, counts.panoptic_quality, counts.f1, counts.table, strict=True)
    rows = [
        [
            _swatch(info.color) + escape(info.name),
            _figure(float(quality)),
            _figure(float(f1)),
            *(f"{int(row[column]):,}" for column in (TP, FP, FN)),
        ]
        for info, quality, f1, row in figures
    ]
    table = _table(["kind", "panoptic quality", "F1", "found", "invented", "missed"], rows)
    accuracy = counts.accuracy
    right = "" if accuracy is None else f" Of the {counts.matched:,} objects found, {accuracy:.1%} are of their kind."
    note = f"Objects that match a true one of the same kind at an IoU above 0.5.{right}"
    return f'<h2>Kinds of objects</h2><div class="scroll">{table}</div><p class="faint">{note}</p>'


def _gallery(result: TrainResult, recipe: Recipe) -> str:
    """Return pictures of images from the best to the worst, then the worst ones, each image once."""
    colours = tuple(info.color for info in result.checkpoint.classes)
    scores = result.validation.images
    order = sorted(range(len(scores)), key=lambda index: (_rank(scores[index]), scores[index].name))
    worst, others = order[:WORST], order[WORST:][::-1]
    spread = [others[index * (len(others) - 1) // max(1, SHOWN - 1)] for index in range(SHOWN)] if others else []

    def entry(index: int) -> str:
        score = scores[index]
        panels = draw_panels(result.sources[index], result.judge, recipe, colours)
        pictures = "".join(
            f'<div><img src="{uri}" alt="{name} of {escape(score.name)}"/><small>{name}</small></div>'
            for name, uri in panels
        )
        heading = f'<p class="name">{escape(score.name)} <span>{_scores(score)}</span></p>'
        return f'<div>{heading}<div class="row">{pictures}</div></div>'

    legend = "".join(
        f"<span>{_swatch(colour)}{name}</span>"
        for name, colour in (("invented", INVENTED), ("missed", MISSED), ("another class", CONFUSED))
    )
    note = f"Of images larger than {EDGE} px the part with the most errors is shown, and all of it smaller."
    if recipe.labels.kinds:
        note += " Objects of unknown kind are grey in the truth."
    parts = [f'<p class="legend faint">Errors: {legend}<br/>{note}</p>']
    if spread:
        shown = "".join(entry(index) for index in dict.fromkeys(spread))
        parts = [
            "<h2>Validation images</h2>",
            *parts,
            f'<div class="images">{shown}</div>',
            f"<h2>The worst {WORST}</h2>",
        ]
    else:
        parts = ["<h2>All images, the worst first</h2>", *parts]
    parts.append(f'<div class="images">{"".join(entry(index) for index in worst)}</div>')
    return "".join(parts)


def _rank(score: ImageScore) -> tuple[float, float]:
    """Return what orders images, the worst first: objects if there are any, then IoU; an empty image is no bad one."""
    overlap = score.foreground_iou
    objects = 1.0 if score.objects is None else float(average_precision(score.objects)[0])
    return (objects, 1.0 if math.isnan(overlap) else overlap)


def _has_objects(scores: Scores) -> bool:
    return any(_count(image) for image in scores.images)


def _count(score: ImageScore) -> int:
    """Return how many objects there are in an image, true and found."""
    counts = score.objects
    return 0 if counts is None else int(2 * counts.tp[0] + counts.fp[0] + counts.fn[0])


def _scores(score: ImageScore) -> str:
    parts = [f"IoU {_figure(score.foreground_iou)}"]
    if score.objects is not None and not _count(score):
        parts.append("no objects")
    elif score.objects is not None:
        counts = score.objects
        parts.append(f"AP {_figure(float(average_precision(counts)[0]))}")
        parts.append(f"{counts.tp[0]} found, {counts.fp[0]} invented, {counts.fn[0]} missed")
    return ", ".join([*parts, f"loss {score.loss:.3g}"])


def _cost(result: TrainResult) -> str:
    cost = result.cost
    rows = (
        ("time", f"{cost.seconds / 3600:.2f} h" if cost.seconds > 5400 else f"{cost.seconds / 60:.1f} min"),
        ("steps", f"{result.rows[-1].step:,}, {cost.steps_per_second:.3g} a second while training"),
        ("peak memory of the first process", f"{cost.memory_bytes / 2**30:.2f} GiB"),
        ("machine", cost.machine),
        ("versions", f"unettile {__version__}, torch {torch.__version__}, Python {platform.python_version()}"),
        ("model", f"sha256 {result.checkpoint.sha256}"),
    )
    cells = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in rows)
    return f'<div class="scroll"><table class="cost"><tbody>{cells}</tbody></table></div>'


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; cells are HTML already."""
    head = "".join(f"<th>{name}</th>" for name in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _shaded(share: float) -> str:
    strength = 0.0 if math.isnan(share) else 0.6 * share
    return f'<td style="background: rgba(var(--heat), {strength:.3f})">{_figure(share)}</td>'


def _swatch(colour: Sequence[int]) -> str:
    red, green, blue = colour
    return f'<i class="swatch" style="background: rgb({red}, {green}, {blue})"></i>'


def _share(part: int, whole: int) -> float:
    return float(part / whole) if whole else math.nan


def _figure(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4f}"
