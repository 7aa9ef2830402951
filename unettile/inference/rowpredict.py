"""Predicting by rows: a window of any height, from its scaled pixels to what is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unettile.inference.rows import Descent, RowStream

Finish = Callable[[Tensor], Tensor]
"""Turns logits (N, K, h, w) into what is written, (N, h, w) or (N, K, h, w) uint8."""

ReadRows = Callable[[int, int], NDArray[np.float32]]
"""Gives the rows y0 … y1 of a scaled window, (n, W, C) float32."""

_EVEN = 16  # rows: pieces of as many give every level of a network whole rows


@dataclass(frozen=True)
class RowPredictor:
    """What computes windows of one width.

    Args:
        margin: of the windows, px.
        dtype: in which the network computes.
    """

    stream: RowStream
    margin: int
    dtype: torch.dtype
    finish: Finish

    def begin(self, y0: int) -> RowDescent:
        """Return a window whose first row, in its margin, is y0."""
        return RowDescent(self, y0)


class RowDescent:
    """A window in work.

    Args:
        y0: its first row, counted from wherever the caller counts.
    """

    def __init__(self, predictor: RowPredictor, y0: int) -> None:
        self._predictor = predictor
        self._cut = predictor.margin - predictor.stream.lost // 2  # a network that pads puts its margin out, too
        self._descent = Descent(predictor.stream)
        self._next = y0 + predictor.stream.lost // 2
        self._top = y0 + predictor.margin
        self.y1 = y0  # up to which row it was read

    def run(self, read: ReadRows, y1: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Read on to row y1; yield the first row and the rows, (n, w) or (K, n, w), of what is written.

        When the rows down to y1 are those of a legal window, so are the rows that have come out by then.
        """
        predictor, cut = self._predictor, self._cut
        count = -(-(y1 - self.y1) // predictor.stream.piece)
        step = -(-(y1 - self.y1) // max(1, count) // _EVEN) * _EVEN
        first = (y1 - self.y1) % max(1, step) or step  # the odd piece comes first: all others are in the same phase
        with torch.inference_mode():
            while self.y1 < y1:
                rows = torch.from_numpy(read(self.y1, self.y1 + first))[None].permute(0, 3, 1, 2)
                self.y1, first = self.y1 + first, step
                window = rows.to(predictor.dtype).contiguous(memory_format=torch.channels_last)
                logits = self._descent.feed(window)
                if logits is None:
                    continue
                start = max(0, self._top - self._next)
                place, self._next = max(self._next, self._top), self._next + logits.shape[2]
                if place < self._next:
                    kept = logits[:, :, start:, cut : logits.shape[3] - cut]
                    yield place, predictor.finish(kept)[0].numpy()
