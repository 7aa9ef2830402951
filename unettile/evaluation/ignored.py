"""Ignored: pixels of a pair of masks that do not count, as if the image had a hole there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.drawn.figures import IGNORED
from unettile.drawn.labels import Drawn
from unettile.images.slide import ImageSource, Slide


class Ignored:
    """Which pixels do not count.

    Args:
        marked: masks, each with the number by which it marks such pixels.
    """

    def __init__(self, marked: Sequence[tuple[Slide, int]]) -> None:
        self._marked = tuple(marked)

    @classmethod
    def of(cls, masks: Sequence[tuple[ImageSource, Slide, int | None]]) -> Ignored:
        """Return what is ignored of masks: regions of those that were drawn, a number of others; None for no number."""
        numbers = (
            (slide, IGNORED if source.has_ignored else None) if isinstance(source, Drawn) else (slide, number)
            for source, slide, number in masks
        )
        return cls([(slide, number) for slide, number in numbers if number is not None])

    def read(self, box: Box) -> NDArray[np.bool_] | None:
        """Return the pixels (h, w) that do not count; None where all do."""
        if not self._marked:
            return None
        found = np.zeros(box.shape, np.bool_)
        for slide, number in self._marked:
            found |= slide.read(box)[..., 0] == number
        return found

    def without(self, slide: Slide) -> Slide:
        """Return a mask in which they are background."""
        return cast(Slide, _Kept(slide, self)) if self._marked else slide


class _Kept:
    """A mask whose ignored pixels are background; all else is as it was."""

    def __init__(self, slide: Slide, ignored: Ignored) -> None:
        self._slide, self._ignored = slide, ignored

    def __getattr__(self, name: str) -> Any:
        return getattr(self._slide, name)

    def read(self, box: Box) -> NDArray[Any]:
        pixels, ignored = self._slide.read(box), self._ignored.read(box)
        return pixels if ignored is None else np.where(ignored[..., None], np.zeros((), pixels.dtype), pixels)
