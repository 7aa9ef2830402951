"""Views: which 2-D images of files are trained on: a plane, a level, channels; and stacks, plane by plane."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from unettile.drawn.pairing import drawn_on
from unettile.errors import InputError
from unettile.images.slide import ImageSource, Slide, open_labels, open_slide
from unettile.images.view import FIRST, ManyPlanes, View
from unettile.training.pairs import Pair

Open = Callable[[ImageSource, View], Slide]


def choose_views(pairs: Sequence[Pair], view: View, in_channels: int) -> tuple[Pair, ...]:
    """Return pairs of 2-D images: those that a view chooses, and of stacks without a choice one for every plane.

    Opacity, where the file declares a channel to be it, is no colour: it is left out unless channels are chosen, or
    the network takes as many as there are with it.

    Args:
        view: of the images; labels have the same planes, or one.
        in_channels: that the network takes.

    Raises:
        InputError: a file cannot be read, or an image and its labels have not as many planes.
    """
    return tuple(one for pair in pairs for one in _pairs_of(pair, view, in_channels))


def note_views(pairs: Sequence[Pair], view: View) -> list[str]:
    """Return what to tell the user of images that are not trained on as their files are, a line each."""
    notes = []
    if view.channels is None and (clear := [pair for pair in pairs if pair.view.channels is not None]):
        notes.append(f"the opacity of {len(clear)} images is left out, {clear[0].name} the first of them")
    if planes := [pair for pair in pairs if pair.plane]:
        files = len({str(pair.image) for pair in planes})
        notes.append(f"{files} stack{'s are' if files > 1 else ' is'} trained on plane by plane: {len(planes)} images")
    return notes


def _pairs_of(pair: Pair, view: View, in_channels: int) -> list[Pair]:
    images = _planes(pair.image, view, open_slide)
    if len(images) == 1:
        pair = replace(pair, labels=drawn_on(pair.labels, pair.image, images[0]))
    labels = _planes(pair.labels, FIRST, open_labels)
    if len(images) == 1 < len(labels):  # the plane that was chosen
        labels = [one for one in labels if view.t in (None, one.t) and view.z in (None, one.z)]
    if len(images) != len(labels):
        raise InputError(
            f"{pair.labels} has {len(labels)} planes, its image {len(images)}: need as many, or choose one with --z or"
            " --time"
        )
    if len(images) > 1 and pair.weights is not None:
        raise InputError(f"{pair.weights} is the weight map of a stack: leave --weights out, or choose a plane")
    with open_slide(pair.image, images[0]) as slide:
        opacity, count = slide.no_data.opacity, slide.channels
    if view.channels is None and opacity is not None and count != in_channels:
        colours = tuple(number for number in range(count) if number != opacity)
        images = [replace(one, channels=colours) for one in images]
    return [
        replace(pair, view=image, label_view=label, plane=_plane(image, view))
        for image, label in zip(images, labels, strict=True)
    ]


def _planes(source: ImageSource, view: View, open_image: Open) -> list[View]:
    """Return the view, or of a stack one for every plane along the axes of which it chooses none."""
    try:
        open_image(source, view).close()
    except InputError as error:
        stack = error.__cause__
        if not isinstance(stack, ManyPlanes):
            raise
        numbers = range(stack.length)
        choices = [replace(view, z=n) if stack.axis == "z" else replace(view, t=n) for n in numbers]
        return [found for choice in choices for found in _planes(source, choice, open_image)]
    return [view]


def _plane(chosen: View, given: View) -> str:
    """Return what a plane adds to the name of its image; nothing where the user chose it."""
    parts = (("t", chosen.t, given.t), ("z", chosen.z, given.z))
    return "".join(f" {axis}{number}" for axis, number, wanted in parts if number is not None and wanted is None)
