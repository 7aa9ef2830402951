"""Masks that are hard to label, random ones, and a reference to label them with."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import ndimage

from unettile.box import Box


class InMemory:
    """Classes or ids in memory."""

    def __init__(self, pixels: NDArray[np.integer]) -> None:
        self._pixels = pixels.astype(np.uint32)
        self.shape = (pixels.shape[0], pixels.shape[1])
        self.count = int(pixels.max(initial=0))
        ids, first = np.unique(pixels, return_index=True)
        self.origin = first[ids > 0].astype(np.int64)

    def read(self, box: Box) -> NDArray[np.uint32]:
        return np.ascontiguousarray(self._pixels[box.slices])


def reference(mask: NDArray[np.integer]) -> NDArray[np.int32]:
    """Label with SciPy, each class by itself, and number by first pixels."""
    numbered = np.zeros(mask.shape, np.int32)
    for value in np.unique(mask[mask > 0]):
        part = ndimage.label(mask == value)[0]
        numbered[part > 0] = part[part > 0] + numbered.max()
    ids, first = np.unique(numbered, return_index=True)
    order = np.argsort(first[ids > 0])
    final = np.zeros(ids.max() + 1, np.int32)
    final[ids[ids > 0][order]] = np.arange(1, order.size + 1)
    return final[numbered]


def spiral(edge: int) -> NDArray[np.uint32]:
    """A path of one px that winds inwards, and a second one, in its gaps, that never meets it."""
    mask = np.zeros((edge, edge), np.uint32)
    y, x, dy, dx = 0, 0, 0, 1
    mask[0, 0] = 1
    while True:
        for _ in range(2):
            ahead, beyond = (y + dy, x + dx), (y + 2 * dy, x + 2 * dx)
            free = 0 <= ahead[0] < edge and 0 <= ahead[1] < edge and mask[ahead] == 0
            clear = not (0 <= beyond[0] < edge and 0 <= beyond[1] < edge) or mask[beyond] == 0
            if free and clear:
                break
            dy, dx = dx, -dy
        else:
            return mask
        y, x = ahead
        mask[y, x] = 1


def comb(edge: int) -> NDArray[np.uint32]:
    """Teeth that are joined by one row at the bottom, and teeth of another comb between them, joined at the top."""
    mask = np.zeros((edge, edge), np.uint32)
    mask[2:, ::4] = 1
    mask[-1, :] = 1
    mask[:-2, 2::4] = 1
    mask[0, 2:] = 1
    return mask


SHAPES = {
    "spiral": spiral(37),
    "comb": comb(33),
    "checkerboard": (np.indices((19, 23)).sum(axis=0) % 2).astype(np.uint32),
    "single pixels": np.pad(np.ones((6, 7), np.uint32)[:, :, None, None], [(0, 0)] * 2 + [(1, 1)] * 2)
    .transpose(0, 2, 1, 3)
    .reshape(18, 21),
    "full": np.ones((20, 20), np.uint32),
    "empty": np.zeros((20, 20), np.uint32),
    "stripes of classes": np.tile(np.array([1, 2, 2, 0, 3], np.uint32), (13, 4)),
}


masks = hnp.arrays(np.uint32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=24), elements=st.integers(0, 2))
blobs = st.builds(
    lambda shape, seed, size: (ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), size) > 0.5).astype(
        np.uint32
    ),
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.integers(0, 10**6),
    st.floats(0.5, 3.0),
)
