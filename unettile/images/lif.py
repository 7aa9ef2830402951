"""LIF: the files of Leica's microscopes, plane by plane, by liffile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.images.pixelsize import PixelSize
from unettile.images.scenes import Scene, SizedScene
from unettile.images.spacing import Spacing

_AXES = "TZCYXS"


@dataclass(frozen=True)
class _LifScene(SizedScene):
    """An image of the file."""

    image: Any
    name: str
    names: tuple[str, ...]
    dtype: np.dtype[Any]
    pixel_size_um: PixelSize | None
    spacing: Spacing
    by_region: bool = False
    factors: tuple[int, ...] = (1,)

    def read(self, t: int, z: int, c: int, box: Box, factor: int = 1) -> NDArray[Any]:
        wanted = {axis: place for axis, place in (("T", t), ("Z", z), ("C", c)) if axis in self.sizes}
        plane = np.asarray(self.image.frame(**wanted))
        return plane.reshape(*self.shape, self.samples)[box.slices]


class LifFile:
    """An open LIF; images whose axes are not understood, such as tiles that were not merged, are passed over.

    Args:
        library: the module `liffile`.

    Raises:
        ValueError: it holds none that are.
        Exception: the library's, for a file that it cannot read.
    """

    def __init__(self, path: Path, library: Any) -> None:
        self._file = library.LifFile(path)
        try:
            self.scenes: Sequence[Scene] = [one for image in self._file.images if (one := _scene(image)) is not None]
            if not self.scenes:
                raise ValueError(f"none of its {len(self._file.images)} images has the axes {', '.join(_AXES)} alone")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._file.close()


def _scene(image: Any) -> _LifScene | None:
    sizes = {str(axis): int(length) for axis, length in image.sizes.items()}
    if not {"Y", "X"} <= sizes.keys() <= set(_AXES) or getattr(image, "is_flim", False):
        return None
    y, x, z, seconds = (_step(image, axis) for axis in "YXZT")
    size = (1e6 * y, 1e6 * x) if all(0 < 1e6 * step < 1e6 for step in (y, x)) else None
    spacing = Spacing.of(1e6 * abs(z), seconds)  # a stack may be taken downwards
    names = ("",) * (sizes.get("C", 1) * sizes.get("S", 1))
    return _LifScene(sizes, image, str(image.name), names, np.dtype(image.dtype), size, spacing)


def _step(image: Any, axis: str) -> float:
    """Return how far apart pixels are along an axis, metres or seconds; 0 where it is not stated."""
    places = image.coords.get(axis)
    return 0.0 if places is None or len(places) < 2 else float(places[-1] - places[0]) / (len(places) - 1)
