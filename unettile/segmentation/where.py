"""Within: the part of an image that a user wants segmented, a mask or what is not background, and that holds data.

Pixels outside are background, in tiles that are computed, too: what comes out depends on the mask, not on the tiles.
Pixels inside are those of a run without a mask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.drawn.geojson import read_geojson
from unettile.drawn.ground import Ground
from unettile.errors import InputError
from unettile.images.fingerprint import Fingerprint
from unettile.images.normalize import Scaling
from unettile.images.slide import ImageSource, Slide, open_labels
from unettile.segmentation.plan import Plan
from unettile.segmentation.restriction import Declared, Drawn, Restriction
from unettile.segmentation.tissue import Background, Read, Tissue
from unettile.wording import size_text

POLYGONS = (".geojson", ".json")
"""Endings of files of polygons."""

Inside = Callable[[Box], NDArray[np.bool_]]
"""Tells which pixels (h, w) of a box are to be segmented."""

Known = Callable[[Box], NDArray[np.bool_] | None]
"""Tells which pixels (h, w) of a box hold data; None if all of the image do."""


class Within:
    """Which pixels of an image are to be segmented.

    Args:
        inside: those that the user chose.
        known: those that hold data.
        tissue: what decides where there is background, if that is left out.
    """

    def __init__(self, inside: Inside, known: Known, tissue: Tissue | None = None) -> None:
        self._inside, self._known, self._tissue = inside, known, tissue

    def __call__(self, box: Box) -> NDArray[np.bool_]:
        """Return which pixels (h, w) of a box are chosen and hold data."""
        chosen, known = self._inside(box), self._known(box)
        return chosen if known is None else chosen & known

    def left_out(self) -> float | None:
        """Return the share of the image that is background and so left out; None where nothing is for that reason."""
        return None if self._tissue is None else self._tissue.left_out()


class MaskFile:
    """A mask of any resolution over an image: a pixel is inside where the mask at its centre is not 0.

    Args:
        path: an image with one channel, of the form of the image.
        shape: of the image, px.

    Raises:
        InputError: it cannot be read, has several channels, or another form.
    """

    def __init__(self, path: ImageSource, shape: tuple[int, int]) -> None:
        self._slide = open_labels(path)
        self._shape = shape
        height, width = self._slide.shape
        try:
            if self._slide.channels != 1:
                raise InputError(f"--mask {path} has {self._slide.channels} channels: need one, not 0 where to work")
            # each edge of the mask may be rounded by a pixel
            if abs(height * shape[1] - width * shape[0]) > max(shape) + max(height, width):
                raise InputError(
                    f"--mask {path} has {size_text((height, width))}, the image {size_text(shape)}:"
                    " need the same form at any resolution"
                )
        except InputError:
            self._slide.close()
            raise

    @property
    def restriction(self) -> Restriction:
        """What tells this mask from another."""
        return Restriction(mask=Fingerprint.of(self._slide))

    def inside(self, box: Box) -> NDArray[np.bool_]:
        """Return which pixels of a box are inside, (h, w)."""
        height, width = self._slide.shape
        rows = (2 * np.arange(box.y0, box.y1) + 1) * height // (2 * self._shape[0])
        columns = (2 * np.arange(box.x0, box.x1) + 1) * width // (2 * self._shape[1])
        part = Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)
        chosen: NDArray[np.bool_] = self._slide.read(part)[..., 0] != 0
        return chosen[np.ix_(rows - part.y0, columns - part.x0)]

    def close(self) -> None:
        self._slide.close()


class PolygonMask:
    """Polygons over an image: a pixel is inside where its centre is.

    Args:
        path: a GeoJSON file.
        ground: the pixels that are segmented.

    Raises:
        InputError: it cannot be read, holds no polygon, or none that lies on the image.
    """

    def __init__(self, path: Path, ground: Ground) -> None:
        self._shapes = ground.place(read_geojson(path), path)

    @property
    def restriction(self) -> Restriction:
        """What tells these polygons from others."""
        return Restriction(polygons=Drawn(len(self._shapes), self._shapes.sha256))

    def inside(self, box: Box) -> NDArray[np.bool_]:
        """Return which pixels of a box are inside, (h, w)."""
        return self._shapes.numbers(box) > 0

    def close(self) -> None:
        """Nothing is open."""


def open_mask(mask: ImageSource, ground: Ground) -> MaskFile | PolygonMask:
    """Open what says where to work: polygons, by their ending, or an image; errors as theirs."""
    if isinstance(mask, Path) and mask.name.lower().endswith(POLYGONS):
        return PolygonMask(mask, ground)
    return MaskFile(mask, ground.shape)


def ground_of(plan: Plan) -> Ground:
    """Return the pixels that a plan's network sees."""
    scale = plan.scale if plan.is_brought_back else 1.0
    return Ground(plan.shape, plan.downsample, plan.georeference, scale)


def describe_within(
    mask: ImageSource | None, skip_background: bool, slide: Slide, scaling: Scaling, ground: Ground
) -> Restriction | None:
    """Return what the plan says of where to work; None for everywhere.

    Args:
        slide: as the network sees it.
        ground: its pixels.

    Raises:
        InputError: the mask cannot be read or does not fit, or the image cannot be read.
    """
    declared = None if slide.known(Box(0, 0, 1, 1)) is None else Declared.of(slide.no_data)
    if skip_background:
        return Restriction(declared, background=Background.measure(slide, scaling))
    if mask is None:
        return None if declared is None else Restriction(declared)
    file = open_mask(mask, ground)
    try:
        return replace(file.restriction, no_data=declared)
    finally:
        file.close()


@contextmanager
def open_within(mask: ImageSource | None, plan: Plan, read: Read, known: Known) -> Iterator[Within | None]:
    """Give what tells where to work, as the plan has it; None for everywhere.

    Args:
        read: gives the pixels (h, w, C) of a box of the image.
        known: gives which of its pixels (h, w) hold data; None if all do.

    Raises:
        InputError: the mask cannot be read, or is another than the plan's.
    """
    if plan.within is None:
        yield None
    elif plan.within.background is not None:
        tissue = Tissue(plan.within.background, plan.shape, plan.scaling, read, plan.geometry.margin)
        yield Within(tissue.inside, known, tissue)
    elif plan.within.mask is not None or plan.within.polygons is not None:
        assert mask is not None
        file = open_mask(mask, ground_of(plan))
        try:
            if replace(file.restriction, no_data=plan.within.no_data) != plan.within:
                raise InputError(f"--mask {mask} was changed while it was read: give the same command again")
            yield Within(file.inside, known)
        finally:
            file.close()
    else:
        yield Within(lambda box: np.ones(box.shape, np.bool_), known)
