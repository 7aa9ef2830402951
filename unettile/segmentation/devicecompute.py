"""Computing on a GPU: windows are queued ahead of their answers, those of the next block before this one's are all in.

    reading threads:  stage block 1 | stage block 2 | stage block 3 | …
    caller:           queue 1.1 1.2 1.3 1.4, fetch 1.1, queue 2.1, fetch 1.2, queue 2.2, …
    GPU:                    1.1 1.2 1.3 1.4 2.1 2.2 2.3 …            without a gap

What the GPU is given are raw pixels inside the image; it mirrors, scales, segments and classifies them, and gives back
8-bit planes. Windows of one colour all over, such as glass or the frame of a mosaic, are computed once.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from unettile.box import Box
from unettile.errors import InputError
from unettile.inference.lane import Ticket
from unettile.inference.lanes import Lanes
from unettile.inference.predict import overflow
from unettile.inference.staging import Staged, Stager
from unettile.segmentation.compute import BlockPixels
from unettile.segmentation.plan import Plan
from unettile.tiling import Tile

_COLOURS = 4  # of plain windows whose answers are remembered
_STEP = 61  # px between those that tell at a glance that a window is not of one colour


@dataclass(eq=False)
class Answer:
    """What the device makes of a window: a ticket at first, then the planes, (h, w) or (K, h, w)."""

    ticket: Ticket | None
    planes: NDArray[np.uint8] | None = None


@dataclass(eq=False)
class Flow:
    """The windows of one block on their way.

    Args:
        staged: the block's pixels on the device; None if they are not there yet.
        following: number of the tile to queue next.
        waiting: tiles that are queued, and what they wait for, in order.
    """

    work: BlockPixels
    staged: Staged | None
    following: int
    waiting: deque[tuple[Tile, Answer]] = field(default_factory=deque)

    @property
    def is_queued(self) -> bool:
        return self.following == len(self.work.tiles)


class DeviceComputer:
    """Computes the tiles of blocks on a device, in order.

    Args:
        lanes: for windows of the plan.
        stager: brings pixels to the device.
        ahead: gives the next block if it has been read; it is queued before this one is fetched to the end.
        advise: takes a line that the user should read.
    """

    def __init__(
        self,
        plan: Plan,
        lanes: Lanes,
        stager: Stager,
        ahead: Callable[[], BlockPixels | None] = lambda: None,
        advise: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._plan, self._lanes, self._stager = plan, lanes, stager
        self._ahead, self._advise = ahead, advise
        self._queued = 0  # windows, of all flows
        self._flows: OrderedDict[int, Flow] = OrderedDict()
        self._plain: OrderedDict[bytes, Answer] = OrderedDict()

    def stage(self, work: BlockPixels) -> BlockPixels:
        """Begin to bring the pixels of a block to the device; called by any thread, ahead of `fill`."""
        try:
            return replace(work, staged=self._stager.stage(work.pixels)) if work.tiles else work
        except torch.OutOfMemoryError:
            return work  # `fill` finds room for them

    def fill(self, work: BlockPixels, result: NDArray[np.uint8], start: int = 0) -> Iterator[int]:
        """Fill in the tiles of a block from number `start`; yield after each how many are done.

        Args:
            result: (h, w) or (K, h, w) of the block; changed in place.

        Raises:
            InputError: the model overflows in this precision, or the device's memory ended.
        """
        if start == len(work.tiles):
            return
        flow = self._flow(work, start)
        done = start
        while True:
            self._queue(flow)
            if flow.is_queued:
                self._queue_ahead()
            if not flow.waiting:
                break
            tile, answer = flow.waiting.popleft()
            planes = self._planes(answer)
            self._queue(flow)  # the device goes on while these are put in their place
            height, width = tile.write.shape
            result[(..., *tile.write.relative_to(work.block.box).slices)] = planes[..., :height, :width]
            done += 1
            if done == len(work.tiles):  # nobody comes back after the last one
                del self._flows[work.block.index]
            yield done

    def _flow(self, work: BlockPixels, start: int) -> Flow:
        known = self._flows.get(work.block.index)
        if known is None:
            known = self._flows[work.block.index] = Flow(work, work.staged, start)
        return known

    def _queue_ahead(self) -> None:
        """Queue windows of the next block, if it is there."""
        following = self._ahead()
        if following is not None and following.tiles:
            self._queue(self._flow(following, following.start))

    def _queue(self, flow: Flow) -> None:
        """Queue windows of a block, as many as the lanes take."""
        while not flow.is_queued and self._queued < self._lanes.depth:
            tile = flow.work.tiles[flow.following]
            flow.waiting.append((tile, self._answer(flow, tile)))
            flow.following += 1

    def _answer(self, flow: Flow, tile: Tile) -> Answer:
        """Return what the device makes, or made, of a window."""
        colour = self._colour(flow.work, tile.window)
        if colour is not None and colour in self._plain:
            self._plain.move_to_end(colour)
            return self._plain[colour]
        answer = Answer(self._submit(flow, tile.window))
        self._queued += 1
        if colour is not None:
            self._plain[colour] = answer
            while len(self._plain) > _COLOURS:
                self._plain.popitem(last=False)
        return answer

    def _colour(self, work: BlockPixels, window: Box) -> bytes | None:
        """Return the one value of all pixels of a window inside the image; None if they differ."""
        if not Box.of_shape(self._plan.shape).contains(window):
            return None
        shown = work.pixels[window.relative_to(work.region).slices]
        first = shown[:1, :1]
        same = bool((shown[::_STEP, ::_STEP] == first).all()) and bool((shown == first).all())
        return first.tobytes() if same else None

    def _submit(self, flow: Flow, window: Box) -> Ticket:
        """Queue a window, with fewer beside it where the device's memory ends.

        Raises:
            InputError: it does not hold one.
        """
        while True:
            try:
                if flow.staged is None:
                    flow.staged = self._stager.stage(flow.work.pixels)
                return self._lanes.submit(flow.staged, flow.work.region, window, self._plan.shape)
            except torch.OutOfMemoryError:
                pass  # made room for below, when the exception no longer holds tensors
            self._make_room(flow)

    def _make_room(self, current: Flow) -> None:
        """Fetch what is in work, and let go of a lane, or of what was staged ahead.

        Raises:
            InputError: there is nothing left to let go.
        """
        for flow in self._flows.values():
            for _, answer in flow.waiting:
                self._planes(answer)
        ahead = [flow for flow in self._flows.values() if flow is not current and flow.staged is not None]
        for flow in ahead:
            flow.staged = None
            flow.work = replace(flow.work, staged=None)
        if self._lanes.shrink():
            self._advise(fewer_lanes(len(self._lanes)))
        elif not ahead:
            raise InputError(out_of_memory(self._plan))

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
                raise InputError(overflow(self._plan.precision))
            answer.planes, answer.ticket = planes, None
        return answer.planes


def fewer_lanes(count: int) -> str:
    """Return what to say where a GPU holds fewer windows than it was to."""
    return f"the GPU's memory is full: {count} window{'s' if count > 1 else ''} at once; the mask stays the same"


def out_of_memory(plan: Plan) -> str:
    """Return what to say where a GPU does not hold one window of a run."""
    geometry = plan.geometry
    smaller = geometry.smallest_output_edge(max(1, plan.output_edge // 2 - geometry.stride))
    return (
        f"the GPU's memory does not hold a tile of {plan.output_edge} px: free some of it, or give a smaller --tile,"
        f" such as {smaller}; a run that was begun is begun afresh with it, since tiles of two edges differ by rounding"
    )
