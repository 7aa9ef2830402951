"""Splitting of a mask that fits into memory: what `labelling` does in blocks, for arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unettile.box import Box
from unettile.objects.depth import GAIN, STEPS, distance_depth, map_depth, smooth
from unettile.objects.numbering import Register
from unettile.objects.pieces import split_pieces
from unettile.objects.rules import Splitting
from unettile.tiling import BlockGrid


def split(
    foreground: ArrayLike, depth: NDArray[Any] | None = None, splitting: Splitting | None = None
) -> NDArray[np.uint32]:
    """Return the objects of a mask, touching ones parted where the depth has a pass between two of its peaks.

    Args:
        foreground: (H, W) integer or bool; 0 is background, other values are classes, and objects are of one class.
        depth: (H, W) uint8 or uint16, or floating point from 0 to 1: larger is deeper inside an object. A network's map
            of inner distances or probabilities, for example. None takes the distance to the edge of the class.
        splitting: the rules; None for the defaults.

    Returns:
        (H, W) uint32, numbered 1 … N by the raster order of first pixels, 0 is background.

    Raises:
        ValueError: the shapes differ.

    >>> split(np.array([[1, 1, 1, 1, 1]]), np.array([[9, 9, 2, 9, 9]], np.uint8), Splitting(passes=0)).tolist()
    [[1, 1, 1, 2, 2]]
    """
    rules = splitting or Splitting()
    classes = np.ascontiguousarray(np.asarray(foreground), np.uint32)
    if depth is not None and depth.shape != classes.shape:
        raise ValueError(f"foreground is {classes.shape} and depth {depth.shape}: need one shape")
    found = distance_depth(classes, rules.reach) if depth is None else np.where(classes, map_depth(depth), 0)
    cap = rules.reach * STEPS * GAIN**rules.passes if depth is None else np.iinfo(np.int64).max
    grid = BlockGrid((classes.shape[0], classes.shape[1]), max(classes.shape))
    box = Box.of_shape(grid.shape)
    pieces = split_pieces(
        np.pad(classes, 1), np.pad(smooth(found.astype(np.int32), rules.passes), 1), cap, rules, box, box
    )
    register = Register(grid)
    register.add(0, pieces)
    return register.solve(rules, 0).of_piece[pieces.labels]
