"""Weight maps of label files: what `unettile weights` does.

Two passes over the label images. The first surveys them: it refuses what is no label map, and counts the pixels that
balance the classes over the whole set. The second computes and writes one map for each, piece by piece, so that memory
does not grow with the image. Each map appears under its name when it is complete, and says in its metadata all that
decides its pixels: a set that was interrupted goes on with the maps that are missing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from unettile import __version__
from unettile.atomic import atomic_path
from unettile.box import Box
from unettile.errors import InputError, UsageError
from unettile.images.canvas import Canvas
from unettile.images.slide import Slide, fingerprint, is_folder, list_images, open_labels
from unettile.images.write_tiff import write_tiff
from unettile.labels import carve_gaps, check_labels
from unettile.weightmap import Border, balanced_weights, reach, weight_map

BLOCK_EDGE = 2048  # px; bounds the memory of the survey
ENDINGS = (".tif", ".tiff")

OnProgress = Callable[[int, int], None]
"""Takes pixels done and pixels in all."""


@dataclass(frozen=True)
class Weighting:
    """What decides a weight map beside the labels.

    Args:
        w0: height of the border term, ≥ 0.
        sigma: its reach, px, > 0.
        balanced: classes count alike over the whole set; otherwise w_c is 1 for both.
        gap: px of background carved between touching cells before anything else, as training does; ≥ 0.

    Raises:
        UsageError: a number out of range.
    """

    w0: float = 10.0
    sigma: float = 5.0
    balanced: bool = True
    gap: int = 0

    def __post_init__(self) -> None:
        Border(self.w0, self.sigma)
        if self.gap < 0:
            raise UsageError(f"gap is {self.gap}: it is a width in px and must be 0 or more")

    @property
    def margin(self) -> int:
        """Px around a piece of the map within which labels matter."""
        return reach(self.sigma) + self.gap


@dataclass(frozen=True)
class LabelFile:
    """One label image of a set, surveyed.

    Args:
        labels: the file.
        output: where its weight map goes.
        shape: (H, W).
        cells: distinct ids above 0.
        foreground: pixels of cells, after gaps were carved.
    """

    labels: Path
    output: Path
    shape: tuple[int, int]
    cells: int
    foreground: int
    fingerprint: dict[str, Any]

    @property
    def pixels(self) -> int:
        return self.shape[0] * self.shape[1]


@dataclass(frozen=True)
class WeightPlan:
    """What will be written: the set, surveyed, and the class weights that follow from all of it."""

    output: Path
    weighting: Weighting
    files: tuple[LabelFile, ...]
    class_weights: tuple[float, float]

    @property
    def pixels(self) -> int:
        return sum(file.pixels for file in self.files)

    @property
    def cells(self) -> int:
        return sum(file.cells for file in self.files)

    def canvas(self, file: LabelFile) -> Canvas:
        """Return the image to write; its metadata has all that decides a pixel, and nothing else."""
        metadata = {
            "content": "weight map",
            "version": __version__,
            "w0": self.weighting.w0,
            "sigma": self.weighting.sigma,
            "gap": self.weighting.gap,
            "class_weights": list(self.class_weights),
            "labels": file.fingerprint,
        }
        return Canvas(file.shape, dtype=np.dtype(np.float32), metadata=metadata)


def plan_weight_maps(
    labels: Path, output: Path | None, weighting: Weighting, overwrite: bool, on_progress: OnProgress
) -> WeightPlan:
    """Survey a label image, or a folder of them, and refuse what cannot be done before anything is written.

    Args:
        labels: a file or a folder.
        output: a .tif file for a file, a folder for a folder; None for `default_output(labels)`.
        overwrite: outputs that exist will be replaced. Otherwise they are refused, unless they are a part of this very
            set, left by a run that was interrupted.

    Raises:
        UsageError: an output that does not fit the input.
        InputError: nothing to read, no label maps, or an output that exists.
    """
    target = output if output is not None else default_output(labels)
    pairs = _name_outputs(labels, target)
    existing = [written for _, written in pairs if written.exists()]
    if existing and not overwrite and len(existing) == len(pairs):
        raise InputError(f"{target} is already there: give --overwrite to replace it, or another -o")
    files = tuple(_survey_all(pairs, weighting.gap, on_progress))
    class_weights = (1.0, 1.0)
    if weighting.balanced:
        foreground = sum(file.foreground for file in files)
        background, cell = balanced_weights((sum(file.pixels for file in files) - foreground, foreground))
        class_weights = (background, cell)
    plan = WeightPlan(target, weighting, files, class_weights)
    if not overwrite:
        for file in files:
            _refuse_foreign(plan, file)
    return plan


def write_weight_maps(plan: WeightPlan, overwrite: bool, on_progress: OnProgress) -> int:
    """Write the maps of a plan and return how many; without `overwrite`, those that an earlier run wrote are kept.

    Raises:
        InputError: a label image that is damaged, or a destination that cannot be written.
    """
    if plan.files[0].output != plan.output:  # a folder of maps
        plan.output.mkdir(parents=True, exist_ok=True)
    todo = [file for file in plan.files if overwrite or not file.output.exists()]
    done = plan.pixels - sum(file.pixels for file in todo)
    on_progress(done, plan.pixels)
    for file in todo:
        before = done

        def on_pixels(pixels: int, before: int = before) -> None:
            on_progress(before + pixels, plan.pixels)

        _write(plan, file, on_pixels)
        done += file.pixels
    return len(todo)


def default_output(labels: Path) -> Path:
    """Return where maps go if nothing is said: beside the labels, with `_weights` in the name.

    >>> default_output(Path("set/cells.png")).as_posix()
    'set/cells_weights.tif'
    """
    named = labels if labels.name not in ("", "..") else labels.resolve()
    if is_folder(labels):
        return named.with_name(f"{named.name}_weights")
    return named.with_name(f"{_stem(named)}_weights.tif")


def _stem(path: Path) -> str:
    return path.stem.removesuffix(".ome")


def _name_outputs(labels: Path, target: Path) -> list[tuple[Path, Path]]:
    """Return each label image and the path of its map."""
    if not is_folder(labels):
        with open_labels(labels):  # no such file, or no image: said before anything about the output
            pass
        if target.is_dir() or target.suffix.lower() not in ENDINGS or _stem(target) != target.stem:
            raise UsageError(f"-o {target}: one label image gives one file; need a name that ends with .tif")
        pairs = [(labels, target)]
    else:
        paths = list_images(labels)
        if target.exists() and not target.is_dir():
            raise UsageError(f"-o {target} is a file: a folder of label images gives a folder; name one")
        pairs = [(path, target / f"{_stem(path)}.tif") for path in paths]
    sources = {path.resolve() for path, _ in pairs}
    seen: dict[Path, Path] = {}
    for path, written in pairs:
        if written.resolve() in sources:
            raise UsageError(f"-o {target}: {written} is itself a label image; choose another place")
        if written in seen:
            raise InputError(f"{seen[written]} and {path} would give one map, {written.name}: rename one")
        seen[written] = path
    return pairs


def _survey_all(pairs: list[tuple[Path, Path]], gap: int, on_progress: OnProgress) -> Iterator[LabelFile]:
    for index, (labels, output) in enumerate(pairs):
        with open_labels(labels) as slide:
            if slide.channels != 1:
                raise InputError(
                    f"{labels} has {slide.channels} channels, a picture: need a label map, one channel of ids"
                )
            yield _survey(slide, output, gap)
        on_progress(index + 1, len(pairs))


def _survey(slide: Slide, output: Path, gap: int) -> LabelFile:
    cells: set[int] = set()
    foreground = 0
    whole = Box.of_shape(slide.shape)
    for y in range(0, whole.y1, BLOCK_EDGE):
        for x in range(0, whole.x1, BLOCK_EDGE):
            box = Box(y, x, y + BLOCK_EDGE, x + BLOCK_EDGE).intersect(whole)
            near = box.expand(gap).intersect(whole)
            labels = check_labels(slide.read(near), str(slide.path))
            inner = box.relative_to(near).slices
            cells.update(np.unique(labels[inner]).tolist())
            foreground += int(np.count_nonzero(carve_gaps(labels, gap)[inner]))
    return LabelFile(slide.path, output, slide.shape, len(cells - {0}), foreground, fingerprint(slide))


def _refuse_foreign(plan: WeightPlan, file: LabelFile) -> None:
    """Refuse an output that is there and is not what this run would write."""
    if not file.output.exists():
        return
    found: Any = None
    with suppress(Exception), tifffile.TiffFile(file.output) as tif:  # whatever it is, it is not ours
        found = json.loads(tif.pages.first.description)
    need = json.loads(plan.canvas(file).description)
    if not isinstance(found, dict) or found.get("content") != need["content"]:
        raise InputError(f"{file.output} is already there: give --overwrite to replace it, or another -o")
    differing = sorted(key for key in found.keys() | need.keys() if found.get(key) != need.get(key))
    if differing:
        raise InputError(
            f"{file.output} is already there with other {', '.join(differing)}: give --overwrite to replace it, or "
            "another -o"
        )


def _write(plan: WeightPlan, file: LabelFile, on_pixels: Callable[[int], None]) -> None:
    weighting, done = plan.weighting, 0
    with open_labels(file.labels) as slide:
        whole = Box.of_shape(slide.shape)

        def read(box: Box) -> NDArray[np.float32]:
            nonlocal done
            near = box.expand(weighting.margin).intersect(whole)
            labels = carve_gaps(check_labels(slide.read(near), str(file.labels)), weighting.gap)
            weights = weight_map(labels, weighting.w0, weighting.sigma, plan.class_weights)
            done += box.area
            on_pixels(done)
            return weights[box.relative_to(near).slices]

        with atomic_path(file.output) as temporary:
            write_tiff(temporary, plan.canvas(file), read)
