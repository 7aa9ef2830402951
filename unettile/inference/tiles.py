"""Computing a strip by tiles: windows in batches, those that are alike only once.

pixels of a strip --cut--> windows --scale--> batch --network--> planes of each tile
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unettile.inference.engine import Patch, Strip, Task
from unettile.inference.recall import Recall, Window

Scale = Callable[[NDArray[np.generic]], NDArray[np.float32]]
Predict = Callable[[NDArray[np.float32]], NDArray[np.uint8]]


@dataclass(frozen=True)
class Tiles:
    """Computes strips by tiles.

    Args:
        scale: pixels (h, w, C) as the network sees them.
        predict: a batch (N, H, W, C) → (N, P, h, w).
        batch: windows at once.
    """

    task: Task
    scale: Scale
    predict: Predict
    batch: int
    recall: Recall

    def compute(self, strip: Strip) -> Iterator[Patch]:
        """Yield the tiles of a strip; of windows that wait to be computed, a batch at a time."""
        waiting: list[Window] = []
        for number, tile in enumerate(strip.tiles, 1):
            window = self.recall.window(strip.pixels[tile.window.relative_to(strip.region).slices])
            window.tiles.append(tile)
            if window.output is not None:
                yield from _patches(strip, window, number - 1 if waiting else number)
            elif len(window.tiles) == 1:
                waiting.append(window)
            if len(waiting) == self.batch or (waiting and number == len(strip.tiles)):
                self._compute(waiting)
                patches = [patch for one in waiting for patch in _patches(strip, one, 0)]
                waiting.clear()
                yield from patches[:-1]
                yield Patch(strip, patches[-1].box, patches[-1].planes, number)

    def _compute(self, windows: list[Window]) -> None:
        scaled = np.stack([self.scale(window.pixels) for window in windows])
        # the shape stays the same to the last: kernels may be chosen by it
        padding = np.repeat(scaled[-1:], self.batch - len(windows), axis=0)
        outputs = self.predict(np.concatenate([scaled, padding]) if len(padding) else scaled)
        edge = self.task.tiles.write_edge
        for window, output in zip(windows, outputs, strict=False):
            window.output = np.ascontiguousarray(output[:, :edge, :edge])


def _patches(strip: Strip, window: Window, done: int) -> Iterator[Patch]:
    """Yield a window's output for all tiles that wait for it."""
    assert window.output is not None
    for tile in window.tiles:
        yield Patch(strip, tile.write, window.output[:, : tile.write.height, : tile.write.width], done)
    window.tiles.clear()
