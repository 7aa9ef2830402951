"""Targets: what a network should say about labels, and which pixels count.

label image → ids or classes (one channel, or the colours of the classes)
            → instances: gaps carved, borders found → classes 0 … K - 1; depths
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from unettile.errors import InputError
from unettile.images.colours import Colour
from unettile.labels import carve_gaps, check_labels, renumber
from unettile.objects.depth import distance_depth
from unettile.training.kinds import ObjectKinds
from unettile.training.parts import LabelPart
from unettile.weightmap import border_term, reach, weight_map

MARGIN = 64
"""px around a sample within which labels matter to its depths; objects that reach further have theirs nearly right."""


@dataclass(frozen=True)
class Target:
    """What to learn from a label map.

    Args:
        classes: (H, W) int64 in 0 … K - 1; UNKNOWN in objects whose kind is not known.
        counted: (H, W) bool, False where the labels are to be ignored; None where every pixel counts.
        instances: (H, W) ids after gaps were carved, for the weight map; None for labels that are classes.
        near: where borders are learnt, the border term of `instances` with w0 = 1 and this sigma, which found them.
    """

    classes: NDArray[np.int64]
    counted: NDArray[np.bool_] | None
    instances: NDArray[np.integer] | None
    near: tuple[NDArray[np.float32], float] | None = None

    def weights(self, w0: float, sigma: float) -> NDArray[np.float32]:
        """Return the weight map (H, W), w_c = 1 everywhere, no less exact for being made of `near` where that is there.

        Args:
            sigma: px; no larger than that of `near`.
        """
        if self.instances is None or not w0 > 0:
            return np.ones(self.classes.shape, np.float32)
        if self.near is None:
            return weight_map(self.instances, w0, sigma)
        term, wide = self.near  # exp(-d² / 2 wide²), so its power is the same with another sigma
        weights = np.ones(term.shape, np.float32)
        found = term > 0
        weights[found] += np.float32(w0) * term[found] ** np.float32((wide / sigma) ** 2)
        return weights


def target_of(
    labels: NDArray[np.integer], part: LabelPart, name: str, sigma: float = 0.0, kinds: ObjectKinds | None = None
) -> Target:
    """Return the target of a label map (H, W).

    Args:
        name: what to call the labels in messages.
        sigma: px, the largest for which its weights will be asked.
        kinds: of the ids, where the recipe tells kinds of objects apart; unknown without it.

    Raises:
        InputError: a class that the recipe does not name.
    """
    counted = None
    if part.ignore >= 0:
        counted = labels != part.ignore
        labels = np.where(counted, labels, labels.dtype.type(0))
    if part.are_objects:
        carved = carve_gaps(labels, part.border or part.gap)
        classes = (kinds or ObjectKinds.none()).of(carved) if part.kinds else (carved > 0).astype(np.int64)
        if not part.border:
            return Target(classes, counted, carved)
        width = _width(part.border)
        sigma = max(sigma, _border_sigma(width))
        near = border_term(carved, 1.0, sigma)
        # background of a gap of up to that width between two instances, d1 + d2 ≤ width + 1; rounding moves no pixel
        classes[near > math.exp(-0.5 * ((width + 1) / sigma) ** 2) * (1 - 1e-6)] = len(part.names)
        return Target(classes, counted, carved, (near, sigma))
    if labels.size and labels.max() >= len(part.names):
        raise InputError(
            f"{name} has class {labels.max()}, the recipe names {len(part.names)}: add to labels.names, or set "
            "labels.values for other numbers, or labels.kind=instances if these are ids"
        )
    return Target(labels.astype(np.int64), counted, None)


def target_margin(part: LabelPart) -> int:
    """Return the px around a piece of a label map within which labels matter to its target."""
    if not part.are_objects:
        return 0
    if part.depth:
        return max(MARGIN, target_margin(replace(part, depth=False)))
    return part.gap if not part.border else _width(part.border) + reach(_border_sigma(_width(part.border)))


def normalized_depth(labels: NDArray[np.integer]) -> NDArray[np.float32]:
    """Return the inner distance of each pixel of an object over the largest one of that object.

    The inner distance is that to the nearest pixel which is not the object's, another object's too. Nearly 0 at the
    edge, 1 in the middle, whatever the object's size: touching objects have a valley between them.

    Args:
        labels: (H, W) integer ids, 0 is background. What lies outside the array is no edge.

    Returns:
        (H, W) float32 in 0 … 1; 0 on background.
    """
    count, numbered = renumber(labels)
    compact = numbered.astype(np.uint32)
    distance = distance_depth(compact, 2 * MARGIN)
    largest = np.zeros(count + 1, np.int32)
    np.maximum.at(largest, compact.ravel(), distance.ravel())
    depth: NDArray[np.float32] = (distance / np.maximum(largest, 1)[compact]).astype(np.float32)
    return depth


def read_ids(pixels: NDArray[np.generic], part: LabelPart, name: str) -> NDArray[np.integer]:
    """Return ids or classes (H, W) of what a label image holds (H, W, C): numbers, or the colours of the classes.

    Raises:
        InputError: a picture without `labels.colors`, a colour that is not among them, or numbers that are no ids.
    """
    if pixels.shape[2] == 1:
        ids: NDArray[np.integer] = check_labels(pixels, name)
        return _by_value(ids, part, name) if part.values else ids
    if pixels.shape[2] not in (3, 4) or not part.colors or pixels.dtype != np.uint8:
        raise InputError(
            f"{name} has {pixels.shape[2]} channels: labels need one, with ids or classes; for a picture whose colours "
            "are the classes, give labels.colors"
        )
    codes = _codes(pixels.astype(np.int64))
    known = _codes(np.array(part.colors, np.int64))
    order = np.argsort(known)
    index = order[np.searchsorted(known[order], codes).clip(max=len(known) - 1)]
    strange = known[index] != codes
    if strange.any():
        y, x = np.argwhere(strange)[0].tolist()
        colour: Colour = tuple(int(value) for value in pixels[y, x, :3])  # type: ignore[assignment]
        raise InputError(f"{name} has the colour {colour}, which is no class: add it to labels.colors, or repaint it")
    classes: NDArray[np.integer] = index.astype(np.int32)
    return classes


def _by_value(numbers: NDArray[np.integer], part: LabelPart, name: str) -> NDArray[np.integer]:
    """Return the class (H, W) that each number stands for; what is to be ignored stays."""
    known = np.array(part.values, np.int64)
    order = np.argsort(known)
    index = order[np.searchsorted(known[order], numbers).clip(max=len(known) - 1)]
    strange = known[index] != numbers
    if part.ignore >= 0:
        strange &= numbers != part.ignore
        index = np.where(numbers == part.ignore, part.ignore, index)
    if strange.any():
        raise InputError(
            f"{name} has the number {int(numbers[strange][0])}, which stands for no class: labels.values has"
            f" {', '.join(map(str, part.values))}; add it there and a name to labels.names"
        )
    classes: NDArray[np.integer] = index.astype(np.int32)
    return classes


def _codes(pixels: NDArray[np.int64]) -> NDArray[np.int64]:
    codes: NDArray[np.int64] = (pixels[..., 0] << 16) + (pixels[..., 1] << 8) + pixels[..., 2]
    return codes


def _width(border: int) -> int:
    """Return the width that `carve_gaps` makes of it: half from each instance, so an even number of px."""
    return (border + 1) // 2 * 2


def _border_sigma(width: int) -> float:
    return (width + 1) / 2  # the term falls steeply at the limit
