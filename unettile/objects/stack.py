"""Stack: which planes of a mask objects are found in, and which planes of the image these are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from unettile.errors import InputError
from unettile.images.byplane import planes_of
from unettile.images.planes import Planes, plane_numbers, stack_lengths
from unettile.images.record import read_metadata, read_record
from unettile.images.view import FIRST
from unettile.objects.opened import image_view, probabilities_view
from unettile.objects.plane import Plane
from unettile.objects.products import Sources
from unettile.wording import counted


@dataclass(frozen=True)
class Stack:
    """Planes of a mask.

    Args:
        sources: of all planes.
        planes: that are meant, as the mask's file counts them.
        lengths: how many times and depths the file has.
        stated: which planes of the image all those of the file are; None where it does not say.
    """

    sources: Sources
    planes: Planes
    lengths: tuple[int, int]
    stated: Planes | None

    def __iter__(self) -> Iterator[tuple[Sources, Plane]]:
        """Yield of each plane what is read, and which plane of the image it is."""
        axes = tuple(axis for axis, length in zip("tz", self.lengths, strict=True) if length > 1)
        fixed = self.sources.t, self.sources.z
        for plane, shown in zip(self.planes, self.of_image, strict=True):
            t, z = (
                number if length > 1 else given
                for number, length, given in zip(plane, self.lengths, fixed, strict=True)
            )
            one = replace(self.sources, t=t, z=z, times=None, depths=None, stacked=True)
            # Of an axis that the mask has not, the first number says nothing.
            time, depth = (n if axis in axes or n else None for axis, n in zip("tz", shown, strict=True))
            yield one, Plane(time, depth, axes)

    @property
    def of_image(self) -> Planes:
        """Which planes of the image they are."""
        if self.stated is None:
            return self.planes
        times, depths = self.stated.times, self.stated.depths
        return Planes(tuple(times[t] for t in self.planes.times), tuple(depths[z] for z in self.planes.depths))

    def check(self) -> None:
        """Refuse files that lie under the mask and have other planes.

        Raises:
            InputError: one of them does, or cannot be read.
        """
        given = self.sources
        stated = self.of_image if self.stated is not None else None
        record = read_record(given.mask, given.series)
        for source, view, planes in (
            (given.image, image_view(replace(given, t=None, z=None), record), stated),
            (given.depth, FIRST, None),
            (given.probabilities, probabilities_view(given), None),
        ):
            if source is None:
                continue
            found = stack_lengths(source, view)
            if planes is None:
                fits = found == self.lengths
            else:
                fits = max(planes.times) < found[0] and max(planes.depths) < found[1]
            if not fits:
                raise InputError(
                    f"{source} has {_said(found)}, {given.mask} {_said(self.lengths)}: need stacks of the same axes, or"
                    " one plane alone: give --z N and --time N, without ranges"
                )


def choose_stack(sources: Sources) -> Stack | None:
    """Return the planes that are meant; None where a single image is.

    Raises:
        InputError: the mask cannot be read, or has no such planes.
    """
    if sources.times is None and sources.depths is None:
        return None
    mask = sources.mask
    lengths = stack_lengths(mask, sources.view)
    times = plane_numbers(mask, sources.times, sources.t, lengths[0], "t")
    depths = plane_numbers(mask, sources.depths, sources.z, lengths[1], "z")
    if lengths == (1, 1):
        return None
    stated = planes_of(read_metadata(mask)) if isinstance(mask, Path) and mask.exists() else None
    if stated is not None and stated.shape != lengths:
        stated = None
    return Stack(sources, Planes(times, depths), lengths, stated)


def _said(lengths: tuple[int, int]) -> str:
    return f"{counted(lengths[0], 'point')} in time and {counted(lengths[1], 'plane')} in depth"
