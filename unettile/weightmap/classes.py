"""Class weights: w_c, which gives every class the same share in the loss."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from unettile.errors import InputError
from unettile.labels import check_labels


def balanced_weights(counts: Sequence[int]) -> tuple[float, ...]:
    """Return the weight of each class that gives all classes the same share in the loss: n / (K · n_k).

    n is the sum of `counts` and K the number of classes that occur. A class that does not occur has weight 0: no pixel
    uses it, and the mean weight over the pixels counted stays 1, whatever the classes.

    Args:
        counts: pixels of each class, over the whole label set.

    Raises:
        InputError: no pixels at all.

    >>> balanced_weights([300, 100, 0])
    (0.6666666666666666, 2.0, 0.0)
    """
    pixels = sum(counts)
    if pixels == 0:
        raise InputError("balanced class weights need labelled pixels, got none")
    present = sum(count > 0 for count in counts)
    return tuple(pixels / (present * count) if count else 0.0 for count in counts)


def balanced_class_weights(label_maps: Iterable[ArrayLike]) -> tuple[float, float]:
    """Return the balanced weights of background and of cells over a whole set of label maps.

    Args:
        label_maps: (H, W) integer each, 0 is background; read once, one at a time.

    >>> balanced_class_weights([np.array([[0, 0, 0, 7]])])
    (0.6666666666666666, 2.0)
    """
    pixels = cells = 0
    for labels in label_maps:
        array = check_labels(labels, "labels")
        pixels += array.size
        cells += int(np.count_nonzero(array))
    background, cell = balanced_weights((pixels - cells, cells))
    return background, cell
