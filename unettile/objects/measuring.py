"""Measuring: who looks at the parts of an image for a table, and what all of them saw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from unettile.images.slide import Slide
from unettile.objects.certainty import Chance, Rims
from unettile.objects.columns import Channels, Confidence, Figures
from unettile.objects.gather import Grouped
from unettile.objects.intensity import Totals, Values
from unettile.objects.measure import Summing
from unettile.objects.measures import Measures
from unettile.objects.neighbours import nearest
from unettile.objects.outline import CornerFinder
from unettile.objects.scan import Labels, Looker, OnProgress, Picture, Scan
from unettile.objects.stains import Unmixed
from unettile.tiling import BlockGrid


@dataclass(frozen=True)
class Beneath:
    """What lies under the objects.

    Args:
        image: for intensities and the overlay.
        stains: the same image's dyes.
        chance: the probability of an object.
        probable: the file that it is read from, if that is not the mask.
    """

    image: Slide | None = None
    stains: Unmixed | None = None
    chance: Chance | None = None
    probable: Slide | None = None


class Measuring:
    """Measures objects part by part; corners of outlines are found by another, who may need them, too.

    Args:
        first: (N,) raster index of the first pixel of each object.
        shape: of the image.
        beneath: what lies under them.
        measures: what is asked for.
        directory: of temporary files.

    Raises:
        OSError: no room for a temporary file.
    """

    def __init__(
        self,
        first: NDArray[np.int64],
        shape: tuple[int, int],
        beneath: Beneath,
        measures: Measures,
        directory: Path,
    ) -> None:
        self._first, self._shape, self._measures, self._directory = first, shape, measures, directory
        self._summing = Summing(directory, first, shape)
        self._chance = beneath.chance
        self._channels: list[Channels] = []
        self._rims: Rims | None = None
        self.pictures: list[Picture] = []
        if beneath.image is not None:
            self._add(beneath.image, [f"intensity_{k}" for k in range(beneath.image.channels)])
        if beneath.stains is not None:
            self._add(beneath.stains, [f"od_{dye}" for dye in beneath.stains.dyes])
        if beneath.chance is not None:
            self._rims = Rims(directory, first.size, len(self.pictures))
            self.pictures.append(beneath.chance)

    @property
    def lookers(self) -> list[Looker]:
        """Who must be shown every part."""
        found: list[Looker] = [self._summing, *(channels.values for channels in self._channels)]
        return found if self._rims is None else [*found, self._rims]

    def finish(self, corners: Grouped | None, confidence: NDArray[np.float64] | None) -> Figures:
        """Return what was seen.

        Args:
            corners: of the outlines, if shapes are asked for.
            confidence: (N,) mean probability of each object, if it is known.

        Raises:
            OSError: no room for a temporary file.
        """
        sums = self._summing.finish()
        for channels in self._channels:
            if isinstance(channels.values, Values):
                channels.values.finish()
        known = None
        if confidence is not None and self._chance is not None and self._rims is not None:
            known = Confidence(confidence, self._rims, self._chance.scale)
        if not self._measures.shape:
            return Figures(sums, None, None, tuple(self._channels), known)
        return Figures(sums, corners, nearest(sums.centroids()), tuple(self._channels), known)

    def close(self) -> None:
        """Let go of temporary files."""
        for channels in self._channels:
            if isinstance(channels.values, Values):
                channels.values.close()

    def __enter__(self) -> Measuring:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _add(self, picture: Picture, names: Sequence[str]) -> None:
        """Look at the channels of a picture."""
        number, values = len(self.pictures), None
        if self._measures.intensity or picture.dtype.kind == "f":
            values = Values(self._directory, self._first, self._shape[1], picture, number)
        percentiles = self._measures.percentiles if self._measures.intensity else None
        looker = values or Totals(self._directory, self._first.size, picture, number)
        self._channels.append(Channels(tuple(names), looker, percentiles))
        self.pictures.append(picture)


def measure(
    objects: Labels,
    first: NDArray[np.int64],
    beneath: Beneath,
    measures: Measures,
    grid: BlockGrid,
    directory: Path,
    on_progress: OnProgress,
    confidence: NDArray[np.float64] | None = None,
) -> Figures:
    """Measure all objects of an image, in one pass over the blocks of `grid`; see `Measuring`.

    Raises:
        InputError: an image that is damaged.
        OSError: no room for a temporary file.
    """
    with Measuring(first, objects.shape, beneath, measures, directory) as measuring:
        finder = CornerFinder(directory, objects.count, objects.shape) if measures.shape else None
        lookers = measuring.lookers if finder is None else [*measuring.lookers, finder]
        with Scan(objects, measuring.pictures, lookers, on_progress) as scan:
            scan.show_all(grid)
        return measuring.finish(None if finder is None else finder.finish(), confidence)
