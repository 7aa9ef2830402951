"""Components: the separate parts of all that is above 0 in a mask, numbered over the whole image, read by region."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.images.slide import Slide
from unettile.labels import check_labels
from unettile.objects.labelling import BLOCK_EDGE, Cutter, label_objects
from unettile.objects.rules import Labelling
from unettile.objects.spill import Spill
from unettile.tiling import BlockGrid


def open_ids(slide: Slide, stack: ExitStack, *, components: bool) -> Callable[[Box], NDArray[Any]]:
    """Return what gives the object ids (h, w) of a box: those of the file, or those of its foreground's parts.

    Args:
        slide: of a label image.
        stack: closes the temporary file of the parts.
        components: pixels above 0 that are connected over their sides are one object, whatever their ids.

    Raises:
        InputError: the file is damaged, or holds no ids.
    """
    if not components:
        return lambda box: check_labels(slide.read(box), str(slide.path))
    grid = BlockGrid(slide.shape, BLOCK_EDGE)
    spill = stack.enter_context(Spill(grid, Path(tempfile.gettempdir())))
    cutter = Cutter(_Foreground(slide), None, None)
    return label_objects(cutter, Labelling(), grid, spill, lambda done, total: None).read


class _Foreground:
    """All that is above 0 in a mask, as one class."""

    def __init__(self, slide: Slide) -> None:
        self._slide = slide
        self.shape = slide.shape

    def read(self, box: Box) -> NDArray[np.uint32]:
        return (check_labels(self._slide.read(box), str(self._slide.path)) > 0).astype(np.uint32)
