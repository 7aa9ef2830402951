"""Shapes: polygons by their corners, and which pixels they hold: those whose centres lie inside.

Of a shape's rings taken together a centre is inside where it is surrounded by an odd number of them, so that a ring in
another is a hole. A centre on an edge belongs to what lies to the right of it, or below: shapes that share an edge
share no pixel, and leave none out. It depends on the corners alone, whatever region is asked for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box

Ring = NDArray[np.float64]
"""Corners (n, 2), x first; the last joins the first."""


@dataclass(frozen=True, eq=False)
class Shapes:
    """Shapes, each of one ring or several.

    Args:
        corners: (N, 2) float64, x first, px; (0, 0) is the upper left corner of the first pixel.
        starts: (R + 1,) int64, where the rings begin among the corners, and where the last one ends.
        firsts: (S + 1,) int64, where the shapes begin among the rings, and where the last one ends.
        names: (S,) of the class of each shape; "" where it has none.
    """

    corners: NDArray[np.float64]
    starts: NDArray[np.int64]
    firsts: NDArray[np.int64]
    names: tuple[str, ...]
    bounds: NDArray[np.float64] = field(init=False)
    """(S, 4) of each shape: y0, x0, y1, x1."""

    def __post_init__(self) -> None:
        assert len(self.firsts) == len(self.names) + 1 and self.firsts[-1] == len(self.starts) - 1
        bounds = np.empty((len(self.names), 4))
        if len(self.names):
            begins = self.starts[self.firsts[:-1]]
            low, high = (f.reduceat(self.corners, begins, axis=0) for f in (np.minimum, np.maximum))
            bounds[:, :2], bounds[:, 2:] = low[:, ::-1], high[:, ::-1]
        object.__setattr__(self, "bounds", bounds)

    @classmethod
    def of_rings(cls, shapes: Sequence[Sequence[Ring]], names: Sequence[str] | None = None) -> Shapes:
        """Return shapes from the rings of each; a ring of fewer than three corners holds nothing and is left out."""
        kept = [[ring for ring in rings if len(ring) >= 3] for rings in shapes]
        given = list(names) if names is not None else [""] * len(kept)
        pairs = [(rings, name) for rings, name in zip(kept, given, strict=True) if rings]
        flat = [np.asarray(ring, np.float64) for rings, _ in pairs for ring in rings]
        starts = np.cumsum([0, *map(len, flat)])
        firsts = np.cumsum([0, *(len(rings) for rings, _ in pairs)])
        corners = np.concatenate(flat) if flat else np.empty((0, 2))
        return cls(corners, starts.astype(np.int64), firsts.astype(np.int64), tuple(name for _, name in pairs))

    def __len__(self) -> int:
        return len(self.names)

    def placed(self, corners: NDArray[np.float64]) -> Shapes:
        """Return the same shapes with other corners, rounded to 1/256 px, so that machines agree on them."""
        return Shapes(np.rint(corners * 256) / 256, self.starts, self.firsts, self.names)

    def numbers(self, box: Box, values: NDArray[np.uint32] | None = None) -> NDArray[np.uint32]:
        """Return for each pixel (h, w) of a box the number of the last shape that holds it, from 1; 0 for none.

        Args:
            values: (S,) what to return of a shape instead of its number.
        """
        from unettile.drawn.kernel import draw  # numba takes a second to import

        out = np.zeros(box.shape, np.uint32)
        y0, x0, y1, x1 = self.bounds.T
        near = np.flatnonzero((y0 < box.y1) & (y1 > box.y0) & (x0 < box.x1) & (x1 > box.x0))
        values = np.arange(1, len(self) + 1, dtype=np.uint32) if values is None else values
        if near.size:
            draw(self.corners, self.starts, self.firsts, self.bounds, near, values, (box.y0, box.x0), out)
        return out

    @property
    def sha256(self) -> str:
        """Of all corners, and of what they belong to."""
        digest = hashlib.sha256()
        for array in (self.corners, self.starts, self.firsts):
            digest.update(np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).data)
        return digest.hexdigest()
