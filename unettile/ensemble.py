"""Ensemble: several models of one network as one, whose probabilities are the mean of theirs.

Folds of a training, or runs from different starts, err in different places. The mean is of probabilities, pixel by
pixel, in the order of the files' hashes, so that it depends neither on tiles nor on the order in which they are given.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from unettile.checkpoint import Checkpoint
from unettile.errors import InputError, UsageError
from unettile.models import find_model
from unettile.objectsize import ObjectSize
from unettile.program import is_package_folder, load_model

TTA = ("none", "flips")
"""Ways in which windows are turned over, whose probabilities are averaged."""

_ALIKE = (
    ("network", "their networks"),
    ("config", "their networks' configs"),
    ("geometry", "their geometries"),
    ("normalization", "how they scale intensities"),
    ("classes", "their classes"),
    ("depth", "whether they have a depth"),
    ("grey_to_rgb", "whether they repeat grey"),
)


def load_models(names: Sequence[str], *, trust: bool = False, tta: str = "none") -> Checkpoint:
    """Load a model, or several as one.

    Args:
        names: of shipped models, or paths; a folder of checkpoints stands for all of them.
        trust: files may be read although that can run code in them.
        tta: none, or flips: windows are turned over, too, along each axis and along both.

    Raises:
        UsageError: another `tta`, or a model that is given twice.
        InputError: no such model, one that cannot be read, or models that do not go together.
    """
    if tta not in TTA:
        raise UsageError(f"--tta {tta} is not known: need one of {', '.join(TTA)}")
    paths = find_models(names)
    models = [load_model(path, trust=trust) for path in paths]
    if len(models) > 1:
        models = [combine(models, [str(path) for path in paths])]
    return replace(models[0], tta="" if tta == "none" else tta)


def find_models(names: Sequence[str]) -> list[Path]:
    """Return the files of models, the checkpoints of a folder in the place of it.

    Raises:
        InputError: neither a shipped model nor a file.
    """
    paths = []
    for path in map(find_model, names):
        inside = sorted(path.glob("*.safetensors")) if path.is_dir() and not is_package_folder(path) else []
        paths += inside or [path]
    return paths


def combine(models: Sequence[Checkpoint], names: Sequence[str]) -> Checkpoint:
    """Return several models as one.

    Args:
        names: of them, for messages.

    Raises:
        UsageError: one of them is given twice.
        InputError: they differ in more than their parameters.
    """
    first = models[0]
    for model, name in zip(models[1:], names[1:], strict=True):
        for key, what in _ALIKE:
            if getattr(model, key) != getattr(first, key):
                raise InputError(f"{names[0]} and {name} cannot be averaged: {what} differ; need models of one network")
    members = sorted(models, key=lambda model: model.sha256)
    digests = [model.sha256 for model in members]
    if len(set(digests)) < len(digests):
        raise UsageError(f"a model is given twice among {', '.join(names)}: give each once")
    differences = [model.difference for model in members if model.difference is not None]
    pixels = {model.pixel_size_um for model in models}
    return replace(
        members[0],
        members=tuple(members),
        sha256=hashlib.sha256("".join(digests).encode()).hexdigest(),
        objects_px=_sizes([model.objects_px for model in models]),
        pixel_size_um=pixels.pop() if len(pixels) == 1 else None,
        difference=max(differences, default=None),
    )


def _sizes(sizes: Sequence[ObjectSize | None]) -> ObjectSize | None:
    """Return the medians of what models know; None where one does not say."""
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes):
        return None
    return ObjectSize(*(median(getattr(size, name) for size in known) for name in ("median", "low", "high")))
