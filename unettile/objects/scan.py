"""Scan: every part of the objects is read once, and shown to all that look at it.

    labels ──read once──> part ──> sums, corners, values, picture: whatever was asked for
                            └────> the image of ids, which asks for the parts in its own order

Whoever looks gives the same whatever the parts are, and in whatever order they come.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.objects.runs import Runs
from unettile.tiling import BlockGrid

PART_PIXELS = 2**21
"""Pixels that are shown at once; at least one row."""

AHEAD = 2
"""Parts that wait to be looked at."""

OnProgress = Callable[[int, int], None]
"""Takes pixels done and pixels in all."""

Stage = Callable[[str], AbstractContextManager[OnProgress]]
"""Opens a stage of the work that is named; gives what takes its progress."""


class Labels(Protocol):
    """Ids 1 … count of an image, read by region."""

    @property
    def shape(self) -> tuple[int, int]: ...

    @property
    def count(self) -> int: ...

    def read(self, box: Box) -> NDArray[np.uint32]: ...


class Picture(Protocol):
    """What lies under the objects, read by region."""

    @property
    def channels(self) -> int: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    def read(self, box: Box) -> NDArray[Any]: ...


@dataclass(frozen=True)
class Part:
    """A part of the image with what lies in it.

    Args:
        box: where it is.
        around: (h + 2 m, w + 2 m) uint32, the ids of the part with m px around it; 0 outside of the image.
        margin: m, at least 1.
        pictures: (h, w, C) of each picture; None where the part holds no object.
    """

    box: Box
    around: NDArray[np.uint32]
    margin: int
    pictures: tuple[NDArray[Any], ...] | None

    @cached_property
    def ids(self) -> NDArray[np.uint32]:
        """The part with 1 px around it, (h + 2, w + 2)."""
        more = self.margin - 1
        around = self.around
        return np.ascontiguousarray(around[more : around.shape[0] - more, more : around.shape[1] - more])

    @cached_property
    def runs(self) -> Runs:
        """Those of `ids`."""
        return Runs.of(self.ids)

    @property
    def inside(self) -> NDArray[np.uint32]:
        """The ids of the part alone, (h, w)."""
        return self.ids[1:-1, 1:-1]


class Looker(Protocol):
    """Who looks at parts; each pixel of the image is shown once."""

    def see(self, part: Part) -> None: ...


class Scan:
    """Shows parts of an image to all that look, who do so on a thread of their own, one part after the other.

    Args:
        objects: what is shown.
        pictures: under them, of the same shape.
        lookers: in any order.
        on_progress: called after each part.
        margin: px around each part that who looks wants to see, at least 1.
    """

    def __init__(
        self,
        objects: Labels,
        pictures: Sequence[Picture],
        lookers: Sequence[Looker],
        on_progress: OnProgress,
        margin: int = 1,
    ) -> None:
        self._margin = margin
        self._objects, self._pictures, self._lookers, self._on_progress = objects, pictures, lookers, on_progress
        self._done, self._total = 0, objects.shape[0] * objects.shape[1]
        self._pool = ThreadPoolExecutor(1, "unettile-look")
        self._looking: deque[Future[None]] = deque()

    def show(self, box: Box, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Show a box, and return its ids (h, w) in a type that holds them.

        Raises:
            InputError: a picture that is damaged.
            OSError: no room for a temporary file.
        """
        out = np.empty(box.shape, dtype)
        rows = max(1, PART_PIXELS // box.width)
        for top in range(box.y0, box.y1, rows):
            part = Box(top, box.x0, min(top + rows, box.y1), box.x1)
            out[top - box.y0 : part.y1 - box.y0] = self._show(part)
        return out

    def show_all(self, grid: BlockGrid) -> None:
        """Show all blocks of a grid, and wait until all has been looked at; errors as in `show`."""
        for block in grid:
            self.show(block.box, np.dtype(np.uint32))
        self.wait()

    def wait(self) -> None:
        """Wait until all that was shown has been looked at; errors as in `show`."""
        while self._looking:
            self._looking.popleft().result()

    def _show(self, box: Box) -> NDArray[np.uint32]:
        if not self._lookers:
            inside = self._objects.read(box)
        else:
            margin = self._margin
            around = read_ringed(self._objects, box, margin)
            inside = around[margin:-margin, margin:-margin]
            if around.any():
                wanted = self._pictures if self._pictures and inside.any() else ()
                pictures = tuple(np.ascontiguousarray(picture.read(box)) for picture in wanted)
                part = Part(box, around, margin, pictures if wanted else None)
                self._looking.append(self._pool.submit(self._look, part))
                if len(self._looking) > AHEAD:
                    self._looking.popleft().result()
        self._done += box.area
        self._on_progress(self._done, self._total)
        return inside

    def _look(self, part: Part) -> None:
        for looker in self._lookers:
            looker.see(part)

    def __enter__(self) -> Scan:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


def read_ringed(objects: Labels, box: Box, margin: int) -> NDArray[np.uint32]:
    """Return the ids of a box with `margin` px more on every side; what lies past the image is background."""
    ring = box.expand(margin)
    seen = ring.intersect(Box.of_shape(objects.shape))
    pads = ((seen.y0 - ring.y0, ring.y1 - seen.y1), (seen.x0 - ring.x0, ring.x1 - seen.x1))
    ids = objects.read(seen)
    return np.pad(ids, pads) if any(map(any, pads)) else ids
