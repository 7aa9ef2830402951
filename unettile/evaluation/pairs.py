"""Pairs: which predicted mask belongs to which true one, and what the ids of both mean.

What an id means is said, never guessed. The truth's ids are objects and the prediction's ids are one foreground class
unless the caller says otherwise; an id above 0 is foreground.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from unettile.drawn.figures import IGNORED
from unettile.drawn.files import is_drawing
from unettile.drawn.pairing import drawing_name, drawn_on, labels_by_name, names_images, of_classes
from unettile.errors import InputError, UsageError
from unettile.images.idparts import count_parts_of
from unettile.images.listing import is_folder
from unettile.images.pairing import describe_alike, match_names, name_of, nearest
from unettile.images.planes import plane_name, plane_views
from unettile.images.record import read_record
from unettile.images.slide import ImageSource, LabelSource
from unettile.images.view import FIRST, View
from unettile.wording import counted


@dataclass(frozen=True)
class Meaning:
    """What the ids of the two masks are, and what is scored.

    Args:
        classes: None scores foreground (id > 0) against background; K scores the class ids 0 … K - 1 of both masks.
        instances: the prediction's ids are objects; without it they are classes, whose objects are the connected
            components of its foreground.
        truth_components: the truth's ids are classes, too, and its objects the connected components.
        objects: score objects as well.
        boundaries: score how far apart the outlines of each class are as well.
        names: of the classes, background first, by which drawn labels are classes; () for those that the other mask
            states.
        ignore: the number of pixels of the truth that do not count; None for none. Drawings have regions for it.

    Raises:
        UsageError: fewer than two classes, or ids that would be classes and objects at once.
    """

    classes: int | None = None
    instances: bool = False
    truth_components: bool = False
    objects: bool = False
    boundaries: bool = False
    names: tuple[str, ...] = ()
    ignore: int | None = None

    def __post_init__(self) -> None:
        if self.names:
            if self.classes not in (None, len(self.names)) or len({one.casefold() for one in self.names}) < 2:
                raise UsageError(
                    f"--class-names got {', '.join(self.names)}: need {self.classes or 'two or more'} names, background"
                    " first"
                )
            if not self.instances:
                object.__setattr__(self, "classes", len(self.names))
        if self.ignore is not None and self.ignore < 1:
            raise UsageError(f"--ignore got {self.ignore}: need a number above 0, which no object or class has")
        if self.classes is not None and self.classes < 2:
            raise UsageError(f"--classes got {self.classes}: need 2 or more, the background counts as one")
        if self.classes is not None and self.instances:
            raise UsageError("--classes and --instances exclude each other: ids are classes or objects; give one")
        if self.truth_components and not self.objects:
            raise UsageError("--truth-components says what an object is: need --objects with it")

    @property
    def class_count(self) -> int:
        """Return the number of classes that pixels are scored by."""
        return self.classes or 2


@dataclass(frozen=True)
class MaskPair:
    """A predicted mask and the true one of the same image, or of the same plane of a stack."""

    name: str
    prediction: ImageSource
    truth: ImageSource
    prediction_view: View = FIRST
    truth_view: View = FIRST


def note_ids(pairs: Sequence[MaskPair], meaning: Meaning) -> list[str]:
    """Return what to tell the user of ids that were taken for objects, and do not look like those of any.

    Raises:
        InputError: a mask that is no label map.
    """
    if not meaning.objects:
        return []
    notes = []
    if not meaning.truth_components:
        parts = count_parts_of([pair.truth for pair in pairs], [pair.truth_view for pair in pairs])
        notes.append(parts.note("give --truth-components, so that every separate part is one"))
    if meaning.instances:
        parts = count_parts_of([pair.prediction for pair in pairs], [pair.prediction_view for pair in pairs])
        notes.append(parts.note("leave --instances out, so that every separate part is one"))
    return [note for note in notes if note is not None]


def pair_masks(prediction: Path, truth: Path, *, subset: bool = False) -> list[MaskPair]:
    """Pair two files, or the images of two folders by their names without endings; files of polygons stand for masks.

    Args:
        prediction, truth: two files or two folders.
        subset: let TRUTH have images that PREDICTION has not.

    Returns:
        Pairs in order of name.

    Raises:
        UsageError: a file against a folder.
        InputError: an image without its counterpart, two images of one name in one folder, or stacks that have not as
            many planes.
    """
    several = [is_folder(path) for path in (prediction, truth)]
    sets = [some or names_images(path) for some, path in zip(several, (prediction, truth), strict=True)]
    if any(several) and not all(sets) and prediction.exists() and truth.exists():
        raise UsageError(f"cannot compare a file with a folder ({prediction}, {truth}): give two files or two folders")
    if not all(sets):
        return _by_plane(mask_pair(name_of(prediction), *_of_one(prediction, truth, sets)))
    predictions, truths = labels_by_name(prediction), labels_by_name(truth)
    matched = match_names(predictions, truths)
    _need_all(predictions, matched, truths, f"no truth in {truth}")
    if not subset:
        found = {other: name for name, other in matched.items()}
        _need_all(truths, found, predictions, f"no prediction in {prediction} (--subset scores what is there)")
    pairs = (mask_pair(name, path, truths[matched[name]]) for name, path in predictions.items())
    return [plane for pair in pairs for plane in _by_plane(pair)]


def mask_pair(name: str, prediction: ImageSource, truth: ImageSource) -> MaskPair:
    """Return a pair of masks; a file of polygons is painted on the pixels of the other."""
    return MaskPair(name, drawn_on(prediction, truth, ignored=IGNORED), drawn_on(truth, prediction, ignored=IGNORED))


def in_classes(pair: MaskPair, names: Sequence[str], count: int | None = None) -> MaskPair:
    """Return a pair whose drawings have the numbers of their classes.

    Args:
        names: of the classes, background first; none for those that the other mask states.
        count: how many there are to be; None for any.

    Raises:
        InputError: nothing says which number a class has.
    """
    sources = pair.prediction, pair.truth
    drawn = [source for source in sources if isinstance(source, LabelSource)]
    if not drawn:
        return pair
    for source in sources:
        names = names or (() if isinstance(source, LabelSource) else read_record(source).class_names)
    if not names or count not in (None, len(names)):
        raise InputError(
            f"{drawn[0]}: nothing says which number each class has: give --class-names"
            f"{'' if count is None else f' {count} names'}, background first"
        )
    return replace(pair, prediction=of_classes(pair.prediction, names), truth=of_classes(pair.truth, names))


def _of_one(prediction: Path, truth: Path, sets: Sequence[bool]) -> Sequence[ImageSource]:
    """Return two masks; of a file of polygons that names several images, those of the one that the other is of.

    Raises:
        InputError: none or several of them are.
    """
    if not any(sets):
        return prediction, truth
    many, one = (prediction, truth) if sets[0] else (truth, prediction)
    named = labels_by_name(many)
    name = drawing_name(one) if is_drawing(one) else name_of(one)
    matched = match_names([name], named)
    if name not in matched and len(named) > 1:
        raise InputError(f"{many} is of {len(named)} images, none of which is called {name}: need equal names")
    found = named[matched[name]] if name in matched else next(iter(named.values()))
    return (found, truth) if sets[0] else (prediction, found)


def _by_plane(pair: MaskPair) -> list[MaskPair]:
    """Return the pairs of the planes of two stacks, in their order; of two images, the pair."""
    predictions, truths = plane_views(pair.prediction), plane_views(pair.truth)
    if len(predictions) != len(truths):
        raise InputError(
            f"{pair.prediction} has {counted(len(predictions), 'plane')}, {pair.truth} {len(truths)}: need as many"
        )
    return [
        replace(pair, name=pair.name + plane_name(one), prediction_view=one, truth_view=other)
        for one, other in zip(predictions, truths, strict=True)
    ]


def note_pairs(pairs: Sequence[MaskPair]) -> str | None:
    """Return what to tell the user of masks that were paired although their names differ; None if none were."""
    return describe_alike((pair.prediction, pair.truth) for pair in pairs) if len(pairs) > 1 else None


def _need_all(
    names: Mapping[str, ImageSource], matched: dict[str, str], others: Mapping[str, ImageSource], what: str
) -> None:
    alone = [name for name in names if name not in matched]
    if alone:
        more = f" and {len(alone) - 3} more" if len(alone) > 3 else ""
        near = nearest(alone[0], [other for other in others if other not in matched.values()])
        hint = "" if near is None else f" ({_file_name(others[near])} is the most like it)"
        shown = ", ".join(_file_name(names[name]) for name in alone[:3])
        raise InputError(f"{shown}{more}: {what}{hint}; need equal names, endings aside")


def _file_name(source: ImageSource) -> str:
    return source.name if isinstance(source, Path) else str(source)
