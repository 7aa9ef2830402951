"""Frame: the planes of a run in the pixels of its output; those of the image, where the network saw it at another size.

What the network says is brought back by bilinear interpolation: of probabilities, of which the largest then is the
class, not of classes. The weights of a pixel depend on its place in the whole image alone, and are whole numbers of
1/256, so that a region holds exactly the pixels that the whole has there, whatever the tiles and blocks were.

    image    |  0  |  1  |  2  |  3  |  4  |  5  |       centres at y + 1/2
    network  |     0     |     1     |     2     |       at half the size: place (y + 1/2) / 2 - 1/2 among these centres
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.objects.rules import object_classes
from unettile.segmentation.run.reader import BlockReader

if TYPE_CHECKING:
    from unettile.objects.labelling import Objects

STEPS = 256  # between two pixels of the network


@dataclass(frozen=True)
class Places:
    """Where pixels start … stop - 1 of the output lie among those of the network, along one axis.

    Args:
        beside: (n, 2) int64, the two pixels of the network beside each.
        second: (n,) int64, the weight of the second of them, 0 … 256.
    """

    beside: NDArray[np.int64]
    second: NDArray[np.int64]

    @classmethod
    def of(cls, start: int, stop: int, scale: float, length: int) -> Places:
        """Return them.

        Args:
            scale: network px for each px of the output.
            length: of the axis, network px.
        """
        steps = np.floor(((np.arange(start, stop) + 0.5) * scale - 0.5) * STEPS + 0.5).astype(np.int64)
        first, second = steps // STEPS, steps % STEPS
        beside = np.clip(np.stack([first, first + 1], axis=1), 0, length - 1)
        return cls(beside, second)

    @property
    def range(self) -> tuple[int, int]:
        """The pixels of the network that are needed, half-open."""
        return int(self.beside[:, 0].min()), int(self.beside[:, 1].max()) + 1


class Frame:
    """The planes of a run in the pixels of its output."""

    def __init__(self, blocks: BlockReader) -> None:
        self.plan, self._blocks = blocks.plan, blocks
        self.shape = self.plan.output_shape

    def read(self, kind: str, box: Box) -> NDArray[np.uint8]:
        """Return the planes (P, h, w) of a kind of output.

        Raises:
            Incomplete: a block under it is not finished, or damaged.
        """
        if not self.plan.is_brought_back:
            return self._blocks.read_box(box)[self.plan.planes_with(kind)]
        if kind == "classes":
            return _likeliest(self._sums("probabilities", box))[None]
        sums = self._sums(kind, box)
        levels: NDArray[np.uint8] = ((sums + STEPS * STEPS // 2) // (STEPS * STEPS)).astype(np.uint8)
        return levels

    def read_ids(self, objects: Objects, box: Box) -> NDArray[np.uint32]:
        """Return the ids (h, w) of objects that were found in the network's pixels."""
        if not self.plan.is_brought_back:
            return objects.read(box)
        from unettile.segmentation.frame_kernel import nearest_ids

        rows, columns, region = self._places(box)
        out = np.empty(box.shape, np.uint32)
        ids = objects.read(region).astype(np.uint32, copy=False)
        nearest_ids(
            ids,
            rows.beside - region.y0,
            rows.second,
            columns.beside - region.x0,
            columns.second,
            self._foreground(box),
            out,
        )
        return out

    def _foreground(self, box: Box) -> NDArray[np.bool_]:
        """Return which pixels (h, w) may be an object's, as the rules say."""
        rules, sums = self.plan.objects, self._sums("probabilities", box)
        assert rules is not None
        least = [one for one in (rules.threshold, rules.rim) if one]
        inside = np.zeros(box.shape, np.bool_) if rules.threshold else _likeliest(sums) != 0
        if least:
            chosen = object_classes(self.plan.class_names) or tuple(range(1, len(sums)))
            inside |= sums[list(chosen)].sum(axis=0) >= min(least) * 255 * STEPS * STEPS
        return inside

    def _sums(self, kind: str, box: Box) -> NDArray[np.int32]:
        """Return the planes of a box, (P, h, w), in 1/65536 of their numbers."""
        from unettile.segmentation.frame_kernel import interpolate  # numba takes a second to import

        rows, columns, region = self._places(box)
        planes = np.ascontiguousarray(self._blocks.read_box(region)[self.plan.planes_with(kind)])
        out = np.empty((len(planes), *box.shape), np.int32)
        interpolate(planes, rows.beside - region.y0, rows.second, columns.beside - region.x0, columns.second, out)
        return out

    def _places(self, box: Box) -> tuple[Places, Places, Box]:
        """Return where rows and columns of a box lie, and the box of the network's pixels around them."""
        plan = self.plan
        rows = Places.of(box.y0, box.y1, plan.scale, plan.shape[0])
        columns = Places.of(box.x0, box.x1, plan.scale, plan.shape[1])
        (y0, y1), (x0, x1) = rows.range, columns.range
        return rows, columns, Box(y0, x0, y1, x1)


def _likeliest(sums: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Return the classes (h, w) of sums of probabilities (K, h, w)."""
    from unettile.segmentation.frame_kernel import first_largest

    out = np.empty(sums.shape[1:], np.uint8)
    first_largest(sums, out)
    return out
