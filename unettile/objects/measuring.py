"""Measuring: who looks at the parts of an image for the figures of its objects, and the figures at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unettile.images.slide import Slide
from unettile.objects.certainty import Chance, Rims
from unettile.objects.columns import Channels, Confidence, Figures
from unettile.objects.gather import Grouped
from unettile.objects.intensity import Totals, Values
from unettile.objects.measure import Summing
from unettile.objects.measures import Measures
from unettile.objects.neighbours import nearest
from unettile.objects.numbering import Numbered
from unettile.objects.scan import Looker, Picture
from unettile.objects.stains import Unmixed


@dataclass(frozen=True)
class Beneath:
    """What lies under the objects.

    Args:
        image: for intensities and pictures.
        stains: the same image's dyes.
        chance: the probability of an object.
        probable: the file that it is read from, if that is not the mask.
    """

    image: Slide | None = None
    stains: Unmixed | None = None
    chance: Chance | None = None
    probable: Slide | None = None


class Measuring:
    """Measures objects while their parts are shown.

    Args:
        directory: of temporary files.
        objects: numbered.
        beneath: what lies under them.
        measures: what is asked for.

    Attributes:
        lookers: who must see every part.
        pictures: that these parts must have.

    Raises:
        OSError: no room for a temporary file.
    """

    def __init__(self, directory: Path, objects: Numbered, beneath: Beneath, measures: Measures) -> None:
        self._directory, self._objects, self._beneath, self._measures = directory, objects, beneath, measures
        self._summing = Summing(directory, objects.numbers.first, objects.shape)
        self._channels: list[Channels] = []
        self._rims: Rims | None = None
        self.lookers: list[Looker] = [self._summing]
        self.pictures: list[Picture] = []
        if beneath.image is not None:
            self._add_channels(beneath.image, [f"intensity_{k}" for k in range(beneath.image.channels)])
        if beneath.stains is not None:
            self._add_channels(beneath.stains, [f"od_{dye}" for dye in beneath.stains.dyes])
        if beneath.chance is not None:
            self._rims = Rims(directory, objects.count, len(self.pictures))
            self.lookers.append(self._rims)
            self.pictures.append(beneath.chance)

    def close(self) -> None:
        """Let go of temporary files."""
        for channels in self._channels:
            if isinstance(channels.values, Values):
                channels.values.close()

    def finish(self, corners: Grouped | None, *, parted: bool) -> Figures:
        """Return the figures; call it once, when all parts were seen.

        Args:
            corners: of the outlines, for shapes, if these are asked for.
            parted: objects may have several parts that are not connected.

        Raises:
            OSError: no room for a temporary file.
        """
        sums = self._summing.finish()
        for channels in self._channels:
            if isinstance(channels.values, Values):
                channels.values.finish()
        shape = self._measures.shape and corners is not None
        return Figures(
            sums,
            corners if shape else None,
            nearest(sums.centroids()) if shape else None,
            tuple(self._channels),
            self._confidence(),
            parted,
        )

    def _add_channels(self, picture: Picture, names: Sequence[str]) -> None:
        measures, number = self._measures, len(self.pictures)
        values: Totals | Values
        if measures.intensity or picture.dtype.kind == "f":
            origin = self._objects.numbers.first
            values = Values(self._directory, origin, self._objects.shape[1], picture, number)
        else:
            values = Totals(self._directory, self._objects.count, picture, number)
        percentiles = measures.percentiles if measures.intensity else None
        self._channels.append(Channels(tuple(names), values, percentiles))
        self.lookers.append(values)
        self.pictures.append(picture)

    def _confidence(self) -> Confidence | None:
        inside, chance = self._objects.numbers.confidence, self._beneath.chance
        if inside is None or chance is None or self._rims is None:
            return None
        return Confidence(inside, self._rims, chance.scale)
