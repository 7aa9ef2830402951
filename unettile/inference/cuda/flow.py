"""The way of windows through a GPU: they are queued ahead of their answers, those of the next strip before this one's
are all in.

    reading threads:  stage strip 1 | stage strip 2 | stage strip 3 | …
    caller:           queue 1.1 1.2 1.3 1.4, fetch 1.1, queue 2.1, fetch 1.2, queue 2.2, …
    GPU:                    1.1 1.2 1.3 1.4 2.1 2.2 2.3 …            without a gap

What the GPU is given are raw pixels inside the image; it mirrors, scales, segments and classifies them, and gives back
8-bit planes. Windows of one colour all over, such as glass or the frame of a mosaic, are computed once.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from unettile.box import Box
from unettile.errors import InputError
from unettile.inference.cuda.lane import Ticket
from unettile.inference.cuda.lanes import Lanes
from unettile.inference.cuda.staging import Staged, Stager
from unettile.inference.engine import Advise, Patch, Strip, Supply, Task
from unettile.tiling import Tile

_COLOURS = 4  # of plain windows whose answers are remembered
_STEP = 61  # px between those that tell at a glance that a window is not of one colour


@dataclass(eq=False)
class Answer:
    """What the device makes of a window: a ticket at first, then the planes, (P, h, w)."""

    ticket: Ticket | None
    planes: NDArray[np.uint8] | None = None


@dataclass(eq=False)
class Stretch:
    """The windows of one strip on their way.

    Args:
        staged: the strip's pixels on the device; None if they are not there yet.
        following: number of the tile to queue next.
        waiting: tiles that are queued, and what they wait for, in order.
    """

    strip: Strip
    staged: Staged | None
    following: int = 0
    waiting: deque[tuple[Tile, Answer]] = field(default_factory=deque)

    @property
    def is_queued(self) -> bool:
        return self.following == len(self.strip.tiles)


class Flow:
    """The windows of a task on a device, in order.

    Args:
        lanes: for windows of the task.
        stager: brings pixels to the device.
        overflow: what to say where a logit is not a finite number.
    """

    def __init__(self, task: Task, lanes: Lanes, stager: Stager, overflow: str, advise: Advise) -> None:
        self._task, self._lanes, self._stager = task, lanes, stager
        self._overflow, self._advise = overflow, advise
        self._queued = 0  # windows, of all strips
        self._stretches: deque[Stretch] = deque()
        self._plain: OrderedDict[bytes, Answer] = OrderedDict()

    def run(self, supply: Supply) -> Iterator[Patch]:
        """Compute strips; see `Engine.run`.

        Raises:
            InputError: the model overflows in this precision, or the device's memory ended.
        """
        while self._stretches or self._take(supply, wait=True):
            stretch = self._stretches[0]
            for done in range(1, len(stretch.strip.tiles) + 1):
                self._queue_all(supply)
                tile, answer = stretch.waiting.popleft()
                planes = self._planes(answer)
                self._queue(stretch)  # the device goes on while these are put in their place
                height, width = tile.write.shape
                if done == len(stretch.strip.tiles):
                    self._stretches.popleft()
                yield Patch(stretch.strip, tile.write, planes[:, :height, :width], done)

    def _take(self, supply: Supply, *, wait: bool) -> bool:
        strip = supply.take(wait=wait)
        if strip is None:
            return False
        self._stretches.append(Stretch(strip, strip.staged))
        return True

    def _queue_all(self, supply: Supply) -> None:
        """Queue windows of this strip and, when all of them are, of the next, if it is there."""
        self._queue(self._stretches[0])
        if self._stretches[0].is_queued and (len(self._stretches) > 1 or self._take(supply, wait=False)):
            self._queue(self._stretches[1])

    def _queue(self, stretch: Stretch) -> None:
        """Queue windows of a strip, as many as the lanes take."""
        while not stretch.is_queued and self._queued < self._lanes.depth:
            tile = stretch.strip.tiles[stretch.following]
            stretch.waiting.append((tile, self._answer(stretch, tile)))
            stretch.following += 1

    def _answer(self, stretch: Stretch, tile: Tile) -> Answer:
        """Return what the device makes, or made, of a window."""
        colour = self._colour(stretch.strip, tile.window)
        if colour is not None and colour in self._plain:
            self._plain.move_to_end(colour)
            return self._plain[colour]
        answer = Answer(self._submit(stretch, tile.window))
        self._queued += 1
        if colour is not None:
            self._plain[colour] = answer
            while len(self._plain) > _COLOURS:
                self._plain.popitem(last=False)
        return answer

    def _colour(self, strip: Strip, window: Box) -> bytes | None:
        """Return the one value of all pixels of a window inside the image; None if they differ."""
        if not Box.of_shape(self._task.shape).contains(window):
            return None
        shown = strip.pixels[window.relative_to(strip.region).slices]
        first = shown[:1, :1]
        same = bool((shown[::_STEP, ::_STEP] == first).all()) and bool((shown == first).all())
        return first.tobytes() if same else None

    def _submit(self, stretch: Stretch, window: Box) -> Ticket:
        """Queue a window, with fewer beside it where the device's memory ends.

        Raises:
            InputError: it does not hold one.
        """
        while True:
            try:
                if stretch.staged is None:
                    stretch.staged = self._stager.stage(stretch.strip.pixels)
                return self._lanes.submit(stretch.staged, stretch.strip.region, window, self._task.shape)
            except torch.OutOfMemoryError:
                pass  # made room for below, when the exception no longer holds tensors
            self._make_room(stretch)

    def _make_room(self, current: Stretch) -> None:
        """Fetch what is in work, and let go of a lane, or of what was staged ahead.

        Raises:
            InputError: there is nothing left to let go.
        """
        for stretch in self._stretches:
            for _, answer in stretch.waiting:
                self._planes(answer)
        ahead = [stretch for stretch in self._stretches if stretch is not current and stretch.staged is not None]
        for stretch in ahead:
            stretch.staged = None
        if self._lanes.shrink():
            self._advise(fewer_lanes(len(self._lanes)))
        elif not ahead:
            raise InputError(out_of_memory(self._task))

    def _planes(self, answer: Answer) -> NDArray[np.uint8]:
        """Return the planes of a window, waiting for them.

        Raises:
            InputError: a logit is not a finite number.
        """
        if answer.planes is None:
            assert answer.ticket is not None
            planes, finite = answer.ticket.wait()
            self._queued -= 1
            if not finite:
                raise InputError(self._overflow)
            answer.planes, answer.ticket = planes, None
        return answer.planes


def fewer_lanes(count: int) -> str:
    """Return what to say where a GPU holds fewer windows than it was to."""
    return f"the GPU's memory is full: {count} window{'s' if count > 1 else ''} at once; the mask stays the same"


def out_of_memory(task: Task) -> str:
    """Return what to say where a GPU does not hold one window of a task."""
    geometry, edge = task.tiles.geometry, task.tiles.output_edge
    smaller = geometry.smallest_output_edge(max(1, edge // 2 - geometry.stride))
    return (
        f"the GPU's memory does not hold a tile of {edge} px: free some of it, or give a smaller --tile,"
        f" such as {smaller}; a run that was begun is begun afresh with it, since tiles of two edges differ by rounding"
    )
