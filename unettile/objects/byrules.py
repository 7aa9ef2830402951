"""By rules: the objects of what a model says of an image, which is read by region or in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.objects.certainty import Chance
from unettile.objects.foreground import ClassMap, Pixels
from unettile.objects.labelling import BLOCK_EDGE, Cutter, Objects, label_objects
from unettile.objects.rules import ObjectRules
from unettile.objects.scan import OnProgress
from unettile.objects.spill import Spill
from unettile.tiling import BlockGrid


def label_by_rules(
    mask: Pixels,
    depth: Pixels | None,
    rules: ObjectRules,
    class_names: Sequence[str],
    spill: Spill,
    on_progress: OnProgress,
    probabilities: Pixels | None = None,
) -> Objects:
    """Label all objects of an image as a model's rules say.

    Args:
        mask: classes in one channel; if the rules have a threshold, probabilities, one channel for each class.
        depth: the model's own, if it has one; it counts if the rules ask for it.
        class_names: background first.
        spill: must stay open as long as the result is read.
        on_progress: called after each block.
        probabilities: one channel for each class; needed where the rules have a rim.

    Raises:
        InputError: an image that is damaged.
        OSError: the temporary file cannot be written.
    """
    foreground, labelling = rules.foreground(class_names), rules.labelling(class_names)
    own = depth if labelling.splitting is not None and rules.own_depth else None
    cutter = Cutter(ClassMap(mask, foreground), labelling.splitting, own, labelling.merged)
    chance = None
    if rules.rim:
        assert probabilities is not None
        chance = Chance(probabilities, foreground.classes)
    return label_objects(cutter, labelling, spill.grid, spill, on_progress, chance)


def label_array(
    mask: NDArray[np.uint8],
    depth: NDArray[np.uint8] | None,
    rules: ObjectRules,
    class_names: Sequence[str],
    probabilities: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint32]:
    """Return the ids (h, w) of the objects of arrays (h, w, C) and (h, w, 1); see `label_by_rules`.

    Raises:
        OSError: the temporary file cannot be written.
    """
    return find_in_array(mask, depth, rules, class_names, probabilities)[0]


def find_in_array(
    mask: NDArray[np.uint8],
    depth: NDArray[np.uint8] | None,
    rules: ObjectRules,
    class_names: Sequence[str],
    probabilities: NDArray[np.uint8] | None = None,
) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Return the ids (h, w) of the objects of arrays, as `label_array` does, and the class (N,) of each.

    Raises:
        OSError: the temporary file cannot be written.
    """
    held = _Held(mask)
    with Spill(BlockGrid(held.shape, BLOCK_EDGE), Path(tempfile.gettempdir())) as spill:
        deep, chances = (None if one is None else _Held(one) for one in (depth, probabilities))
        objects = label_by_rules(held, deep, rules, class_names, spill, lambda done, total: None, chances)
        return objects.read(Box.of_shape(held.shape)), objects.numbers.classes


def foreground_of(mask: NDArray[np.uint8], rules: ObjectRules, class_names: Sequence[str]) -> NDArray[np.bool_]:
    """Return which pixels (h, w) of an array (h, w, C) the rules take for those of objects."""
    held = _Held(mask)
    return ClassMap(held, rules.foreground(class_names)).read(Box.of_shape(held.shape)) > 0


class _Held:
    """An array as an image that is read by region."""

    path = Path("array")

    def __init__(self, pixels: NDArray[Any]) -> None:
        self._pixels = pixels
        self.shape = (pixels.shape[0], pixels.shape[1])
        self.channels = pixels.shape[2]
        self.dtype: np.dtype[Any] = pixels.dtype

    def read(self, box: Box) -> NDArray[Any]:
        return self._pixels[box.slices]
