"""Pairing: which files of two folders belong together, by their names without endings.

Equal names pair first; a letter with an accent equals the same letter and accent stored as two characters, as macOS
has them. What is then left on both sides pairs where names differ in case, or in a word that says what a file is
(`img_0` and `img_0_masks`, `img_0_0000` and `img_0`), and exactly one fits.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path

from unettile.errors import InputError
from unettile.images.listing import image_stem, list_images
from unettile.images.slide import ImageSource, LabelSource

_ROLE = re.compile(
    r"[ _.-]+(?:cp[ _-]?masks?|masks?|labels?|labell?ed|segmentations?|seg|ground[ _-]?truths?|gt|instances?|outlines?"
    r"|weights?|images?|img|raw|0000|roi[ _-]?sets?|rois?|annotations?)$"
)
"""What is appended: Cellpose `_cp_masks` and `_masks`, QuPath `-labelled`, nnU-Net `_0000` to its first channel."""

_NAMED = 3


def name_of(path: Path) -> str:
    """Return a file's name without its ending, each letter in one form."""
    return unicodedata.normalize("NFC", image_stem(path))


def by_name(folder: Path) -> dict[str, Path]:
    """Return the images of a folder by name, sorted.

    Raises:
        InputError: it holds none, or two of one name.
    """
    found: dict[str, Path] = {}
    for path in list_images(folder):
        name = name_of(path)
        if name in found:
            raise InputError(
                f"{folder} has two files called {name!r}, {found[name].name} and {path.name}: keep one, since images"
                " pair by name"
            )
        found[name] = path
    return dict(sorted(found.items()))


def match_names(first: Iterable[str], second: Iterable[str]) -> dict[str, str]:
    """Return the names of the second that belong to those of the first; what has no partner is left out.

    >>> match_names(["a_1", "b_1"], ["b_1", "A_1_masks", "c"])
    {'b_1': 'b_1', 'a_1': 'A_1_masks'}
    """
    first, second = list(first), list(second)
    matched = {name: name for name in first if name in set(second)}
    alike: dict[str, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for side, names in enumerate((first, second)):
        for name in names:
            if name not in matched:
                alike[_plain(name)][side].append(name)
    return matched | {one[0]: other[0] for one, other in alike.values() if len(one) == len(other) == 1}


def nearest(name: str, others: Sequence[str]) -> str | None:
    """Return the other name that is most like a name without a partner, for a message; None if none is."""
    plain = {_plain(other): other for other in others}
    found = get_close_matches(_plain(name), plain, n=1, cutoff=0.6)
    return plain[found[0]] if found else None


def describe_alike(pairs: Iterable[tuple[ImageSource, ImageSource]]) -> str | None:
    """Say which files were paired although their names differ; None if none were."""
    files = [(_file(one), _file(other)) for one, other in pairs]
    alike = [(one, other) for one, other in files if one and other and name_of(one) != name_of(other)]
    if not alike:
        return None
    named = ", ".join(f"{one.name} with {other.name}" for one, other in alike[:_NAMED])
    more = f" and {len(alike) - _NAMED} more" if len(alike) > _NAMED else ""
    return f"paired by names that are alike, not equal: {named}{more}"


def _file(source: ImageSource) -> Path | None:
    """Return the file whose name counts; None of an array."""
    return source if isinstance(source, Path) else source.file if isinstance(source, LabelSource) else None


def _plain(name: str) -> str:
    """Return a name without the words that say what a file is, in lower case."""
    plain, before = name.casefold().strip(), ""
    while plain != before:
        before = plain
        plain = _ROLE.sub("", plain)
    return plain
