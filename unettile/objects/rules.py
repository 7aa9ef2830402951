"""Rules: what decides the objects beside the pixels; a model carries its own, `ObjectRules`. Nothing here computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from unettile.errors import UsageError
from unettile.labels import BORDER

LARGEST_HOLE = 1000  # px; also the margin that holes need, so it bounds memory
LARGEST_GROWTH = 64  # px
LARGEST_GAP = 16  # px
WIDEST_RIM = 16  # px
MOST_PASSES = 2  # of smoothing; with more, depths of a 16-bit map would pass 31 bits


@dataclass(frozen=True)
class Foreground:
    """How the numbers of a mask are to be understood.

    Args:
        threshold: None for a mask of class ids in one channel. Otherwise the channels are probabilities, of the classes
            0, 1, … or of one class alone: a pixel is foreground where those of the chosen classes add up to at least
            this, and belongs to the likeliest of them.
        classes: chosen ones; None for all but 0.
        holes: background regions of at most so many px that do not reach the image's edge are filled; 0 fills none.

    Raises:
        UsageError: a value out of range.
    """

    threshold: float | None = None
    classes: tuple[int, ...] | None = None
    holes: int = 0

    def __post_init__(self) -> None:
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise UsageError(f"threshold is {self.threshold:g}: it is a probability; need above 0, at most 1")
        if self.classes is not None and (not self.classes or min(self.classes) < 1):
            raise UsageError("class 0 is background: choose classes from 1")
        if not 0 <= self.holes <= LARGEST_HOLE:
            raise UsageError(f"fill-holes is {self.holes}: need 0 to {LARGEST_HOLE} px")


@dataclass(frozen=True)
class Splitting:
    """When touching objects are two.

    Args:
        neck: they are one if the pass between them is deeper than this share of the lower peak; above 0, at most 1.
        rise: they are one if the lower peak rises less than this above the pass, px or grey values; ≥ 0.
        passes: of smoothing of the depth before.
        reach: largest distance that counts, px; what is thicker has a flat top there.
        smallest: an object with fewer px joins the neighbour that it touches most deeply.

    Raises:
        UsageError: a number out of range.
    """

    neck: float = 0.9
    rise: float = 1.5
    passes: int = 2
    reach: int = 128
    smallest: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.neck <= 1:
            raise UsageError(f"neck is {self.neck:g}: it is a share of an object's width; need above 0, at most 1")
        if not 0 <= self.rise <= 65535:
            raise UsageError(f"rise is {self.rise:g}: need 0 or more")
        if not 0 <= self.passes <= MOST_PASSES:
            raise UsageError(f"smoothing is {self.passes}: need 0 to {MOST_PASSES} passes")
        if not 1 <= self.reach <= 1024:
            raise UsageError(f"distances reach {self.reach} px: need 1 to 1024")

    @classmethod
    def up_to(cls, max_object: int, neck: float, rise: float, smallest: int = 0) -> Splitting:
        """Return the rules under which distances count up to half of the width `max_object`, px.

        Raises:
            UsageError: a number out of range.
        """
        if not 2 <= max_object <= 2048:
            raise UsageError(f"--max-object is {max_object}: need a width of 2 to 2048 px")
        return cls(neck, rise, reach=-(-max_object // 2), smallest=smallest)


@dataclass(frozen=True)
class Labelling:
    """What decides the objects beside the mask.

    Args:
        splitting: how to part those that touch; None leaves connected regions whole.
        min_size: smaller objects are dropped, px.
        gaps: background between two objects, up to so many px wide, becomes theirs.
        growth: px that every object grows into the background.
        rim: background around an object becomes its where it is an object's with at least this probability; 0 leaves
            it. Probabilities must be known.
        rim_width: px that it reaches from the object at most, in steps through sides.
        merged: objects may have pixels of several classes, and are of the class that most of them have; of equals, of
            the first.
        min_confidence: objects are dropped whose mean probability is less, where probabilities are known.

    Raises:
        UsageError: a number out of range.
    """

    splitting: Splitting | None = None
    min_size: int = 0
    gaps: int = 0
    growth: int = 0
    merged: bool = False
    min_confidence: float = 0.0
    rim: float = 0.0
    rim_width: int = 4

    def __post_init__(self) -> None:
        if self.min_size < 0:
            raise UsageError(f"min-size is {self.min_size}: need 0 px or more")
        if not 0 <= self.gaps <= LARGEST_GAP:
            raise UsageError(f"close-gaps is {self.gaps}: need 0 to {LARGEST_GAP} px")
        if not 0 <= self.growth <= LARGEST_GROWTH:
            raise UsageError(f"grow is {self.growth}: need 0 to {LARGEST_GROWTH} px")
        if not 0 <= self.rim <= 1:
            raise UsageError(f"rim is {self.rim:g}: it is a probability; need 0 to 1")
        if not 1 <= self.rim_width <= WIDEST_RIM:
            raise UsageError(f"rim-width is {self.rim_width}: need 1 to {WIDEST_RIM} px")
        if not 0 <= self.min_confidence <= 1:
            raise UsageError(f"min-confidence is {self.min_confidence:g}: it is a probability; need 0 to 1")


@dataclass(frozen=True)
class ObjectRules:
    """How objects are made of what a model says of an image.

    Args:
        threshold: foreground is where the probabilities of the objects' classes add up to so much; 0 takes each pixel's
            likeliest class.
        fill_holes: holes of up to so many px are filled.
        split: part objects that touch.
        own_depth: part them by the model's own depth, if it has one; without it, by distances to the edge.
        neck, rise: see `Splitting`; the rise in px, or in grey values of the model's depth.
        max_object: px; distances count up to half of it. Without meaning for a model's own depth.
        min_size: smaller objects are dropped, px; with `split` they first join a neighbour.
        close_gaps: background between two objects, up to so many px wide, becomes theirs.
        rim, rim_width: background around an object, up to so many px from it, becomes its where the probabilities of
            the objects' classes add up to at least so much; a rim of 0 leaves it.
        merge_classes: of a model with several classes of objects, an object is of the class that most of its pixels
            have; without it, pixels of different classes are different objects.

    Raises:
        UsageError: a value out of range.
    """

    threshold: float = 0.0
    fill_holes: int = 0
    split: bool = False
    own_depth: bool = True
    neck: float = 0.9
    rise: float = 1.5
    max_object: int = 256
    min_size: int = 0
    close_gaps: int = 0
    rim: float = 0.0
    rim_width: int = 4
    merge_classes: bool = True

    def __post_init__(self) -> None:
        self.foreground(())
        Splitting.up_to(self.max_object, self.neck, self.rise)
        self.labelling(())

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ObjectRules:
        """Return the rules of plain values; those that are missing are the defaults.

        Raises:
            UsageError: an unknown key, a value of the wrong type, or one out of range.
        """
        types = {entry.name: type(entry.default) for entry in fields(cls)}
        converted: dict[str, Any] = {}
        for key, value in values.items():
            if key not in types:
                raise UsageError(f"objects have no {key!r}: need one of {', '.join(types)}")
            if types[key] is float and type(value) is int:
                value = float(value)
            if type(value) is not types[key]:
                need = {bool: "true or false", int: "a whole number", float: "a number"}[types[key]]
                raise UsageError(f"{key} = {value!r} has the wrong type: need {need}")
            converted[key] = value
        return cls(**converted)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def changed(self, changes: dict[str, Any]) -> ObjectRules:
        """Return the rules with some values changed; errors as in `from_dict`."""
        return self.from_dict(self.to_dict() | changes)

    def foreground(self, class_names: Sequence[str]) -> Foreground:
        """Return how the pixels of a model with such classes, background first, are to be understood."""
        return Foreground(self.threshold or None, object_classes(class_names), self.fill_holes)

    def labelling(self, class_names: Sequence[str]) -> Labelling:
        """Return what decides the objects beside the pixels, for a model with such classes, background first."""
        kinds = object_classes(class_names) or tuple(range(1, len(class_names)))
        splitting = None
        if self.split:
            splitting = Splitting.up_to(self.max_object, self.neck, self.rise, self.min_size)
        return Labelling(
            splitting,
            self.min_size,
            self.close_gaps,
            merged=self.merge_classes and len(kinds) > 1,
            rim=self.rim,
            rim_width=self.rim_width,
        )


def object_classes(names: Sequence[str]) -> tuple[int, ...] | None:
    """Return the classes that are objects unless a user says otherwise: not the background, and not a border.

    Args:
        names: of the classes, background first; may be empty or too short.

    Returns:
        None for all but the background.

    >>> object_classes(("background", "nucleus", "border")), object_classes(("background", "cell"))
    ((1,), None)
    """
    if BORDER not in names[1:]:
        return None
    return tuple(number for number, name in enumerate(names) if number and name != BORDER)
