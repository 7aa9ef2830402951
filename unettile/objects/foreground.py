"""Foreground: which pixels of a mask belong to objects, and of which class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import cc3d
import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.errors import InputError
from unettile.objects.rules import Foreground

HIGHEST = 1 + 1e-3
"""What is above is no probability; sums that should be 1 are rounded."""


class Pixels(Protocol):
    """An image that is read by region: a slide, or what is not a file yet."""

    @property
    def path(self) -> Path: ...

    @property
    def shape(self) -> tuple[int, int]: ...

    @property
    def channels(self) -> int: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def read(self, box: Box) -> NDArray[Any]: ...


class ChosenIds:
    """An image of ids, those that are not chosen left out.

    Args:
        ids: one channel of integers.
        chosen: (N + 1,) bool, whether id 0, 1, … is; ids past it are kept, for whoever knows what they are.
    """

    channels = 1

    def __init__(self, ids: Pixels, chosen: NDArray[np.bool_]) -> None:
        self._ids, self._chosen = ids, chosen
        self.path, self.shape, self.dtype = ids.path, ids.shape, ids.dtype

    def read(self, box: Box) -> NDArray[Any]:
        """Return a part of the image, (h, w, 1)."""
        ids = self._ids.read(box)
        known = (ids >= 0) & (ids < self._chosen.size)
        return np.where(known & ~self._chosen[np.where(known, ids, 0)], ids.dtype.type(0), ids)


class ClassMap:
    """The classes of a mask, read by region.

    Args:
        mask: as `open_labels` gives it, for example.
        foreground: what its numbers mean.

    Raises:
        InputError: several channels without a threshold, a type that does not fit, or a class that is not there.
    """

    def __init__(self, mask: Pixels, foreground: Foreground) -> None:
        self._mask = mask
        self._foreground = foreground
        self.shape = mask.shape
        if foreground.threshold is None:
            if mask.channels != 1:
                raise InputError(
                    f"{mask.path} has {mask.channels} channels: need a mask of one, or --threshold if they are"
                    " probabilities of classes"
                )
            if mask.dtype.kind not in "uibf":
                raise InputError(f"{mask.path} holds {mask.dtype}: need class ids")
            return
        if mask.dtype.kind == "f":
            self._scale = 1.0
        elif mask.dtype in (np.uint8, np.uint16):
            self._scale = float(np.iinfo(mask.dtype).max)
        else:
            raise InputError(f"{mask.path} holds {mask.dtype}: probabilities are uint8, uint16 or floating point")
        planes = max(2, mask.channels)
        self._chosen = foreground.classes or tuple(range(1, planes))
        if max(self._chosen) >= planes:
            raise InputError(f"{mask.path} has no class {max(self._chosen)}: its classes are 1 … {planes - 1}")

    def read(self, box: Box) -> NDArray[np.uint32]:
        """Return the classes (h, w) of a part of the image, 0 for background, holes filled.

        Raises:
            InputError: it cannot be read, holds negative ids or fractions, or, as probabilities, numbers above 1.
        """
        holes = self._foreground.holes
        near = box.expand(holes).intersect(Box.of_shape(self.shape)) if holes else box
        pixels = self._mask.read(near)
        classes = self._of_ids(pixels[:, :, 0]) if self._foreground.threshold is None else self._likeliest(pixels)
        if holes:
            _fill(classes, near, self.shape, holes)
            classes = np.ascontiguousarray(classes[box.relative_to(near).slices])
        return classes

    def _of_ids(self, ids: NDArray[Any]) -> NDArray[np.uint32]:
        """Return ids, which ImageJ and others write as floating point where they are many."""
        if ids.dtype.kind == "f" and not (ids == np.trunc(ids)).all():  # NaN is not equal to itself
            raise InputError(
                f"{self._mask.path} holds fractions: need whole numbers, ids; for probabilities give --threshold"
            )
        if ids.dtype.kind in "if" and ids.size and ids.min() < 0:
            raise InputError(f"{self._mask.path} holds the id {ids.min()}: need 0 for background and ids above it")
        if ids.size and float(ids.max()) >= 2**32:
            raise InputError(f"{self._mask.path} holds the id {ids.max()}: need ids below 2^32")
        classes = ids.astype(np.uint32)
        if self._foreground.classes is not None:
            classes[~np.isin(classes, self._foreground.classes)] = 0
        return classes

    def _likeliest(self, pixels: NDArray[Any]) -> NDArray[np.uint32]:
        assert self._foreground.threshold is not None
        if pixels.dtype.kind == "f" and (pixels > HIGHEST).any():
            raise InputError(
                f"{self._mask.path} holds {pixels.max():g}, which is no probability: need numbers from 0 to 1; if they"
                " are ids, leave --threshold out"
            )
        planes = [0] if pixels.shape[2] == 1 else list(self._chosen)
        least = self._foreground.threshold * self._scale
        if pixels.dtype.kind == "u":
            best, total = _sum_up(pixels, planes)
            inside = total >= math.ceil(least)
        else:
            chosen = pixels[:, :, planes]
            best, inside = chosen.argmax(axis=2), chosen.sum(axis=2, dtype=np.float64) >= least  # NaN is no foreground
        classes: NDArray[np.uint32] = np.asarray(self._chosen, np.uint32)[best]
        classes *= inside
        return classes


def _sum_up(pixels: NDArray[Any], planes: Sequence[int]) -> tuple[NDArray[np.intp], NDArray[np.uint32]]:
    """Return the place of the first largest of some planes, and their sum, (h, w) each."""
    largest = pixels[:, :, planes[0]].copy()
    total = largest.astype(np.uint32)
    best = np.zeros(largest.shape, np.intp)
    for place, plane in enumerate(planes[1:], start=1):
        values = pixels[:, :, plane]
        np.copyto(best, place, where=values > largest)
        np.maximum(largest, values, out=largest)
        total += values
    return best, total


def _fill(classes: NDArray[np.uint32], box: Box, shape: tuple[int, int], holes: int) -> None:
    """Fill the holes of `classes`, in place, each with the class above its first pixel.

    A region that leaves the box on a side that is not the image's and reaches the part that is asked for, `holes` px
    from there, has more than `holes` px: what is filled does not depend on the box.
    """
    regions, count = cc3d.connected_components(
        (classes == 0).astype(np.uint8), connectivity=8, return_N=True, out_dtype=np.uint32
    )
    area = np.bincount(regions.ravel(), minlength=count + 1)
    hole = (area > 0) & (area <= holes)
    hole[0] = False
    for side in (np.s_[0, :], np.s_[-1, :], np.s_[:, 0], np.s_[:, -1]):
        hole[regions[side]] = False
    flat = np.flatnonzero(hole[regions])
    if flat.size == 0:
        return
    ids = regions.ravel()[flat]
    found, first = np.unique(ids, return_index=True)
    fill = classes.ravel()[flat[first] - classes.shape[1]]
    classes.ravel()[flat] = fill[np.searchsorted(found, ids)]
