"""A part of an image at once, in memory: what an engine computes for it, for images that fit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.errors import InputError
from unettile.images.mirror import read_mirrored, shown_box
from unettile.images.normalize import Scaling
from unettile.images.slide import Slide
from unettile.inference.engine import Listener, Strip, Task
from unettile.inference.predict import Predictor
from unettile.tiling import BlockGrid, TileGrid


def compute_box(image: Slide, box: Box, predictor: Predictor, scaling: Scaling, kinds: tuple[str, ...]) -> NDArray[Any]:
    """Return the planes (P, h, w) of a part of an image: those that a run over the whole image makes of it.

    Args:
        box: of the image.
        kinds: names of what is computed (`unettile.inference.kinds`).

    Raises:
        InputError: the image cannot be read, or the model overflows.
    """
    engine = predictor.engine
    task = _task(image, predictor, scaling, kinds, engine.choose_edge(image.shape))
    while True:
        try:
            batch = engine.prepare(task, 1, lambda line: None)
            break
        except InputError:
            smaller = engine.smaller_edge(task.tiles.output_edge)
            if smaller is None:
                raise
            task = _task(image, predictor, scaling, kinds, smaller)
    edge = task.tiles.write_edge
    grid = Box(box.y0 // edge * edge, box.x0 // edge * edge, -(-box.y1 // edge) * edge, -(-box.x1 // edge) * edge)
    tiles = list(task.tiles.tiles_in(grid))
    whole = grid.intersect(Box.of_shape(image.shape))
    region = Box(tiles[0].window.y0, tiles[0].window.x0, tiles[-1].window.y1, tiles[-1].window.x1)
    if engine.mirrors:
        region = shown_box(region, image.shape)
    strip = engine.stage(Strip(whole, tiles, region, read_mirrored(image, region), whole=True))
    result: NDArray[Any] | None = None
    for patch in engine.run(task, _One(strip), batch, Listener()):
        if result is None:
            result = np.empty((len(patch.planes), *whole.shape), patch.planes.dtype)
        result[(..., *patch.box.relative_to(whole).slices)] = patch.planes
    assert result is not None
    return result[(..., *box.relative_to(whole).slices)]


def _task(image: Slide, predictor: Predictor, scaling: Scaling, kinds: tuple[str, ...], edge: int) -> Task:
    tiles = TileGrid(image.shape, predictor.geometry, edge)
    return Task(tiles, BlockGrid.for_tiles(tiles), kinds, scaling, image.dtype)


class _One:
    """A supply of one strip."""

    def __init__(self, strip: Strip) -> None:
        self._strip: Strip | None = strip

    def take(self, *, wait: bool = True) -> Strip | None:
        strip, self._strip = self._strip, None
        return strip
