"""Id parts: whether an id is one thing, or all things of a kind, told from the separate parts that it lies in.

A mask of 0 and 255 looks like a label map in which one cell has the id 255. Its parts give it away.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cc3d
import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.images.slide import ImageSource, LabelSource, Slide, open_labels
from unettile.images.view import FIRST, View
from unettile.labels import check_labels

PIECE = 2048  # px; parts are counted within pieces of this edge
FILES = 256
PIECES = 8  # of a larger image as many are looked at, spread evenly
SUSPICIOUS = 1.5
"""Ids in so many separate parts on average are no ids of cells: a few cells in two pieces are usual, most are not."""


@dataclass(frozen=True)
class IdParts:
    """How many ids there are in pieces of label images, and in how many separate parts they lie.

    Args:
        ids: above 0, counted once a piece.
        parts: of them, regions whose pixels touch over sides or corners.
        most: parts of the id that lies in most of them.
        worst: that id, and where it is found, for a message.
    """

    ids: int = 0
    parts: int = 0
    most: int = 0
    worst: tuple[str, int] = ("", 0)

    @classmethod
    def of(cls, labels: NDArray[np.integer], name: str) -> IdParts:
        """Count ids and parts of a label map (h, w) or of a piece of one.

        >>> IdParts.of(np.array([[255, 0, 255], [0, 0, 0], [255, 0, 3]]), "mask.png")
        IdParts(ids=2, parts=4, most=3, worst=('mask.png', 255))
        """
        regions, count = cc3d.connected_components(np.ascontiguousarray(labels), connectivity=8, return_N=True)
        if count == 0:
            return cls()
        owners = np.zeros(count + 1, labels.dtype)
        owners[regions] = labels
        ids, parts = np.unique(owners[1:], return_counts=True)
        most = int(parts.argmax())
        return cls(len(ids), int(parts.sum()), int(parts[most]), (name, int(ids[most])))

    def __add__(self, other: IdParts) -> IdParts:
        larger = max(self, other, key=lambda one: one.most)
        return IdParts(self.ids + other.ids, self.parts + other.parts, larger.most, larger.worst)

    def note(self, advice: str) -> str | None:
        """Return what to tell the user who takes these numbers for ids of cells; None if nothing speaks against it.

        Args:
            advice: what to do if they are not.
        """
        if self.parts < SUSPICIOUS * self.ids or self.most < 2:
            return None
        name, worst = self.worst
        rest = "" if self.ids == 1 else f" ({self.parts} parts for {self.ids} ids in all)"
        return f"{name}: the id {worst} lies in {self.most} separate parts{rest}; if ids are not cells, {advice}"


def count_parts(slide: Slide) -> IdParts:
    """Count the parts of ids in a label image, of a large one in 8 pieces spread evenly over it.

    Raises:
        InputError: it cannot be read, or holds no ids.
    """
    found = IdParts()
    for box in _pieces(slide.shape):
        found += IdParts.of(check_labels(slide.read(box), str(slide.path)), slide.path.name)
    return found


def count_parts_of(paths: Sequence[ImageSource], views: Sequence[View] = ()) -> IdParts:
    """Count the parts of ids in a set of label images, in up to 256 of them, spread evenly; errors as one's.

    Labels that are no image say themselves what is one object: nothing is counted.

    Args:
        views: of each of them, if they are not the first.
    """
    count = min(len(paths), FILES)
    found = IdParts()
    for index in range(count):
        place = index * len(paths) // count
        if isinstance(paths[place], LabelSource):
            continue
        with open_labels(paths[place], views[place] if views else FIRST) as slide:
            if slide.channels == 1:
                found += count_parts(slide)
    return found


def _pieces(shape: tuple[int, int]) -> Iterable[Box]:
    whole = Box.of_shape(shape)
    rows, columns = (range(0, length, PIECE) for length in shape)
    boxes = [Box(y, x, y + PIECE, x + PIECE).intersect(whole) for y in rows for x in columns]
    count = min(len(boxes), PIECES)
    return (boxes[index * len(boxes) // count] for index in range(count))
