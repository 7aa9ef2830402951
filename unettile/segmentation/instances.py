"""Instances: the objects of a run, numbered once all of its blocks are there.

blocks of classes or probabilities, and of depths --labelling, in blocks of its own--> ids of the whole image

Blocks are the same whatever the tiles and shards were, and labelling knows no blocks: so are the ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.images.record import Record
from unettile.objects.byrules import label_by_rules
from unettile.objects.found import Found
from unettile.objects.labelling import BLOCK_EDGE, Objects
from unettile.objects.spill import Spill
from unettile.segmentation.run.reader import BlockReader
from unettile.tiling import BlockGrid


class RunPixels:
    """Planes of one kind in a run's blocks, as an image.

    Args:
        blocks: of the run.
        kind: one that they hold.
    """

    def __init__(self, blocks: BlockReader, kind: str) -> None:
        self._blocks, self._planes = blocks, blocks.plan.planes_with(kind)
        self.path = blocks.path
        self.shape = blocks.plan.shape
        self.channels = self._planes.stop - self._planes.start
        self.dtype: np.dtype[Any] = np.dtype(np.uint8)

    def read(self, box: Box) -> NDArray[np.uint8]:
        """Return a part of the image, (h, w, C).

        Raises:
            Incomplete: a block under it is not finished, or damaged.
        """
        return np.moveaxis(self._blocks.read_box(box)[self._planes], 0, -1)


@contextmanager
def find_instances(blocks: BlockReader, directory: Path, on_progress: Callable[[int, int], None]) -> Iterator[Objects]:
    """Give the numbered objects of a run; they can be read until the context ends.

    Args:
        blocks: of a run whose plan says how objects are made.
        directory: of a temporary file.
        on_progress: takes pixels labelled and pixels in all; may raise to stop.

    Raises:
        Incomplete: a block is missing or damaged.
        OSError: the temporary file cannot be written.
    """
    plan = blocks.plan
    assert plan.objects is not None
    mask = RunPixels(blocks, "probabilities" if plan.objects.threshold else "classes")
    depth = RunPixels(blocks, "depth") if "depth" in plan.stored else None
    chances = RunPixels(blocks, "probabilities") if plan.objects.rim else None
    with Spill(BlockGrid(plan.shape, BLOCK_EDGE), directory) as spill:
        yield label_by_rules(mask, depth, plan.objects, plan.class_names, spill, on_progress, chances)


def sum_up(objects: Objects, class_names: tuple[str, ...]) -> Found:
    """Return what was found, its classes named."""
    return Found.of(objects, Record(dict(enumerate(class_names))))
