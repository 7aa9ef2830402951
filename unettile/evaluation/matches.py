"""The list of matched, missed and invented objects, as CSV."""

from __future__ import annotations

import csv
from pathlib import Path

from unettile.atomic import atomic_path, remove_leftovers
from unettile.errors import InputError, UsageError
from unettile.evaluation.score import Evaluation, Place

HEADER = (
    "image", "result", "iou", "true_id", "true_area_px", "true_y_px", "true_x_px",
    "predicted_id", "predicted_area_px", "predicted_y_px", "predicted_x_px",
)  # fmt: skip

FORMULAS = ("=", "+", "-", "@", "\t", "\r")
"""Beginnings of a name that a spreadsheet would compute; such a name gets an apostrophe before it."""


def check_matches(path: Path, *, overwrite: bool) -> None:
    """Refuse a name for the list before any work.

    Raises:
        UsageError: it is no .csv.
        InputError: it exists.
    """
    if path.suffix.lower() != ".csv":
        raise UsageError(f"--match {path.name}: need a name that ends with .csv")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists: choose another name, or give --overwrite")


def write_matches(path: Path, evaluation: Evaluation) -> None:
    """Write one row an object, or a pair of two that match, image after image.

    Raises:
        InputError: the file cannot be written.
    """
    remove_leftovers(path)
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(HEADER)
        for name, score in evaluation.scores.items():
            shown = f"'{name}" if name.startswith(FORMULAS) else name
            for row in score.rows:
                pairing = row.pairing
                cells = [shown, pairing.result, f"{pairing.iou:.4f}"]
                for number, place in ((pairing.truth, row.truth), (pairing.prediction, row.prediction)):
                    cells += _cells(number, place)
                writer.writerow(cells)


def _cells(number: int, place: Place | None) -> list[str]:
    if place is None:
        return ["", "", "", ""]
    area, y, x = place
    return [str(number), str(area), f"{y:.4f}", f"{x:.4f}"]
