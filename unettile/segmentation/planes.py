"""Planes of a run: which of a stack are segmented, and what is measured once for all of them.

The whole stack is measured, whichever of its planes are chosen, so that a range changes no pixel: intensities from up
to 16 planes, spread evenly, the size of objects from the one in its middle.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from unettile.images.planes import Planes, plane_numbers, stack_lengths
from unettile.images.slide import ImageSource, Slide, open_slide
from unettile.images.view import View
from unettile.inference.predict import Predictor
from unettile.segmentation.options import SegmentOptions, StackFacts
from unettile.segmentation.sizing import size_up
from unettile.segmentation.suiting import check_channels

MEASURED = 16
"""Planes from which the scaling of a stack is measured."""


def choose_planes(
    image: ImageSource, predictor: Predictor, options: SegmentOptions
) -> tuple[SegmentOptions, Planes | None]:
    """Return options that choose one plane, or the planes of a stack; the stack is measured where that is asked for.

    Raises:
        InputError: the image cannot be read, or has no such planes.
    """
    several = options.times is not None or options.depths is not None
    if not several and options.scaling != "stack":
        return options, None
    lengths = stack_lengths(image, options.view)
    times = plane_numbers(image, options.times, options.view.t, lengths[0], "t")
    depths = plane_numbers(image, options.depths, options.view.z, lengths[1], "z")
    chosen = replace(options, times=None, depths=None, view=replace(options.view, t=times[0], z=depths[0]))
    planes = Planes(times, depths)
    if options.scaling == "stack" or (options.scaling is None and len(planes) > 1):
        chosen = replace(chosen, stack=measure_stack(image, predictor, chosen, lengths))
    return chosen, planes if len(planes) > 1 else None


def of_plane(options: SegmentOptions, plane: tuple[int, int]) -> SegmentOptions:
    """Return the options of one plane, (t, z)."""
    return replace(options, view=replace(options.view, t=plane[0], z=plane[1]))


def measure_stack(
    image: ImageSource, predictor: Predictor, options: SegmentOptions, lengths: tuple[int, int]
) -> StackFacts:
    """Return what is measured of a whole stack.

    Args:
        lengths: how many times and depths it has.

    Raises:
        InputError: the image cannot be read.
        UsageError: a size that this model or image cannot be brought to.
    """
    every = list(Planes(tuple(range(lengths[0])), tuple(range(lengths[1]))))
    count = min(MEASURED, len(every))
    chosen = [every[(2 * number + 1) * len(every) // (2 * count)] for number in range(count)]

    def slides() -> Iterator[Slide]:
        for plane in chosen:
            with _open(image, options, plane) as slide:
                check_channels(
                    predictor.checkpoint, slide.channels, str(slide.path), chosen=options.view.channels is not None
                )
                yield slide

    scaling = predictor.checkpoint.normalization.measure_stack(slides(), count)
    with _open(image, options, (lengths[0] // 2, lengths[1] // 2)) as slide:
        return StackFacts(scaling, size_up(slide, predictor, scaling, options))


def _open(image: ImageSource, options: SegmentOptions, plane: tuple[int, int]) -> Slide:
    view: View = of_plane(options, plane).view
    return open_slide(image, view, filled=options.fills)
