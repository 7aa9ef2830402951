"""Engine: what computes an image, strip by strip, on one kind of device; the seam between a run and its arithmetic.

    loop     reads strips ahead | takes patches: places them, keeps parts, tells progress, writes blocks
    engine   takes a strip      | yields patches of planes, in the order of the strips

A *strip* is what is read and computed at once: some rows of tiles of blocks that lie side by side. How it is cut is
up to the engine: one that goes by rows wants wide and flat ones, another one whole block.

What an engine computes for a pixel depends on the task alone: not on the strips, nor on what was computed before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.images.normalize import Scaling
from unettile.tiling import BlockGrid, Tile, TileGrid

Advise = Callable[[str], None]
"""Takes a line that the user should read."""


@dataclass(frozen=True)
class Listener:
    """Whom an engine tells what it does.

    Args:
        advise: takes a line that the user should read.
        part: a context for a part of the work, by its name.
    """

    advise: Advise = lambda line: None
    part: Callable[[str], AbstractContextManager[None]] = lambda name: nullcontext()


@dataclass(frozen=True)
class Task:
    """What is to be computed of one image.

    Args:
        tiles, blocks: of the image.
        kinds: names of what is computed (`unettile.inference.kinds`).
        scaling: of intensities.
        dtype: of the image's pixels; it has a channel for each number of the scaling.
    """

    tiles: TileGrid
    blocks: BlockGrid
    kinds: tuple[str, ...]
    scaling: Scaling
    dtype: np.dtype[Any]

    @property
    def shape(self) -> tuple[int, int]:
        return self.tiles.shape

    @property
    def channels(self) -> int:
        """Of the image, not of the network."""
        return len(self.scaling.low)

    @property
    def window_edge(self) -> int:
        """Px that the network reads for a tile."""
        return self.tiles.geometry.input_edge(self.tiles.output_edge)


@dataclass(frozen=True)
class Cut:
    """How strips are cut.

    Args:
        width: px, of blocks side by side at most; one block is always taken.
        height: px.
        most: share of a strip's tiles that are to be computed, from which on it is read as a whole.
    """

    width: int
    height: int
    most: float = 2.0


@dataclass(frozen=True)
class Strip:
    """What is computed at once, and the pixels for it.

    Args:
        box: of the image.
        tiles: to compute, in raster order.
        region: of the pixels: around the windows of the tiles.
        pixels: (h, w, C) in the image's own type.
        whole: the region is around all tiles of the box, and most of them are to be computed.
        staged: what the engine made of it beforehand; None if nothing.
    """

    box: Box
    tiles: Sequence[Tile]
    region: Box
    pixels: NDArray[np.generic]
    whole: bool = False
    staged: Any = None


@dataclass(frozen=True)
class Patch:
    """Pixels that are computed.

    Args:
        strip: that they belong to.
        box: where they lie.
        planes: (P, h, w) uint8; logits are float32.
        done: how many of the strip's tiles, from the first, are computed now.
    """

    strip: Strip
    box: Box
    planes: NDArray[Any]
    done: int


@dataclass(frozen=True)
class Memory:
    """What a network needs at its peak, about.

    Args:
        host: bytes of the machine's memory.
        device: bytes of the device's own; 0 if it has none.
        free: bytes of the device's own memory that are free; None if it has none.
    """

    host: int
    device: int = 0
    free: int | None = None


class Supply(Protocol):
    """Gives strips in order."""

    def take(self, *, wait: bool = True) -> Strip | None:
        """Return the next strip; None after the last one, or if it is not there and is not waited for."""
        ...


class Engine(Protocol):
    """Computes images on one device.

    Attributes:
        readers: how many threads read for it.
        writers: how many threads write what it computes.
        mirrors: it mirrors pixels at the image's edges by itself.
    """

    readers: int
    writers: int
    mirrors: bool

    def choose_edge(self, shape: tuple[int, int]) -> int:
        """Return the output edge, px, of the tiles of an image of this shape."""
        ...

    def smaller_edge(self, output_edge: int) -> int | None:
        """Return a smaller edge where this one does not fit into memory; None if there is none, or if the mask would
        change by more than rounding."""
        ...

    def cut(self, task: Task) -> Cut:
        """Return how the strips of a task are to be cut."""
        ...

    def prepare(self, task: Task, batch: int, advise: Advise) -> int:
        """Make ready for a task; return how many windows are computed at once.

        Args:
            batch: how many are wished for.

        Raises:
            InputError: the device does not hold one.
        """
        ...

    def memory(self, task: Task, batch: int) -> Memory:
        """Return what the network needs for a task."""
        ...

    def stage(self, strip: Strip) -> Strip:
        """Begin to bring a strip to the device; called by any thread."""
        ...

    def run(self, task: Task, supply: Supply, batch: int, listener: Listener) -> Iterator[Patch]:
        """Compute strips; yield what comes out, strip after strip. Strips without tiles are not given.

        Raises:
            InputError: the model overflows in this precision, or the device's memory ended.
        """
        ...
