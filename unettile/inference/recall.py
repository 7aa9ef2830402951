"""Recall: windows whose pixels are byte for byte alike are computed once.

Origins of windows are multiples of the network's stride, so all windows are in the same phase, and equal pixels give
equal outputs. A slide's empty glass and the plain frame of a mosaic are then nearly free.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.tiling import Tile

RECALL_BYTES = 2**26
"""Windows and outputs that are remembered, in bytes: the 50 latest kinds of an RGB image at the default tile edge."""

_STEP = 16  # rows between those by which windows are looked up; all rows are compared before one is taken for another


@dataclass(eq=False)
class Window:
    """What the network reads, the tiles that wait for it, and, once it is computed, what the network makes of it.

    Args:
        pixels: (h, w, C) in the slide's own type.
        output: (P, h, w); None until it is computed.
    """

    pixels: NDArray[np.generic]
    tiles: list[Tile] = field(default_factory=list)
    output: NDArray[np.uint8] | None = None


class Recall:
    """The latest windows of a run and their outputs.

    Args:
        output_bytes: of the output of one window.
        limit: of what is kept, bytes; 0 remembers nothing.
    """

    def __init__(self, output_bytes: int, limit: int = RECALL_BYTES) -> None:
        self._output_bytes = output_bytes
        self._limit = limit
        self._bytes = 0
        self._windows: OrderedDict[bytes, Window] = OrderedDict()

    def window(self, pixels: NDArray[Any]) -> Window:
        """Return the window with these very pixels if it is remembered, else a new one."""
        pixels = np.ascontiguousarray(pixels)
        if self._limit == 0:
            return Window(pixels)
        key = pixels[::_STEP].tobytes()
        known = self._windows.get(key)
        if known is not None and _same_bytes(known.pixels, pixels):
            self._windows.move_to_end(key)
            return known
        new = Window(pixels)
        if known is None:
            self._bytes += pixels.nbytes + self._output_bytes
        self._windows[key] = new
        while self._bytes > self._limit:
            _, oldest = self._windows.popitem(last=False)
            self._bytes -= oldest.pixels.nbytes + self._output_bytes
        return new

    def new_kinds(self, windows: Sequence[NDArray[Any]]) -> int:
        """Return how many of these windows would have to be computed, as far as a look at some of their rows tells."""
        if self._limit == 0:
            return len(windows)
        return len({np.ascontiguousarray(pixels[::_STEP]).tobytes() for pixels in windows} - self._windows.keys())


def _same_bytes(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Compare as bytes: as numbers 0.0 and -0.0 would be equal."""
    return one.shape == other.shape and np.array_equal(one.view(np.uint8), other.view(np.uint8))
