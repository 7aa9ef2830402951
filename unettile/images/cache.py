"""Cache: decoded pieces of an image, kept for the next read, up to a fixed number of bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

from numpy.typing import NDArray

KEPT_BYTES = 2**27
"""Decoded pieces kept by one slide, in bytes; the newest one is always kept."""


class Cache:
    """The pieces that were used last; one for each slide, whatever the number of its planes."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, NDArray[Any] | None] = OrderedDict()
        self._bytes = 0

    def get(self, key: Hashable, make: Callable[[], NDArray[Any] | None]) -> NDArray[Any] | None:
        """Return the piece of that key, made if it is not there; None is kept, too."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        piece = make()
        self._kept[key] = piece
        self._bytes += 0 if piece is None else piece.nbytes
        while self._bytes > KEPT_BYTES and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._bytes -= 0 if oldest is None else oldest.nbytes
        return piece
