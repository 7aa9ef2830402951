"""Shares: what each of several processes computes of one run, whose plan knows of no shards.

A shard is part of the plan; a share is not. So a run may be begun by one process and go on with four, or with two.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

from unettile.errors import UsageError

_TEXT = re.compile(r"(\d{1,9}):(\d{1,9})/(\d{1,9}):(\d{1,9})/(\d{1,9})", re.ASCII)


@dataclass(frozen=True)
class Share:
    """Some planes, and of the blocks of each of them the pieces from `start` to `stop` of `count` equal ones.

    Args:
        first, last: of the planes, half-open; 0 and 1 of a single image.
        start, stop: of the pieces, half-open.

    Raises:
        UsageError: not such a part.
    """

    first: int
    last: int
    start: int
    stop: int
    count: int

    def __post_init__(self) -> None:
        if not (0 <= self.first < self.last and 0 <= self.start < self.stop <= self.count):
            raise UsageError(f"share {self} does not exist: need FIRST:LAST/START:STOP/COUNT")

    @classmethod
    def whole(cls, planes: int) -> Share:
        """Return all of a run."""
        return cls(0, planes, 0, 1, 1)

    @classmethod
    def parse(cls, text: str) -> Share:
        """Read what `str` writes.

        >>> Share.parse("0:1/3:7/9").blocks(9)
        range(3, 7)
        """
        found = _TEXT.fullmatch(text)
        if not found:
            raise UsageError(f"share {text[:60]!r} is not understood: need FIRST:LAST/START:STOP/COUNT")
        return cls(*map(int, found.groups()))

    def __str__(self) -> str:
        return f"{self.first}:{self.last}/{self.start}:{self.stop}/{self.count}"

    @property
    def planes(self) -> range:
        """The numbers of its planes."""
        return range(self.first, self.last)

    def blocks(self, count: int) -> range:
        """Return the indices of its blocks of a plane that has so many; all shares of a run have each block once."""
        return range(self.start * count // self.count, self.stop * count // self.count)


def deal(marked: Sequence[Collection[int]], blocks: int, processes: int) -> list[Share]:
    """Part a run among processes, so that each finds about as many blocks that are not finished.

    Together the shares hold every block, the finished ones too: these are checked by whoever meets them. There may be
    fewer shares than processes, and is at least one.

    Args:
        marked: of each plane, the indices of its finished blocks.
        blocks: of a plane.

    >>> [str(share) for share in deal([{0, 1, 2, 3}], 8, 2)]
    ['0:1/0:6/8', '0:1/6:8/8']
    """
    planes = len(marked)
    if planes == 1:
        todo = [index for index in range(blocks) if index not in marked[0]]
        return [Share(0, 1, start, stop, blocks) for start, stop in _cut(todo, blocks, processes)]
    unfinished = [number for number, done in enumerate(marked) if len(done) < blocks]
    parts = min(processes, blocks)
    if unfinished and len(unfinished) < parts:  # each does its part of every plane, lest some have nothing to do
        return [Share(0, planes, part, part + 1, parts) for part in range(parts)]
    return [Share(first, last, 0, 1, 1) for first, last in _cut(unfinished, planes, processes)]


def _cut(todo: Sequence[int], total: int, processes: int) -> list[tuple[int, int]]:
    """Cut the numbers below `total` where each part has as many of `todo`."""
    parts = max(1, min(processes, len(todo)))
    cuts = [0, *(todo[part * len(todo) // parts] for part in range(1, parts)), total]
    return list(pairwise(cuts))
