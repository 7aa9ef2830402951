"""Gallery: single objects in their surroundings, at full resolution: largest, smallest, least certain, and others.

A picture has a square of the image with the object in its middle; a small object is shown enlarged, one that is larger
than the picture reduced, by whole numbers. Where objects are bright, a dark one is brightened with its surroundings.
Its own outline is yellow, those of others are blue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.images.colours import distinct_colours
from unettile.images.normalize import Normalization, Scaling
from unettile.images.slide import Slide
from unettile.objects.columns import Figures
from unettile.objects.lettering import HEIGHT, letter
from unettile.objects.numbering import Numbered
from unettile.objects.overlay import reduced, rims_of, three_channels
from unettile.objects.scan import OnProgress

EDGE = 168
"""Edge of the picture of one object, px."""

AROUND = 2.0
"""Length of the surroundings that are shown, in lengths of the object."""

LEAST = 42
"""Least length that is shown, px of the image."""

BRIGHT, MOST_GAIN = 0.7, 16.0
"""How bright the object of a picture is at least, of 1, if that takes no larger factor."""

GAP, LINE = 10, 2 * HEIGHT + 2
ROWS = 2**18  # objects looked at at once
READ_PIXELS = 2**22  # asked for at once
GROUND, INK = np.array([24, 27, 31], np.uint8), np.array([226, 230, 235], np.uint8)
FAINT, OWN, OTHER = (np.array(c, np.uint8) for c in ([150, 160, 172], [255, 214, 10], [72, 158, 255]))


@dataclass(frozen=True)
class Shown:
    """An object that is shown: its number, its box, and what is said of it."""

    number: int
    box: Box
    note: str


@dataclass(frozen=True)
class Row:
    """Objects that are shown beside each other, with what they have in common."""

    title: str
    objects: tuple[Shown, ...]


def choose(figures: Figures, count: int) -> list[Row]:
    """Return the objects that are worth a look, `count` of each kind; of equals, those with smaller numbers.

    Those at random are the same for the same number of objects.
    """
    sums, total = figures.sums, len(figures.sums)
    areas = np.concatenate(
        [np.empty(0, np.int64), *(sums.measurements(at, min(at + ROWS, total)).area for at in range(0, total, ROWS))]
    )
    some = min(count, total)
    kinds = [
        (title, np.argsort(order, kind="stable")[:some]) for title, order in (("largest", -areas), ("smallest", areas))
    ]
    inside = None if figures.confidence is None else figures.confidence.inside
    if inside is not None:
        kinds.append(("least certain", np.argsort(inside, kind="stable")[:some]))
    kinds.append(("at random", np.sort(np.random.default_rng(0).choice(total, some, replace=False))))
    return [
        Row(title, tuple(_shown(figures, int(k), inside if title == "least certain" else None) for k in chosen))
        for title, chosen in kinds
    ]


def _shown(figures: Figures, k: int, inside: NDArray[np.float64] | None) -> Shown:
    found = figures.sums.measurements(k, k + 1)
    note = f"{found.area[0]} px" if inside is None else f"{inside[k]:.3f}"
    return Shown(k + 1, Box(*found.box[0].tolist()), note)


def draw_gallery(
    objects: Numbered, image: Slide | None, rows: Sequence[Row], ids: NDArray[Any] | None, on_progress: OnProgress
) -> NDArray[np.uint8]:
    """Return the picture, (h, w, 3) uint8.

    Args:
        objects: numbered.
        image: they are in; without one they are drawn in colours.
        rows: of objects.
        ids: (N,) how objects are called; None for their numbers.
        on_progress: takes objects done and objects in all.

    Raises:
        InputError: the image is damaged.
    """
    plain = image is None or (image.dtype == np.uint8 and image.channels >= 3)  # colours, as they are seen
    scaling = None if image is None or plain else Normalization().measure(image)
    columns = max(1, *(len(row.objects) for row in rows))
    high = GAP + LINE + EDGE + 2 * LINE
    drawn = np.empty((len(rows) * high + GAP, max(columns * (EDGE + GAP) + GAP, 2 * EDGE), 3), np.uint8)
    drawn[:] = GROUND
    done, total = 0, sum(len(row.objects) for row in rows)
    for number, row in enumerate(rows):
        top = number * high + GAP
        letter(drawn, row.title, (top, GAP), 2, INK)
        for column, shown in enumerate(row.objects):
            left = GAP + column * (EDGE + GAP)
            drawn[top + LINE : top + LINE + EDGE, left : left + EDGE] = _picture(objects, image, scaling, shown)
            name = shown.number if ids is None else ids[shown.number - 1]
            letter(drawn, f"id {name}", (top + LINE + EDGE + 3, left), 2, INK)
            letter(drawn, shown.note, (top + 2 * LINE + EDGE + 1, left), 2, FAINT)
            done += 1
            on_progress(done, total)
    return drawn


def _picture(objects: Numbered, image: Slide | None, scaling: Scaling | None, shown: Shown) -> NDArray[np.uint8]:
    """Return an object in its surroundings, (EDGE, EDGE, 3)."""
    box = shown.box
    wanted = max(LEAST, int(AROUND * max(box.height, box.width)))
    zoom, factor = max(1, EDGE // wanted), -(-wanted // EDGE)
    length = -(-EDGE // zoom) * factor
    y, x = (box.y0 + box.y1 - length) // 2, (box.x0 + box.x1 - length) // 2
    square = Box(max(y, 0), max(x, 0), min(y + length, objects.shape[0]), min(x + length, objects.shape[1]))
    ids, light = _seen(objects, image, scaling, square, factor)
    if image is not None:
        light = light * _gain(light, ids == shown.number)
    below = np.rint(255 * np.clip(light, 0.0, 1.0)).astype(np.uint8)
    ids = ids.repeat(zoom, axis=0).repeat(zoom, axis=1)[:EDGE, :EDGE]
    below = below.repeat(zoom, axis=0).repeat(zoom, axis=1)[:EDGE, :EDGE]
    rims = rims_of(ids)
    below[rims] = np.where((ids == shown.number)[rims][:, None], OWN, OTHER)
    picture = np.zeros((EDGE, EDGE, 3), np.uint8)
    top, left = ((start - at) // factor * zoom for start, at in ((square.y0, y), (square.x0, x)))
    part = picture[top : top + ids.shape[0], left : left + ids.shape[1]]
    part[:] = below[: part.shape[0], : part.shape[1]]
    return picture


def _gain(light: NDArray[np.float32], own: NDArray[np.bool_]) -> np.float32:
    """Return by how much a picture (h, w, 3) is brightened, so that the brightest parts of its object are bright."""
    if not own.any() or np.median(light[own]) <= np.median(light):  # lost where it is reduced, or on a bright ground
        return np.float32(1.0)
    bright = float(np.percentile(light[own], 99))
    return np.float32(max(1.0, min(MOST_GAIN, BRIGHT / max(bright, 1e-6))))


def _seen(
    objects: Numbered, image: Slide | None, scaling: Scaling | None, box: Box, factor: int
) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
    """Return numbers and colours, from 0 to 1, of a box that is reduced by `factor`, a strip at a time."""
    rows = max(1, READ_PIXELS // (box.width * factor)) * factor
    table = np.array(distinct_colours(256), np.float32) / 255
    numbers, colours = [], []
    for top in range(box.y0, box.y1, rows):
        strip = Box(top, box.x0, min(top + rows, box.y1), box.x1)
        down, across = (
            np.minimum(np.arange(0, length, factor) + factor // 2, length - 1) for length in (strip.height, strip.width)
        )
        numbers.append(objects.read(strip)[down[:, None], across[None, :]])
        if image is None:
            index = (numbers[-1].astype(np.int64) - 1) % 255 + 1
            colours.append(np.where(numbers[-1][:, :, None] > 0, table[index] / np.float32(2), np.float32(0)))
        else:
            pixels = image.read(strip)
            light = pixels / np.float32(255) if scaling is None else scaling.apply(pixels)
            colours.append(three_channels(reduced(light, factor)))
    return np.concatenate(numbers), np.concatenate(colours)
