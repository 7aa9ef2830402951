"""Labelling: the objects of an image of any size, numbered as if it had been labelled whole.

1. Each block is labelled by itself; its labels go into a temporary file, its faces and counts into the `Register`.
2. The register joins pieces across faces and numbers the objects by their first pixels.
3. Whoever reads a region of the result gets the labels of the file, renumbered; if asked for, gaps are closed, rims are
   given back, and objects grow.

Block sizes change neither which pixels are an object nor its number.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.errors import InputError
from unettile.images.ahead import map_ahead
from unettile.images.idclasses import IdClasses
from unettile.limits import count_threads
from unettile.objects.certainty import Chance
from unettile.objects.depth import GAIN, STEPS, distance_depth, map_depth, smooth
from unettile.objects.foreground import Pixels
from unettile.objects.gaps import close_gaps, gap_margin
from unettile.objects.grow import grow, grow_margin
from unettile.objects.numbering import Numbers, Register
from unettile.objects.pieces import Kinds, Pieces, connected_pieces, split_pieces
from unettile.objects.rim import Rim
from unettile.objects.rules import Labelling, Splitting
from unettile.objects.scan import OnProgress
from unettile.objects.spill import Spill
from unettile.tiling import Block, BlockGrid
from unettile.wording import size_text

BLOCK_EDGE = 1536
"""Edge of the blocks, px."""


class Classes(Protocol):
    """Where the classes of pixels come from."""

    @property
    def shape(self) -> tuple[int, int]: ...

    def read(self, box: Box) -> NDArray[np.uint32]: ...


class Objects:
    """The numbered objects of an image, read by region; ids 1 … count by the raster order of first pixels.

    First pixels and classes are those before objects get anything of the background.
    """

    def __init__(
        self, spill: Spill, numbers: Numbers, shape: tuple[int, int], labelling: Labelling, rim: Rim | None
    ) -> None:
        self._spill = spill
        self._gaps, self._rim, self._growth = labelling.gaps, rim, labelling.growth
        self._margin = gap_margin(self._gaps) + (0 if rim is None else rim.width) + grow_margin(self._growth)
        self.numbers = numbers
        self.shape = shape

    @property
    def count(self) -> int:
        return self.numbers.count

    @property
    def id_classes(self) -> IdClasses:
        """The classes of the objects, and how many of their pixels are of them."""
        return IdClasses(self.numbers.classes, self.numbers.shares)

    def read(self, box: Box) -> NDArray[np.uint32]:
        """Return the ids (h, w) of a part of the image, 0 for background."""
        if not self._margin:
            return self._spill.read(box, self.numbers.of_piece)
        near = box.expand(self._margin).intersect(Box.of_shape(self.shape))
        ids = close_gaps(self._spill.read(near, self.numbers.of_piece), self._gaps)
        if self._rim is not None:
            ids = self._rim.take(ids, near)
        return np.ascontiguousarray(grow(ids, self._growth)[box.relative_to(near).slices])


class Cutter:
    """Cuts blocks into pieces; several threads may do so at a time.

    Args:
        classes: of the image.
        splitting: None for connected regions.
        depth: a depth map to split by, one channel of the image's shape; None for distances.
        merged: pixels of all classes are one foreground; pieces then tell how many pixels of which class they have.
        chance: the probability of an object; pieces then tell what theirs add up to.

    Raises:
        InputError: a depth map that does not fit.
    """

    def __init__(
        self,
        classes: Classes,
        splitting: Splitting | None,
        depth: Pixels | None,
        merged: bool = False,
        chance: Chance | None = None,
    ) -> None:
        self._classes, self._splitting, self._depth, self._merged = classes, splitting, depth, merged
        self.chance = chance
        self._reading = threading.Lock()  # images are read by one thread at a time
        self._image = Box.of_shape(classes.shape)
        if depth is not None:
            check_depth(depth, classes.shape)

    def cut(self, block: Block) -> Pieces:
        """Return the pieces of a block.

        Raises:
            InputError: an image that is damaged.
        """
        splitting, box = self._splitting, block.box
        beyond = 0 if splitting is None else 1 + splitting.passes + (splitting.reach if self._depth is None else 0)
        near = box.expand(beyond).intersect(self._image)
        if not self._merged:
            pieces = self._cut(box, near, self._read(near))
        else:
            classes = self._read(near)
            pieces = self._cut(box, near, (classes > 0).astype(np.uint32))
            inside = np.ascontiguousarray(classes[box.relative_to(near).slices])
            pieces = replace(pieces, kinds=Kinds.count(pieces.labels, inside))
        if self.chance is None:
            return pieces
        with self._reading:
            weights = self.chance.read(box).ravel()  # sums stay below 2^53, so that they are exact
        sums = np.bincount(pieces.labels.ravel(), weights, minlength=pieces.count + 1)[1:]
        return replace(pieces, chance=sums.astype(np.int64))

    def _read(self, box: Box) -> NDArray[np.uint32]:
        with self._reading:
            return self._classes.read(box)

    def _cut(self, box: Box, near: Box, classes: NDArray[np.uint32]) -> Pieces:
        """Return the pieces of a box, of which classes are known within `near`."""
        splitting = self._splitting
        if splitting is None:
            return connected_pieces(classes, box, self._image.width)
        if self._depth is None:
            wide = box.expand(1 + splitting.passes).intersect(self._image)
            depth = distance_depth(classes, splitting.reach, wide.relative_to(near))
            cap = splitting.reach * STEPS * GAIN**splitting.passes
        else:
            with self._reading:
                values = self._depth.read(near)[:, :, 0]
            wide, depth = near, map_depth(values)
            depth[classes == 0] = 0
            cap = np.iinfo(np.int64).max
        depth = smooth(depth, splitting.passes)
        ring = box.expand(1)
        seen = ring.intersect(self._image)
        pads = ((seen.y0 - ring.y0, ring.y1 - seen.y1), (seen.x0 - ring.x0, ring.x1 - seen.x1))
        classes = _padded(classes[seen.relative_to(near).slices], pads)  # lets go of what lay around
        depth = _padded(depth[seen.relative_to(wide).slices], pads)
        return split_pieces(classes, depth, cap, splitting, box, self._image)


def _padded(pixels: NDArray[Any], pads: tuple[tuple[int, int], tuple[int, int]]) -> NDArray[Any]:
    """Return pixels with so many zeros before and after them on each axis."""
    return np.pad(pixels, pads) if any(map(any, pads)) else np.ascontiguousarray(pixels)


def label_objects(
    cutter: Cutter,
    labelling: Labelling,
    grid: BlockGrid,
    spill: Spill,
    on_progress: OnProgress,
    chance: Chance | None = None,
) -> Objects:
    """Label all objects of an image.

    Args:
        cutter: cuts blocks into pieces.
        labelling: what else decides the objects.
        grid: blocks of any size.
        spill: for the same grid; must stay open as long as the result is read.
        on_progress: called after each block.
        chance: the probability of an object, which rims need.

    Raises:
        InputError: an image that is damaged.
        OSError: the temporary file cannot be written.
    """
    rim = None
    if labelling.rim:
        assert chance is not None
        rim = Rim(chance, labelling)
    register = Register(grid)
    done, total = 0, grid.shape[0] * grid.shape[1]
    for block, pieces in zip(grid, map_ahead(cutter.cut, grid, ahead=count_threads()), strict=True):
        spill.write(block.index, pieces.labels, register.add(block.index, pieces))
        done += block.box.area
        on_progress(done, total)
    scale = 1 if cutter.chance is None else cutter.chance.scale
    numbers = register.solve(labelling.splitting, labelling.min_size, labelling.min_confidence, scale)
    return Objects(spill, numbers, grid.shape, labelling, rim)


def check_depth(depth: Pixels, shape: tuple[int, int]) -> None:
    """Refuse a depth map that does not fit the mask.

    Raises:
        InputError: another size, several channels, or a type that is not taken.
    """
    if depth.shape != shape:
        raise InputError(f"{depth.path} is {size_text(depth.shape)}, MASK {size_text(shape)}: need equal sizes")
    if depth.channels != 1:
        raise InputError(
            f"{depth.path} has {depth.channels} channels: need one, of depths; choose with --depth-channel"
        )
    if depth.dtype.kind != "f" and depth.dtype not in (np.uint8, np.uint16):
        raise InputError(f"{depth.path} holds {depth.dtype}: need uint8, uint16, or floating point from 0 to 1")
