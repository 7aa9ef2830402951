"""Pairs of an image and its labels, and which of them validate."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from unettile.errors import InputError
from unettile.images.idparts import count_parts_of
from unettile.images.slide import ImageSource, image_stem, list_images


@dataclass(frozen=True)
class Pair:
    """An image, its labels of the same name, and its weight map where one was computed before; files, or arrays.

    Args:
        source: name of the recipe's source that it belongs to, or "".
        zoom: by how much both are enlarged before anything else.
    """

    image: ImageSource
    labels: ImageSource
    weights: ImageSource | None = None
    source: str = ""
    zoom: float = 1.0

    @property
    def name(self) -> str:
        return image_stem(self.image) if isinstance(self.image, Path) else self.image.name

    @property
    def full_name(self) -> str:
        """The name, after that of its source if it has one."""
        return f"{self.source}/{self.name}" if self.source else self.name


def find_pairs(images: Path, labels: Path, weights: Path | None = None) -> tuple[Pair, ...]:
    """Pair the files of two directories by stem, sorted by name.

    Raises:
        InputError: a directory without images, two files of one stem, or files without a partner (the first are named).
    """
    found = {"image": _by_stem(images), "label image": _by_stem(labels)}
    if weights is not None:
        found["weight map"] = _by_stem(weights)
    stems = found["image"].keys()
    for kind, files in found.items():
        missing = sorted(stems - files.keys())
        unpaired = sorted(files.keys() - stems) if kind != "image" else []
        for names, text in ((missing, f"have no {kind}"), (unpaired, f"({kind}s) have no image")):
            if names:
                shown = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
                raise InputError(f"{len(names)} files {text} of the same name: {shown}; images pair by name")
    maps = found.get("weight map", {})
    return tuple(Pair(found["image"][stem], found["label image"][stem], maps.get(stem)) for stem in sorted(stems))


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
    return count_parts_of([pair.labels for pair in pairs]).note(advice)


def hold_out(
    pairs: Sequence[Pair], validation: float, test: float = 0.0
) -> tuple[tuple[Pair, ...], tuple[Pair, ...], tuple[Pair, ...]]:
    """Split into pairs to train, to validate and to test on; the choice depends on the names alone, not on their order.

    The pairs whose names have the smallest SHA-256 validate, the next ones test: adding images to a set moves few.

    Raises:
        InputError: fractions, or a number of pairs, that leave a part empty that should not be.
    """
    validating, testing = round(len(pairs) * validation), round(len(pairs) * test)
    for name, fraction, count in (("validation", validation, validating), ("test", test, testing)):
        wanted = fraction > 0 or name == "validation"
        if (wanted and count == 0) or validating + testing >= len(pairs):
            raise InputError(
                f"a {name} fraction of {fraction:g} takes {count} of {len(pairs)} images: need at least one for each "
                f"part, and some to train on; change {'--validation' if name == 'validation' else 'split.test'}"
            )
    part = {pair: index >= validating for index, pair in enumerate(ranked(pairs)[: validating + testing])}
    return (
        tuple(pair for pair in pairs if pair not in part),
        tuple(pair for pair in pairs if part.get(pair) is False),
        tuple(pair for pair in pairs if part.get(pair) is True),
    )


def ranked(pairs: Iterable[Pair]) -> list[Pair]:
    """Return pairs by the SHA-256 of their names: an order as good as random, the same whatever else is there."""
    return sorted(pairs, key=lambda pair: hashlib.sha256(pair.name.encode()).hexdigest())


def _by_stem(directory: Path) -> dict[str, Path]:
    files = list_images(directory)
    twice = [stem for stem, count in Counter(image_stem(path) for path in files).items() if count > 1]
    if twice:
        raise InputError(f"{directory} has two files called {twice[0]!r}: keep one, since images pair by name")
    return {image_stem(path): path for path in files}
