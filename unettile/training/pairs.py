"""Pairs of an image and its labels, and which of them validate."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from unettile.drawn.figures import IGNORED
from unettile.drawn.files import is_drawing
from unettile.drawn.pairing import drawn_on, labels_by_name, list_drawings
from unettile.errors import InputError, UsageError
from unettile.images.arrays import ArrayImage
from unettile.images.classmasks import ClassMasks
from unettile.images.idparts import count_parts_of
from unettile.images.listing import is_folder
from unettile.images.pairing import by_name, describe_alike, match_names, name_of, nearest
from unettile.images.slide import ImageSource
from unettile.images.view import FIRST, View

Images = Path | Sequence[ImageSource]
"""A folder of images, or a list of them."""


File = TypeVar("File", bound=ImageSource)


@dataclass(frozen=True)
class Pair:
    """An image, its labels of the same name, and its weight map where one was computed before; files, or arrays.

    Args:
        source: name of the recipe's source that it belongs to, or "".
        zoom: by how much both are enlarged before anything else.
        view: of the image's file.
        label_view: of the labels' file.
        plane: of a stack, what it adds to the name; "" of others.
    """

    image: ImageSource
    labels: ImageSource
    weights: ImageSource | None = None
    source: str = ""
    zoom: float = 1.0
    view: View = FIRST
    label_view: View = FIRST
    plane: str = ""

    @property
    def name(self) -> str:
        return (name_of(self.image) if isinstance(self.image, Path) else self.image.name) + self.plane

    @property
    def full_name(self) -> str:
        """The name, after that of its source if it has one."""
        return f"{self.source}/{self.name}" if self.source else self.name


def find_pairs(images: Path, labels: Path, weights: Path | None = None) -> tuple[Pair, ...]:
    """Pair the files of two or three directories by name, sorted by the images' names; or one image and its labels.

    One image, such as a stack, and a label image may have any names.

    Labels may be drawn: files of polygons in the place of label images, in the images' own folder, too, or one file
    that names all the images.

    Raises:
        UsageError: one directory is given twice, or a directory and an image.
        InputError: a directory without images, two files of one name, or files without a partner (the first are named).
    """
    given = [folder for folder in (images, labels, weights) if folder is not None]
    beside = labels.is_dir() and images.exists() and images.samefile(labels) and bool(list_drawings(labels))
    for place, folder in enumerate(given):
        if beside and folder is labels:
            continue
        if any(folder.exists() and other.exists() and folder.samefile(other) for other in given[:place]):
            raise UsageError(
                f"{folder} is given twice: images would be their own labels; need a folder for each, so move the"
                " labels to another"
            )
    alone = [folder for folder in given if folder.exists() and not is_folder(folder) and not is_drawing(folder)]
    if alone and not any(is_folder(folder) for folder in given):
        found = {name_of(images): images}
    elif alone:
        raise UsageError(f"{alone[0]} is one image: give a file for images and labels each, or a folder for each")
    else:
        found = by_name(images)
    if alone and labels in alone:
        return (Pair(images, labels, weights),)
    labelled = _partners(found, labels_by_name(labels, drawn=beside), "label image")
    made = {} if weights is None else _partners(found, by_name(weights), "weight map")
    return tuple(
        Pair(path, drawn_on(labelled[name], path, ignored=IGNORED), made.get(name)) for name, path in found.items()
    )


def note_pairs(pairs: Sequence[Pair]) -> str | None:
    """Return what to tell the user of files that were paired although their names differ; None if none were."""
    return describe_alike(dict.fromkeys((pair.image, pair.labels) for pair in pairs))


def _partners(images: dict[str, Path], others: Mapping[str, File], kind: str) -> dict[str, File]:
    """Return the file of a kind for every image.

    Raises:
        InputError: files without a partner.
    """
    matched = match_names(images, others)
    alone = [name for name in images if name not in matched]
    left = sorted(others.keys() - set(matched.values()))
    for names, text, choice in ((alone, f"have no {kind}", left), (left, f"({kind}s) have no image", alone)):
        if names:
            shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
            near = nearest(names[0], choice)
            hint = "" if near is None else f" ({near} is the most like {names[0]})"
            raise InputError(
                f"{len(names)} files {text} of the same name: {shown}{hint}; images pair by name{_classes_hint(others)}"
            )
    return {name: others[other] for name, other in matched.items()}


def _classes_hint(others: Mapping[str, File]) -> str:
    """Return what to add where folders were taken for classes, which may have been meant otherwise."""
    masks = next((other for other in others.values() if isinstance(other, ClassMasks)), None)
    if masks is None:
        return ""
    shown = ", ".join(masks.class_names[:3]) + (", …" if len(masks.class_names) > 3 else "")
    return f"; {masks.folder} holds folders, which are taken for classes ({shown}): need a mask of each image in each"


def pair_up(images: Images, labels: Images, weights: Images | None = None, kind: str = "") -> tuple[Pair, ...]:
    """Pair images with their labels: the files of folders by name, those of lists by their order.

    Args:
        kind: begins the names of arrays, which are numbered.

    Raises:
        UsageError: a folder and a list, or lists of different lengths.
        InputError: files that do not pair.
    """
    given = [images, labels, *([] if weights is None else [weights])]
    folders = [one for one in given if isinstance(one, Path)]
    lists = [one for one in given if not isinstance(one, Path)]
    if not lists:
        return find_pairs(*folders)
    if folders or len({len(one) for one in lists}) > 1:
        raise UsageError("images and labels are folders, or lists of the same length: give both as one or the other")
    named = [
        [_numbered(one, f"{kind}{name} {number:04}") for number, one in enumerate(some)]
        for name, some in zip(("image", "labels", "weights"), lists, strict=False)
    ]
    return tuple(
        Pair(image, drawn_on(label, image, ignored=IGNORED), *weighted)
        for image, label, *weighted in zip(*named, strict=True)
    )


def _numbered(source: ImageSource, name: str) -> ImageSource:
    """Return an image with a name that tells it from others; that of a file does already."""
    return replace(source, name=name) if isinstance(source, ArrayImage) else source


def note_labels(pairs: Sequence[Pair], kind: str) -> str | None:
    """Return what to tell the user of label images whose ids do not look like those of objects; None if they do.

    Args:
        kind: what the recipe takes them for, `labels.kind`.

    Raises:
        InputError: a label image that cannot be read, or holds no ids.
    """
    if kind != "instances":
        return None
    advice = "give --set labels.kind=components, so that every separate part is one, or labels.kind=classes"
    return count_parts_of([pair.labels for pair in pairs], [pair.label_view for pair in pairs]).note(advice)


def hold_out(
    pairs: Sequence[Pair], validation: float, test: float = 0.0
) -> tuple[tuple[Pair, ...], tuple[Pair, ...], tuple[Pair, ...]]:
    """Split into pairs to train, to validate and to test on; the choice depends on the names alone, not on their order.

    The pairs whose names have the smallest SHA-256 validate, the next ones test: adding images to a set moves few.

    A fraction above 0 takes one at least.

    Raises:
        InputError: fractions, or a number of pairs, that leave nothing to train on.
    """
    validating, testing = (max(round(len(pairs) * part), int(0 < part < 1)) for part in (validation, test))
    for name, fraction, count in (("validation", validation, validating), ("test", test, testing)):
        if validating + testing >= len(pairs):
            raise InputError(
                f"a {name} fraction of {fraction:g} takes {count} of {len(pairs)} images: need some to train on; give "
                f"more images, change {'--validation' if name == 'validation' else 'split.test'}, or give --validation "
                "0, which scores the images that are trained on"
            )
    part = {pair: index >= validating for index, pair in enumerate(ranked(pairs)[: validating + testing])}
    return (
        tuple(pair for pair in pairs if pair not in part),
        tuple(pair for pair in pairs if part.get(pair) is False),
        tuple(pair for pair in pairs if part.get(pair) is True),
    )


def ranked(pairs: Iterable[Pair]) -> list[Pair]:
    """Return pairs by the SHA-256 of their names: an order as good as random, the same whatever else is there."""
    return sorted(pairs, key=lambda pair: hashlib.sha256(os.fsencode(pair.name)).hexdigest())
