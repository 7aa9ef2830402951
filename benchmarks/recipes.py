"""What each recipe makes of five small sets in the same time: a model that is trained, run on other images, and scored.

The sets are parts of real data, which UNETTILE_DATA names, and of every one the images to score are none of those that
are trained on:

    vessels     two fundus photographs; the third
    membranes   eight slices of ISBI 2012, the first; twelve of the others
    neurons     the left halves of two fluorescence images, sparse and of two dyes; the right halves
    cytology    nine images of Papanicolaou-stained cells; those that the shipped model never saw
    nuclei      ten H&E images of organs that the shipped model never saw; 24 others of these organs

Masks are scored by the Dice of all foreground, objects by their average precision at an IoU of 0.5, means over images.
Each training is a command of its own, `unettile train --recipe … --max-time …`, on all cores; masks and scores are made
by `segment` and `evaluate` without any options. `shipped` is no recipe: the shipped model as it is, for objects.

    python -m benchmarks.recipes -o benchmarks/results/recipes.json --minutes 10
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from skimage.io import imread, imsave

from benchmarks.measure import finish, machine, make_parser, run_child

DATA = Path(os.environ.get("UNETTILE_DATA", "../shared/data"))
SHIPPED = "shipped"
RECIPES = ("auto", SHIPPED, "semantic", "adam", "paper")

Images = Iterator[tuple[Path, Path, slice]]
"""Files of images and of their labels, and which columns are taken."""


@dataclass(frozen=True)
class Task:
    """A set to learn from, and one to be judged by."""

    name: str
    objects: bool
    train: Callable[[], Images]
    judge: Callable[[], Images]


def _files(folder: str, names: str, columns: slice = slice(None)) -> Images:
    """Find images and labels by a pattern."""
    images = sorted((DATA / folder / "images").glob(names))
    for image in images:
        yield image, DATA / folder / "labels" / f"{image.stem}.png", columns


def _halves(right: bool) -> Images:
    for folder in ("fluo_neuronal/red", "fluo_neuronal/yellow"):
        (found,) = _files(folder, "*")
        middle = imread(found[0]).shape[1] // 2
        yield *found[:2], slice(middle, None) if right else slice(0, middle)


def _organs(train: bool) -> Images:
    for organ in ("human_kidney", "human_lung", "human_pancreas", "human_tongue", "mouse_liver", "mouse_spleen"):
        found = list(_files("nuclei_open/nuinsseg_he", f"{organ}_*"))
        few = 1 if organ in ("human_lung", "mouse_spleen") else 2
        yield from found[:few] if train else found[few : few + 4]


TASKS = (
    Task(
        "vessels",
        False,
        lambda: (file for name in ("01_dr*", "01_g*") for file in _files("hrf", name)),
        lambda: _files("hrf", "01_h*"),
    ),
    Task("membranes", False, lambda: _files("isbi2012", "0[0-7].*"), lambda: _files("isbi2012", "[12][0-36-9].*")),
    Task("neurons", False, lambda: _halves(False), lambda: _halves(True)),
    Task(
        "cytology",
        True,
        lambda: iter(list(_files("nuclei_open/cervical_pap", "[2-9]?.*"))[:9]),
        lambda: _files("nuclei_open/cervical_pap", "1?.*"),
    ),
    Task("nuclei", True, lambda: _organs(True), lambda: _organs(False)),
)


def put(images: Images, folder: Path) -> int:
    """Write images and labels below a folder, and return how many."""
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    count = 0
    for image, labels, columns in images:
        if columns == slice(None):
            shutil.copy(image, folder / "images")
            shutil.copy(labels, folder / "labels")
        else:
            for source, part in ((image, "images"), (labels, "labels")):
                pixels: NDArray[Any] = imread(source)
                imsave(folder / part / f"{image.stem}.png", pixels[:, columns], check_contrast=False)
        count += 1
    return count


def scores(model: object, judged: Path, masks: Path, *, objects: bool) -> dict[str, Any]:
    """Segment the images of a folder without any options, and return the means of what they score."""
    what = ["--write", "instances"] if objects else []
    run_child("unettile", ["segment", judged / "images", "-o", masks, "-m", model, *what, "--quiet"])
    how = ["--objects", "--instances"] if objects else []
    told = run_child("unettile", ["evaluate", masks, judged / "labels", *how, "--json", "--quiet"])
    means: dict[str, Any] = json.loads(told.stdout)["mean_over_images"]
    return means


def score(task: Task, recipe: str, minutes: float, folder: Path) -> dict[str, object]:
    """Train, segment and judge, and return the figures as JSON values."""
    where = folder / task.name
    if not where.exists():
        put(task.train(), where / "train")
        put(task.judge(), where / "judge")
    count, model, masks = len(list((where / "train/images").iterdir())), "nuclei", where / recipe
    cpu_seconds, steps = 0.0, 0
    if recipe != SHIPPED:
        model = str(where / f"{recipe}.safetensors")
        train = [where / "train/images", where / "train/labels", "-o", model, "--recipe", recipe]
        if task.objects and recipe not in ("auto", "nuclei"):
            train += ["--set", 'labels.kind="instances"', "--set", 'labels.names=["background", "object"]']
        if recipe == "paper":  # its network is for grey images alone
            first = imread(next((where / "train/images").iterdir()))
            train += ["--set", f"network.in_channels={first.shape[2] if first.ndim == 3 else 1}"]
        if recipe != "auto" and count < 4:
            train += ["--validation", 0, "--test", 0]  # as their refusal advises
        time = ["--max-time", f"{round(60 * minutes)}s"]
        cpu_seconds = run_child("unettile", ["train", *train, *time, "--json", "--quiet"]).cpu_seconds
        with (where / f"{recipe}.training" / "log.csv").open() as file:
            steps = int([row["step"] for row in csv.DictReader(file)][-1])
    means = scores(model, where / "judge", masks, objects=task.objects)
    return {
        "task": task.name,
        "recipe": recipe,
        "minutes": minutes,
        "images": count,
        "judged": len(list((where / "judge/images").iterdir())),
        "steps": steps,
        "cpu_seconds": round(cpu_seconds),
        "measure": "AP at 0.5" if task.objects else "Dice",
        "score": round(float(means["ap_50" if task.objects else "dice_1"]), 4),
    }


def main() -> None:
    parser = make_parser(__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="that each training has")
    parser.add_argument("--tasks", nargs="+", default=[task.name for task in TASKS])
    parser.add_argument("--recipes", nargs="+", default=RECIPES)
    parser.add_argument("--keep", type=Path, help="a folder for images, models and masks, which stay there")
    options = parser.parse_args()
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as temporary:
        for recipe in options.recipes:
            for task in TASKS:
                if task.name in options.tasks and (task.objects or recipe != SHIPPED):
                    rows.append(score(task, recipe, options.minutes, options.keep or Path(temporary)))
                    finish({"machine": machine("torch"), "trainings": rows}, options.output)  # as soon as it is there


if __name__ == "__main__":
    main()
