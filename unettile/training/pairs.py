"""Pairs of an image and its labels, and which of them validate."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unettile.errors import InputError
from unettile.images.slide import image_stem, list_images


@dataclass(frozen=True)
class Pair:
    """An image file, its label file of the same stem, and its weight map where one was computed before."""

    image: Path
    labels: Path
    weights: Path | None = None

    @property
    def name(self) -> str:
        return image_stem(self.image)


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


def hold_out(pairs: Sequence[Pair], fraction: float) -> tuple[tuple[Pair, ...], tuple[Pair, ...]]:
    """Split into training and validation pairs; the choice depends on the names alone, not on their order.

    The pairs whose names have the smallest SHA-256 validate: adding images to a set changes few of them.

    Raises:
        InputError: a fraction, or a number of pairs, that leaves either part empty.
    """
    count = round(len(pairs) * fraction)
    if not 0 < count < len(pairs):
        raise InputError(
            f"a validation fraction of {fraction:g} takes {count} of {len(pairs)} images: need at least one for each "
            "part; change --validation"
        )
    ranked = sorted(pairs, key=lambda pair: hashlib.sha256(pair.name.encode()).hexdigest())
    chosen = set(ranked[:count])
    return tuple(p for p in pairs if p not in chosen), tuple(p for p in pairs if p in chosen)


def _by_stem(directory: Path) -> dict[str, Path]:
    files = list_images(directory)
    twice = [stem for stem, count in Counter(image_stem(path) for path in files).items() if count > 1]
    if twice:
        raise InputError(f"{directory} has two files called {twice[0]!r}: keep one, since images pair by name")
    return {image_stem(path): path for path in files}
