"""How right is a model on the held-out images of the shipped recipe: whole organs, preparations and microscopes.

The recipe `nuclei` names its sources, and which of their images are never trained on; UNETTILE_DATA names where they
lie. All of these are segmented and scored as objects, each brought to nuclei of the size that the model knows best by
the true size of its own, or, with `--estimate`, without a word of their size, as by a user who does not know it.
Figures are means over the images of a group, as in the models' cards. It measures answers, not time.

    python -m benchmarks.held -o benchmarks/results/held.json
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy as np
from numpy.typing import NDArray
from skimage.io import imread

import unettile
from benchmarks.abroad import FOLDERS, KINDS, OPEN
from benchmarks.measure import finish, machine, make_parser
from benchmarks.recipes import DATA
from unettile.objects.diameters import diameter_percentiles, object_areas
from unettile.training.job import find_sources
from unettile.training.pairs import Pair
from unettile.training.recipefile import read_recipe

FIGURES = ("ap_50", "mean_ap", "dice_1")


def held_out(sources: list[str], data: Path = DATA) -> Iterator[tuple[str, Pair]]:
    """Give each image that the recipe never trains on, and its group: its source, and what it shows."""
    recipe = read_recipe("nuclei")
    parts = {name: replace(recipe.sources[name], validate=0) for name in sources}  # 0: all of them
    kinds = {
        name: KINDS.get(kind, kind) for name, *_, kind in json.loads((FOLDERS["dsb2018"] / "index.json").read_text())
    }
    manifest = json.loads((OPEN / "manifest.json").read_text())
    kinds |= {
        entry["file"]: entry.get("preparation", "") for entry in manifest if entry["set"] == FOLDERS["kromp"].name
    }
    for pair in find_sources(data, data, parts).validation:
        yield f"{pair.source}: {kinds.get(pair.name, '')}".rstrip(": "), pair


def true_size(labels: NDArray[np.integer]) -> float:
    """Return the median diameter of the objects, px, by area, as models state it."""
    return float(diameter_percentiles(object_areas([labels]), [50])[0])


def judge(model: unettile.Model, group: list[Pair], *, estimate: bool) -> dict[str, float]:
    """Return the mean scores of the images of a group."""
    scores: list[dict[str, float]] = []
    for pair in group:
        labels = imread(pair.labels)
        diameter = "auto" if estimate else f"{true_size(labels)}px"
        found = model.segment(imread(pair.image), write="instances", diameter=diameter)
        scores.append(unettile.evaluate(found, labels, objects=True, instances=True).pooled.figures)
    return {name: round(fmean(score[name] for score in scores), 4) for name in FIGURES}


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--models", nargs="+", default=["nuclei", "nuclei-valid"])
    parser.add_argument("--sources", nargs="+", default=list(FOLDERS), choices=list(FOLDERS))
    parser.add_argument("--estimate", action="store_true", help="do not tell the size of the nuclei")
    parser.add_argument("--every", type=int, default=1, help="judge each so-many-th image of a group, for a first look")
    options = parser.parse_args()
    groups: dict[str, list[Pair]] = defaultdict(list)
    for group, pair in held_out(options.sources):
        groups[group].append(pair)
    rows: list[dict[str, object]] = []
    for name in options.models:
        model = unettile.load(name)
        for group, pairs in groups.items():
            chosen = pairs[:: options.every]
            rows.append(
                {"model": name, "group": group, "judged": len(chosen)} | judge(model, chosen, estimate=options.estimate)
            )
            finish({"machine": machine("torch"), "estimated": options.estimate, "groups": rows}, options.output)


if __name__ == "__main__":
    main()
