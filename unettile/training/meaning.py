"""Meaning: what label images hold, told from their numbers: masks, ids of objects, classes, or colours of classes.

Where two answers are as good, nobody guesses: the message asks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.drawn.figures import IGNORED
from unettile.drawn.labels import Drawn
from unettile.drawn.pairing import of_classes
from unettile.errors import InputError
from unettile.images.classmasks import ClassMasks
from unettile.images.colours import Colour
from unettile.images.idparts import IdParts
from unettile.images.slide import LabelSource, open_labels
from unettile.labels import check_labels
from unettile.training.kinds import MOST_KINDS, kind_names
from unettile.training.pairs import Pair
from unettile.training.parts import LabelPart

FILES = 48  # label images that are looked at, spread evenly
PIECE = 1024  # px; of a larger one, pieces of this edge
PIECES = 6
MOST_CLASSES = 32  # more numbers, or colours, are no classes
TOGETHER = 1.5  # parts of an id, on average, from which on ids are classes
COMMON = 0.8  # share of the files in which every class is expected, where numbers are said to be classes


@dataclass(frozen=True)
class Meaning:
    """How label images are to be read.

    Args:
        part: the recipe's `[labels]`, as far as the label images decide it.
        found: what was seen, for people: "masks of 0 and 255".
    """

    part: LabelPart
    found: str


@dataclass(frozen=True)
class _Seen:
    """Numbers of label images: in how many of the files each is, and in how many parts ids lie."""

    files: int
    numbers: dict[int, int]
    colours: dict[Colour, int]
    parts: IdParts


def find_meaning(pairs: Sequence[Pair], part: LabelPart, kind: str | None = None) -> Meaning:
    """Return what label images mean.

    Args:
        part: of a recipe; what else it says of labels is kept.
        kind: `labels.kind` where the user says it; None to tell it from the label images.

    Raises:
        InputError: they can be read in more than one way, or in none; the message says what to give.
    """
    if kind in ("instances", "components"):
        return Meaning(replace(part, kind=kind), f"{kind}, as labels.kind says")
    drawn = all(isinstance(pair.labels, LabelSource) for pair in pairs)
    if kind == "classes" and (part.values or part.colors or len(part.names) != 2 or drawn):
        return Meaning(replace(part, kind=kind), f"{len(part.names)} classes, as [labels] says")
    if kind is None and all(isinstance(pair.labels, ClassMasks) for pair in pairs):
        names = name_classes(pairs)
        order = " (where masks overlap, the later one has the pixel)" if len(names) > 2 else ""
        found = f"masks in a folder for each class, {', '.join(names[1:])}{order}"
        return Meaning(replace(part, kind="classes", names=names), found)
    if kind is None and drawn:
        return Meaning(replace(part, kind="instances", names=("background", "object")), "drawn objects")
    seen = _look(pairs)
    name = pairs[0].labels
    if seen.colours:
        return _pictures(seen, part, str(name))
    numbers = sorted(number for number in seen.numbers if number != part.ignore)
    above = [number for number in numbers if number > 0]
    if not above:
        raise InputError(f"the label images, {name} the first of them, are background only: need a labelled pixel")
    if len(above) == 1:
        return _classes([0, *above], ("background", "foreground"), part, f"masks of 0 and {above[0]}")
    if kind is None:
        shown = ", ".join(map(str, numbers[:6])) + (", …" if len(numbers) > 6 else "")
        whole = seen.parts.parts < TOGETHER * seen.parts.ids
        if whole and (len(above) > MOST_CLASSES or not _shared(seen, above)):
            return Meaning(
                replace(part, kind="instances", names=("background", "object")), f"ids of objects, up to {above[-1]}"
            )
        if whole:
            raise InputError(
                f"label images hold the numbers {shown}, which may be ids of objects or classes: give --set"
                " labels.kind=instances, or --set labels.kind=classes"
            )
        if len(above) > MOST_CLASSES:
            raise InputError(
                f"{name} and the other label images hold {len(numbers)} numbers, each in many separate parts, as"
                " intensities do, or masks after a lossy compression: need ids, classes, or masks of two numbers"
            )
    values = [0, *above] if numbers[0] == 0 else numbers
    names = tuple("background" if index == 0 else f"class {value}" for index, value in enumerate(values))
    return _classes(values, names, part, f"{len(values)} classes, numbered {', '.join(map(str, values))}")


def _classes(values: list[int], names: tuple[str, ...], part: LabelPart, found: str) -> Meaning:
    """Return classes of such numbers; they need not be told where they are 0, 1, 2, …"""
    told = () if values == list(range(len(values))) else tuple(values)
    return Meaning(replace(part, kind="classes", names=names, values=told), found)


def name_classes(pairs: Sequence[Pair]) -> tuple[str, ...]:
    """Return the names of the classes of drawings or class masks, background first; the default where none has any.

    Raises:
        InputError: a drawing that cannot be read.
    """
    named = [pair.labels for pair in pairs if isinstance(pair.labels, LabelSource)]
    names = {name.casefold(): name for one in named for name in one.class_names}  # case does not count
    return ("background", *(names[key] for key in sorted(names))) if names else LabelPart().names


def with_classes(pairs: Sequence[Pair], part: LabelPart) -> tuple[Pair, ...]:
    """Return pairs whose labels have the numbers of their classes, where labels are classes by name.

    Raises:
        InputError: masks of classes where ids are needed.
    """
    masks = next((pair.labels for pair in pairs if isinstance(pair.labels, ClassMasks)), None)
    if part.kind == "instances" and masks is not None:
        raise InputError(
            f"{masks} are masks of classes, the recipe learns objects from ids: give --set labels.kind=components, so"
            " that every separate part is one, or --recipe auto"
        )
    if part.kind != "classes" or part.values or part.colors:
        return tuple(pairs)
    return tuple(replace(pair, labels=of_classes(pair.labels, part.names)) for pair in pairs)


def with_kinds(pairs: Sequence[Pair], meaning: Meaning) -> Meaning:
    """Return the meaning of labels of objects with the kinds that they have, if there are several.

    Raises:
        InputError: labels that cannot be read.
    """
    if meaning.part.kind != "instances":
        return meaning
    names = kind_names([(pair.labels, pair.label_view) for pair in pairs])
    if not 1 < len(names) <= MOST_KINDS:
        return meaning
    part = replace(meaning.part, names=("background", *names))
    return Meaning(part, f"{meaning.found}, of {len(names)} kinds: {', '.join(names)[:100]}")


def settle_values(pairs: Sequence[Pair], part: LabelPart) -> tuple[LabelPart, str | None]:
    """Return `[labels]` of a recipe of two classes whose label images are masks of 0 and another number, 255 say.

    Returns:
        The part, and what to tell the user; None where nothing had to be changed.

    Raises:
        InputError: a label image that cannot be read.
    """
    if part.kind != "classes" or part.values or part.colors or len(part.names) != 2:
        return part, None
    seen = _look(pairs)
    numbers = sorted(seen.numbers)
    if seen.colours or len(numbers) != 2 or numbers[0] != 0 or numbers[1] < 2 or numbers[1] == part.ignore:
        return part, None
    return (
        replace(part, values=(0, numbers[1])),
        f"label images hold 0 and {numbers[1]}: {numbers[1]} is taken for {part.names[1]}",
    )


def settle_ignored(pairs: Sequence[Pair], part: LabelPart) -> tuple[LabelPart, str | None]:
    """Return `[labels]` with the number of regions to ignore where drawings have such, and what to tell the user.

    Raises:
        InputError: a drawing that cannot be read, or another number that is to be ignored.
    """
    if part.ignore == IGNORED:
        return part, None
    found = [pair for pair in pairs if isinstance(pair.labels, Drawn) and pair.labels.has_ignored]
    if not found:
        return part, None
    if part.ignore >= 0:
        raise InputError(
            f"{found[0].labels} has regions to ignore, which are the number {IGNORED}: leave labels.ignore ="
            f" {part.ignore} out"
        )
    drawings = f"{len(found)} drawing{'s have' if len(found) > 1 else ' has'}"
    return replace(part, ignore=IGNORED), f"{drawings} regions to ignore, which do not count: {found[0].labels}"


def _shared(seen: _Seen, above: list[int]) -> bool:
    """Whether every number is in most of the files, as a heart's chambers are; two cells in every image are, too."""
    return all(seen.numbers[number] >= COMMON * seen.files for number in above)


def _pictures(seen: _Seen, part: LabelPart, name: str) -> Meaning:
    if part.colors:
        return Meaning(replace(part, kind="classes"), f"pictures in the {len(part.colors)} colours of labels.colors")
    if len(seen.colours) > MOST_CLASSES:
        raise InputError(
            f"{name} is a picture of more than {MOST_CLASSES} colours, no label image: need ids or classes in one"
            " channel, or few colours without a lossy compression"
        )
    if len(seen.colours) < 2:
        raise InputError(f"{name} and the other label images have one colour: need a labelled pixel")
    order = sorted(seen.colours, key=lambda colour: (colour != (0, 0, 0), colour))
    if (0, 0, 0) not in seen.colours:  # the commonest is the background
        common = max(seen.colours, key=lambda colour: seen.colours[colour])
        order = [common, *(colour for colour in order if colour != common)]
    names = tuple("background" if index == 0 else "class " + _hex(colour) for index, colour in enumerate(order))
    if len(order) == 2:
        names = ("background", "foreground")
    return Meaning(
        replace(part, kind="classes", names=names, colors=tuple(order), values=()),
        f"pictures of {len(order)} colours, background {_hex(order[0])}",
    )


def _hex(colour: Colour) -> str:
    return "#" + "".join(f"{value:02x}" for value in colour)


def _look(pairs: Sequence[Pair]) -> _Seen:
    count = min(len(pairs), FILES)
    numbers: Counter[int] = Counter()
    colours: Counter[Colour] = Counter()
    parts = IdParts()
    for place in range(count):
        pair = pairs[place * len(pairs) // count]
        own: set[int] = set()
        with open_labels(pair.labels, pair.label_view) as slide:
            for box in Box.of_shape(slide.shape).pieces(PIECE, PIECES):
                pixels = slide.read(box)
                if pixels.shape[2] == 1:
                    ids = check_labels(pixels, str(pair.labels))
                    own.update(np.unique(ids).tolist())
                    parts += IdParts.of(ids, pair.name)
                else:
                    colours.update(_colours(pixels, str(pair.labels)))
        numbers.update(own)
    if colours and numbers:
        raise InputError("some label images have one channel, others are pictures: need all of one kind")
    return _Seen(count, dict(numbers), dict(colours), parts)


def _colours(pixels: NDArray[Any], name: str) -> dict[Colour, int]:
    """Return how many pixels have each colour, of the most common ones."""
    if pixels.shape[2] not in (3, 4) or pixels.dtype != np.uint8:
        raise InputError(f"{name} has {pixels.shape[2]} channels of {pixels.dtype}: labels need one, or colours in RGB")
    flat = pixels[..., :3].astype(np.int64)
    codes, counts = np.unique((flat[..., 0] << 16) + (flat[..., 1] << 8) + flat[..., 2], return_counts=True)
    kept = np.argsort(-counts)[: MOST_CLASSES + 1]
    return {(int(codes[i]) >> 16, int(codes[i]) >> 8 & 255, int(codes[i]) & 255): int(counts[i]) for i in kept}
