"""Survey: a label image read once, piece by piece, before anything is written: is it one, and what does it hold?"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.errors import InputError
from unettile.images.fingerprint import Fingerprint
from unettile.images.georeference import Georeference
from unettile.images.idparts import IdParts, count_parts
from unettile.images.planes import plane_views
from unettile.images.slide import ImageSource, open_labels
from unettile.images.spacing import UNKNOWN, Spacing
from unettile.images.view import FIRST, View
from unettile.labels import carve_gaps
from unettile.objects.components import open_ids

BLOCK_EDGE = 2048  # px; bounds the memory of the survey
ID_LIMIT = 2**20  # ids gathered before they are merged


@dataclass(frozen=True)
class LabelFile:
    """One label image of a set, surveyed.

    Args:
        labels: the file, or what was drawn.
        output: where its weight map goes.
        shape: (H, W).
        pixel_size_um: height and width of a pixel, if the file says.
        georeference: where on earth the pixels lie, if the file says.
        spacing: of the planes of a stack, as far as the file says.
        views: of the planes of a stack; of one image the whole.
        cells: distinct ids above 0, or separate parts.
        id_parts: what speaks for or against ids that are cells.
        foreground: pixels of cells, after gaps were carved.
        fingerprint: of the file.
    """

    labels: ImageSource
    output: Path
    shape: tuple[int, int]
    pixel_size_um: tuple[float, float] | None
    cells: int
    id_parts: IdParts
    foreground: int
    fingerprint: Fingerprint
    georeference: Georeference | None = None
    spacing: Spacing = UNKNOWN
    views: tuple[View, ...] = (FIRST,)

    @property
    def pixels(self) -> int:
        return self.shape[0] * self.shape[1] * len(self.views)

    @property
    def stack(self) -> tuple[int, int]:
        """How many points in time and planes in depth there are."""
        return len({view.t for view in self.views}), len({view.z for view in self.views})


def survey(labels: ImageSource, output: Path, gap: int, components: bool) -> LabelFile:
    """Read a label image and say what it holds.

    Args:
        components: cells are the separate parts of all that is above 0, whatever the ids.

    Raises:
        InputError: unreadable, or no label map.
    """
    views = tuple(plane_views(labels))
    with open_labels(labels, views[0]) as slide:
        file = LabelFile(
            labels,
            output,
            slide.shape,
            slide.pixel_size_um,
            0,
            IdParts(),
            0,
            Fingerprint.of(slide),
            slide.georeference,
            slide.spacing,
            views,
        )
    for view in views:
        file = _with_plane(file, view, gap, components)
    return file


def _with_plane(file: LabelFile, view: View, gap: int, components: bool) -> LabelFile:
    """Return what is known of a file once a plane of it was read, too."""
    labels = file.labels
    with open_labels(labels, view) as slide, ExitStack() as stack:
        if slide.channels != 1:
            raise InputError(f"{labels} has {slide.channels} channels, a picture: need a label map, one channel of ids")
        id_parts = IdParts() if components else count_parts(slide)
        read_ids = open_ids(slide, stack, components=components)
        ids, foreground = _Ids(), 0
        whole = Box.of_shape(slide.shape)
        for y in range(0, whole.y1, BLOCK_EDGE):
            for x in range(0, whole.x1, BLOCK_EDGE):
                box = Box(y, x, y + BLOCK_EDGE, x + BLOCK_EDGE).intersect(whole)
                near = box.expand(gap).intersect(whole)
                read = read_ids(near)
                inner = box.relative_to(near).slices
                ids.add(read[inner])
                foreground += int(np.count_nonzero(carve_gaps(read, gap)[inner]))
        return replace(
            file,
            cells=file.cells + ids.count(),
            id_parts=file.id_parts + id_parts,
            foreground=file.foreground + foreground,
        )


class _Ids:
    """Counts distinct ids above 0, in 8 bytes for each."""

    def __init__(self) -> None:
        self._known: NDArray[Any] = np.empty(0, np.uint64)
        self._new: list[NDArray[Any]] = []
        self._waiting = 0

    def add(self, labels: NDArray[Any]) -> None:
        rows = labels.ravel()
        starts = rows[np.flatnonzero(rows[1:] != rows[:-1]) + 1]  # cells are wide: few pixels begin a run
        self._new.append(np.unique(np.append(starts, rows[0])).astype(np.uint64))
        self._waiting += self._new[-1].size
        if self._waiting > ID_LIMIT:
            self._merge()

    def count(self) -> int:
        self._merge()
        return int(np.count_nonzero(self._known))

    def _merge(self) -> None:
        self._known = np.unique(np.concatenate([self._known, *self._new]))
        self._new, self._waiting = [], 0
