"""The plan of a set of weight maps: which file gives which, with which weights; refused before anything is written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from unettile import __version__
from unettile.errors import InputError, UsageError
from unettile.images.canvas import ZARR_VERSIONS, Canvas, Layer
from unettile.images.formats import format_of
from unettile.images.idparts import IdParts
from unettile.images.listing import image_stem
from unettile.images.provenance import check_version, read_provenance
from unettile.weighting import OnProgress
from unettile.weighting.outputs import default_output, name_outputs
from unettile.weighting.survey import LabelFile, survey
from unettile.weightmap import Border, balanced_weights

DTYPES = ("float32", "float16")
LARGEST_REACH = 2**16
"""px; so many rows and columns around a piece of a map are held in memory."""
PREVIEWS = "previews"
"""Folder of the pictures of a folder of maps; beside them they would be taken for maps."""


@dataclass(frozen=True)
class Weighting:
    """What decides a weight map beside the labels.

    Args:
        border: the second term.
        balanced: classes count alike over the whole set; otherwise w_c is 1 for both.
        gap: px of background carved between touching cells before anything else, as training does; ≥ 0.
        dtype: of the maps, float32 or float16.
        components: cells are the separate parts of all that is above 0; otherwise ids are.

    Raises:
        UsageError: a number out of range.
    """

    border: Border
    balanced: bool = True
    gap: int = 0
    dtype: str = "float32"
    components: bool = False

    def __post_init__(self) -> None:
        if self.gap < 0:
            raise UsageError(f"gap is {self.gap}: it is a width in px and must be 0 or more")
        if self.dtype not in DTYPES:
            raise UsageError(f"dtype {self.dtype!r} is not known: need one of {', '.join(DTYPES)}")
        if max(self.border.reach) > LARGEST_REACH:
            raise UsageError(
                f"sigma is {self.border.sigma:g}, which reaches {max(self.border.reach):.3g} px: need at most"
                f" {LARGEST_REACH} px, a smaller sigma"
            )
        self.check_holds((0.0, 0.0))

    def check_holds(self, class_weights: tuple[float, float]) -> None:
        """Refuse weights that the type of the maps cannot hold: they would become infinite.

        Args:
            class_weights: w_c of background and cells.

        Raises:
            UsageError: names the largest weight and the most that the type holds.
        """
        largest = max(class_weights[0] + self.w0, class_weights[1])
        most = float(np.finfo(self.dtype).max)
        if not largest <= most:
            use = "--dtype float32" if self.dtype == "float16" else "a smaller --w0"
            raise UsageError(
                f"weights reach {largest:.6g} (w0 {self.w0:g}, w_c {class_weights[0]:.4g} and {class_weights[1]:.4g}),"
                f" {self.dtype} holds up to {most:.6g}: use {use}, or --class-weights none"
            )

    @property
    def w0(self) -> float:
        return self.border.w0

    @property
    def margin(self) -> tuple[int, int]:
        """Rows and columns around a piece of the map within which labels matter."""
        rows, columns = self.border.reach
        return rows + self.gap, columns + self.gap


@dataclass(frozen=True)
class WeightPlan:
    """What will be written: the set, surveyed, and the class weights that follow from all of it.

    Args:
        zarr: the version of OME-Zarr, of maps that are one.
    """

    output: Path
    weighting: Weighting
    files: tuple[LabelFile, ...]
    class_weights: tuple[float, float]
    zarr: str = ZARR_VERSIONS[0]

    @property
    def pixels(self) -> int:
        return sum(file.pixels for file in self.files)

    @property
    def cells(self) -> int:
        return sum(file.cells for file in self.files)

    @property
    def note(self) -> str | None:
        """What to tell the user of ids that do not look like those of cells; None if they do."""
        parts = sum((file.id_parts for file in self.files), IdParts())
        return parts.note("give --components, so that every separate part is one")

    def canvas(self, file: LabelFile) -> Canvas:
        """Return the image to write; its metadata has all that decides a pixel, and nothing else."""
        border = self.weighting.border
        metadata = {
            "content": "weight map",
            "unettile": __version__,
            "w0": border.w0,
            "sigma": border.sigma,
            "pixel_size": list(border.pixel_size),
            "gap": self.weighting.gap,
            "dtype": self.weighting.dtype,
            "class_weights": list(self.class_weights),
            "labels": file.fingerprint.to_dict(),
            **({"components": True} if self.weighting.components else {}),
        }
        return Canvas(
            file.shape,
            (Layer("weights"),),
            dtype=np.dtype(self.weighting.dtype),
            pixel_size_um=file.pixel_size_um,
            metadata=metadata,
            georeference=file.georeference,
            stack=file.stack,
            zarr=self.zarr,
            spacing=file.spacing,
        )

    @property
    def is_folder(self) -> bool:
        """Whether the output is a folder of maps."""
        return self.files[0].output != self.output

    def preview_of(self, file: LabelFile) -> Path:
        """Return where the picture of a map goes."""
        stem = image_stem(file.output)
        return (
            self.output / PREVIEWS / f"{stem}.png" if self.is_folder else self.output.with_name(f"{stem}_preview.png")
        )

    def preview_metadata(self, file: LabelFile) -> dict[str, Any]:
        """Return what the picture of a map says of itself: all that decides it."""
        return self.canvas(file).metadata | {"content": "picture of a weight map"}

    def todo(self, previews: bool, overwrite: bool) -> tuple[LabelFile, ...]:
        """Return the files whose map, or whose picture if pictures are wanted, is not there.

        Args:
            overwrite: of what is there, nothing counts.

        Raises:
            InputError: something else is where a picture would go.
        """
        if previews and not overwrite:
            for file in self.files:
                _refuse_foreign(self.preview_of(file), self.preview_metadata(file))
        return tuple(
            file
            for file in self.files
            if overwrite or not file.output.exists() or (previews and not self.preview_of(file).exists())
        )

    def make_folders(self, previews: bool) -> None:
        """Make the folders that the maps go to.

        Raises:
            InputError: they cannot be made.
        """
        if self.is_folder:
            folder = self.output / PREVIEWS if previews else self.output
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise InputError(f"cannot make {folder}: {(error.strerror or str(error)).lower()}") from error


def plan_weight_maps(
    labels: Path,
    output: Path | None,
    weighting: Weighting,
    overwrite: bool,
    on_progress: OnProgress,
    images: Path | None = None,
    zarr: str = ZARR_VERSIONS[0],
) -> WeightPlan:
    """Survey a label image, or a folder of them, and refuse what cannot be done before anything is written.

    Args:
        labels: a file or a folder, of label images or of polygons.
        output: a .tif file for a file, a folder for a folder; None for `default_output(labels)`.
        overwrite: outputs that exist will be replaced. Otherwise they are refused, unless they are a part of this very
            set, left by a run that was interrupted, or all of it.
        images: of which the polygons are, a file or a folder, for their sizes; None where files of polygons state them.
        zarr: the version of OME-Zarr, of maps that are one.

    Raises:
        UsageError: an output that does not fit the input, or a version that is not written.
        InputError: nothing to read, no label maps, or an output that exists.
    """
    if zarr not in ZARR_VERSIONS:
        raise UsageError(f"--format-version {zarr!r} is not written: need {' or '.join(ZARR_VERSIONS)}")
    target = output if output is not None else default_output(labels)
    pairs = name_outputs(labels, target, images)
    files: list[LabelFile] = []
    for path, written in pairs:
        files.append(survey(path, written, weighting.gap, weighting.components))
        on_progress(len(files), len(pairs))
    class_weights = (1.0, 1.0)
    if weighting.balanced:
        foreground = sum(file.foreground for file in files)
        background, cell = balanced_weights((sum(file.pixels for file in files) - foreground, foreground))
        class_weights = (background, cell)
    weighting.check_holds(class_weights)
    plan = WeightPlan(target, weighting, tuple(files), class_weights, zarr)
    format_of(plan.files[0].output).check(plan.canvas(plan.files[0]))
    if not overwrite:
        for file in files:
            _refuse_foreign(file.output, plan.canvas(file).metadata)
            check_version(file.output, zarr)
    return plan


def _refuse_foreign(path: Path, need: dict[str, Any]) -> None:
    """Refuse an output that is there and is not what this run would write.

    Args:
        need: what it would say of itself.
    """
    if not path.exists():
        return
    found = read_provenance(path)
    if found.get("content") != need["content"]:
        raise InputError(f"{path} is already there: give --overwrite to replace it, or another -o")
    need = json.loads(json.dumps(need))
    differing = sorted(key for key in found.keys() | need.keys() if found.get(key) != need.get(key))
    if differing:
        raise InputError(
            f"{path} is already there with other {', '.join(differing)}: give --overwrite to replace it, or another -o"
        )
