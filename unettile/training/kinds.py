"""Kinds of objects: which object of a label image is of which kind, where its labels say so.

a table beside a label image     see `unettile.training.kindtable`; where there is one, it alone counts
an image of ids of unettile      its metadata know the class of each
regions that were drawn          each has the name of its class, or none

An object of which nothing says the kind has an unknown one: it teaches what an object is, and not which.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unettile.drawn.labels import Drawn
from unettile.errors import InputError
from unettile.images.record import Record, read_record
from unettile.images.slide import ImageSource
from unettile.images.urls import url_of
from unettile.images.view import View
from unettile.metrics.aggregate import UNSAID
from unettile.training.kindtable import NamedIds, is_kind_table, read_kind_table, table_beside
from unettile.training.recipe import Recipe

UNKNOWN = UNSAID
"""The kind of an object of which nothing is said."""

HALF = 0.5
"""Probability of all kinds together from which a pixel is an object's."""

MOST_KINDS = 32  # of objects that nobody has named: more names are those of single objects

FILES = 48  # label images in which kinds are looked for, spread evenly; if one has some, all are


@dataclass(frozen=True, eq=False)
class ObjectKinds:
    """The kinds of the objects of a label image: those of the ids from one start up to the next are the same.

    Args:
        starts: (N,) int64, in order.
        numbers: (N,) int64, the kinds 1 … K, or UNKNOWN, as it is of ids before the first start.
    """

    starts: NDArray[np.int64]
    numbers: NDArray[np.int64]

    @classmethod
    def none(cls) -> ObjectKinds:
        """Return the kinds of objects of which nothing is said."""
        return cls(np.empty(0, np.int64), np.empty(0, np.int64))

    def of(self, ids: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return the kind of each id, of the same shape; 0 of the id 0, which is background.

        >>> ObjectKinds(np.array([2, 4]), np.array([1, UNKNOWN])).of(np.array([0, 1, 2, 3, 4])).tolist()
        [0, -1, 1, 1, -1]
        """
        if not self.starts.size:
            return np.where(ids > 0, UNKNOWN, 0).astype(np.int64)
        place = np.searchsorted(self.starts, ids, side="right") - 1
        kinds: NDArray[np.int64] = np.where(place < 0, UNKNOWN, self.numbers[np.maximum(place, 0)])
        kinds[ids == 0] = 0
        return kinds

    @property
    def sha256(self) -> str:
        """Of all that is said."""
        both = np.concatenate([self.starts, self.numbers]).astype("<i8")
        return hashlib.sha256(both.tobytes()).hexdigest()


def read_kinds(labels: ImageSource, view: View, names: Sequence[str]) -> ObjectKinds:
    """Return the kinds of the objects of a label image.

    Args:
        view: of its file.
        names: of the kinds, the background's first; case does not count. A class that has a number for a name is the
            one in that place.

    Raises:
        InputError: the labels cannot be read, or have a class that is none of these.
    """
    found = _named(labels, view, asked=True)
    if found is None:
        return ObjectKinds.none()
    known = {"": UNKNOWN} | {name.casefold(): number for number, name in enumerate(names) if number}
    for number in range(1, len(names)):
        known.setdefault(f"class {number}", number)
    strange = [name for name in found.names if name.casefold() not in known]
    if strange:
        raise InputError(
            f"{labels} has objects of the class {strange[0][:60]!r}, labels.names has {', '.join(names[1:])}: add it"
            " there, or leave the class of these objects out, and their kind is unknown"
        )
    numbers = np.array([known[name.casefold()] for name in found.names], np.int64)
    return ObjectKinds(found.starts, numbers[found.places])


def kind_names(labels: Sequence[tuple[ImageSource, View]]) -> tuple[str, ...]:
    """Return the names of the classes that objects of label images have, by alphabet; case does not count.

    Label images that are no drawings are looked at where one of a few of them says something.

    Args:
        labels: with the view of each file.

    Raises:
        InputError: they cannot be read.
    """
    images = [one for one in labels if not isinstance(one[0], Drawn)]
    count = min(len(images), FILES)
    some = [images[place * len(images) // count] for place in range(count)]
    looked = images if any(_names_of(*one) for one in some) else []
    drawn = [one for one in labels if isinstance(one[0], Drawn)]
    found = {name.casefold(): name for one in (*drawn, *looked) for name in _names_of(*one)}
    return tuple(found[key] for key in sorted(found))


def settle_foreground(recipe: Recipe) -> tuple[Recipe, str | None]:
    """Return the recipe of kinds with objects that come of all kinds together, and what to tell the user of it.

    The likeliest class of a pixel may be the background where kinds share what is an object's: of 0.4, 0.3 and 0.3 say.
    """
    if not recipe.labels.kinds or recipe.objects.threshold:
        return recipe, None
    return (
        replace(recipe, objects=replace(recipe.objects, threshold=HALF)),
        f"foreground: where all kinds together have a probability of {HALF:g} (objects.threshold); an object is of the"
        " kind that most of its pixels have",
    )


def _names_of(labels: ImageSource, view: View) -> tuple[str, ...]:
    found = _named(labels, view, asked=False)
    return () if found is None else tuple(name for name in found.names if name)


def _named(labels: ImageSource, view: View, *, asked: bool) -> NamedIds | None:
    """Return the names of the classes of the objects; None where nothing says them.

    Args:
        asked: a table beside the labels is meant to be one of kinds.
    """
    if isinstance(labels, Drawn):
        names = labels.object_names
        return NamedIds.of(np.arange(1, len(names) + 1), names)
    if not isinstance(labels, Path) or url_of(labels) is not None:
        return None
    table = table_beside(labels)
    if table is not None and (asked or is_kind_table(table)):
        if view.z is not None or view.t is not None:
            raise InputError(f"{table} is of a stack, whose planes have the same ids: need label images of one plane")
        return read_kind_table(table)
    try:
        record = read_record(labels, view.series)
    except OSError as error:
        raise InputError(f"cannot read {labels}: {(error.strerror or str(error)).lower()}") from error
    if record.ids is None:
        return None
    classes = record.ids.classes
    if classes.size and classes.strides == (0,):  # of however many ids the file claims
        return NamedIds.alike(classes.size, _name(record, int(classes[0])))
    named = {number: _name(record, number) for number in np.unique(classes).tolist()}
    return NamedIds.of(np.arange(1, classes.size + 1), [named[number] for number in classes.tolist()])


def _name(record: Record, number: int) -> str:
    return record.name(number) if number else ""
