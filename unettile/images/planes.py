"""Planes: which of a stack's planes are meant, and how many it has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from unettile.errors import InputError, UsageError
from unettile.images.slide import ImageSource, open_labels, open_slide
from unettile.images.spacing import Spacing
from unettile.images.view import FIRST, OPTIONS, ManyPlanes, View

_RANGE = re.compile(r"(\d*):(\d*)")


@dataclass(frozen=True)
class PlaneRange:
    """Planes along an axis, half-open, counted from 0.

    Args:
        start: the first.
        stop: behind the last; None for all that there are.
    """

    start: int = 0
    stop: int | None = None

    def numbers(self, length: int, axis: str) -> range:
        """Return the planes that are meant of an axis, "z" or "t".

        Raises:
            InputError: it does not reach so far.
        """
        stop = length if self.stop is None else self.stop
        if stop > length or self.start >= stop:
            need = f"0:{length}" if length > 1 else "0, or leave it out"
            raise InputError(f"{OPTIONS[axis]} {self.start}:{stop} does not exist: it holds {length}; use {need}")
        return range(self.start, stop)


@dataclass(frozen=True)
class Planes:
    """Planes of a stack, all depths of the first time, then of the next.

    Args:
        times, depths: numbers, counted from 0.
    """

    times: tuple[int, ...]
    depths: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """How many times and depths there are."""
        return len(self.times), len(self.depths)

    def __len__(self) -> int:
        return len(self.times) * len(self.depths)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((t, z) for t in self.times for z in self.depths)


def parse_planes(text: str | int | None, option: str) -> tuple[int | None, PlaneRange | None]:
    """Parse --z or --time: a number, or a range such as 0:30, or all; neither where there is nothing.

    Raises:
        UsageError: it is none of these.

    >>> parse_planes("3", "--z"), parse_planes("5:9", "--z")
    ((3, None), (None, PlaneRange(start=5, stop=9)))
    """
    if text is None or isinstance(text, int):
        return text, None
    if text == "all":
        return None, PlaneRange()
    if text.isdecimal():
        return int(text), None
    found = _RANGE.fullmatch(text)
    if not found or (found[2] and int(found[1] or 0) >= int(found[2])):
        raise UsageError(f'{option} got "{text}": need a number from 0, a range like 0:30, or all')
    return None, PlaneRange(int(found[1] or 0), int(found[2]) if found[2] else None)


def stack_lengths(image: ImageSource, view: View) -> tuple[int, int]:
    """Return how many points in time and planes in depth an image has.

    Args:
        view: which image of the file; its plane does not matter.

    Raises:
        InputError: the image cannot be opened.
    """
    lengths = {"t": 1, "z": 1}
    asked = replace(view, t=None, z=None, mpp=None)
    while True:
        try:
            open_slide(image, asked).close()
            return lengths["t"], lengths["z"]
        except InputError as error:
            if not isinstance(error.__cause__, ManyPlanes):
                raise
            lengths[error.__cause__.axis] = error.__cause__.length
            asked = replace(asked, t=0) if error.__cause__.axis == "t" else replace(asked, z=0)


def stack_spacing(image: ImageSource, view: View) -> Spacing:
    """Return how far the planes of an image lie apart, and its points in time, as far as it says.

    Args:
        view: one plane of it.

    Raises:
        InputError: the image cannot be opened.
    """
    with open_slide(image, replace(view, mpp=None)) as slide:
        return slide.spacing


def plane_numbers(
    image: ImageSource, chosen: PlaneRange | None, single: int | None, length: int, axis: str
) -> tuple[int, ...]:
    """Return the numbers of the planes that are meant along an axis.

    Args:
        image: for messages.
        chosen: a range of them; or else `single`, one.
        length: how many there are.
        axis: "z" or "t".

    Raises:
        InputError: a range that does not fit, or nothing is chosen and there are several.
    """
    if chosen is not None:
        return tuple(chosen.numbers(length, axis))
    if single is None and length > 1:
        option = OPTIONS[axis]
        raise InputError(f"{image}: it is a stack along {option}, too; choose with {option}: a number, 0:{length}, all")
    return (single or 0,)


def plane_views(labels: ImageSource) -> list[View]:
    """Return a view for every plane of label images: all depths of the first time, then of the next; of one, the whole.

    Raises:
        InputError: it cannot be opened.
    """
    found = [FIRST]
    while True:
        try:
            open_labels(labels, found[0]).close()
            return found
        except InputError as error:
            stack = error.__cause__
            if not isinstance(stack, ManyPlanes):
                raise
            numbers = range(stack.length)
            found = [
                replace(one, z=number) if stack.axis == "z" else replace(one, t=number)
                for one in found
                for number in numbers
            ]


def plane_name(view: View) -> str:
    """Return what a plane adds to the name of its file; nothing of what is no stack.

    >>> plane_name(View(t=1, z=3)), plane_name(FIRST)
    (' t1 z3', '')
    """
    return "".join(f" {axis}{number}" for axis, number in (("t", view.t), ("z", view.z)) if number is not None)
