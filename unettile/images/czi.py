"""CZI: the files of Zeiss's microscopes, by region, through their own library (pylibCZIrw)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.images.czipyramid import pyramid_factors
from unettile.images.omexml import safe_xml
from unettile.images.pixelsize import PixelSize
from unettile.images.scenes import Scene
from unettile.images.spacing import UNKNOWN, Spacing
from unettile.images.units import number

_DTYPES = {
    "Gray8": ("u1", 1),
    "Gray16": ("u2", 1),
    "Gray32Float": ("f4", 1),
    "Bgr24": ("u1", 3),
    "Bgr48": ("u2", 3),
}


@dataclass(frozen=True)
class _CziScene:
    """A scene, its tiles put together; what none of them covers is 0.

    Args:
        number: of the scene; None of a file that has none.
        left, top: of its first pixel, in the file's frame.
    """

    czi: Any
    number: int | None
    left: int
    top: int
    shape: tuple[int, int]
    times: int
    depths: int
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    pixel_size_um: PixelSize | None
    spacing: Spacing
    by_region: bool = True

    @property
    def name(self) -> str:
        return "" if self.number is None else f"scene {self.number}"

    @property
    def samples(self) -> int:
        return _DTYPES[self.kinds[0]][1]

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(_DTYPES[self.kinds[0]][0])

    @property
    def factors(self) -> tuple[int, ...]:
        height, width = self.shape
        box = Box(self.top, self.left, self.top + height, self.left + width)
        return pyramid_factors(self.czi, self.number, box)

    def read(self, t: int, z: int, c: int, box: Box, factor: int = 1) -> NDArray[Any]:
        roi = self.left + box.x0 * factor, self.top + box.y0 * factor, box.width * factor, box.height * factor
        plane, zoom = {"T": t, "Z": z, "C": c}, _zoom(factor)
        pixels = self.czi.read(roi=roi, plane=plane, scene=self.number, zoom=zoom, pixel_type=self.kinds[0])
        return np.asarray(pixels)[..., ::-1]  # blue comes first


class CziFile:
    """An open CZI.

    Args:
        library: pylibCZIrw's module `czi`.

    Raises:
        ValueError: axes or pixels that are not understood.
        RuntimeError: the library's, for a file that it cannot read.
    """

    def __init__(self, path: Path, library: Any) -> None:
        self._czi = library.CziReader(str(path))
        try:
            self.scenes: Sequence[Scene] = self._find()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._czi.close()

    def _find(self) -> list[Scene]:
        czi = self._czi
        box: Mapping[str, tuple[int, int]] = czi.total_bounding_box_no_pyramid
        others = [axis for axis, (start, stop) in box.items() if axis not in "TZCXY" and stop - start > 1]
        if others:
            raise ValueError(f"it has the axes {', '.join(others)}, too: need at most T, Z, C, Y and X")
        starts = [box.get(axis, (0, 1))[0] for axis in "TZC"]
        lengths = [stop - start for start, stop in (box.get(axis, (0, 1)) for axis in "TZC")]
        if any(starts):
            raise ValueError("its planes are not counted from 0: export it again")
        kinds = tuple(str(czi.get_channel_pixel_type(channel)) for channel in range(lengths[2]))
        if len(set(kinds)) != 1 or kinds[0] not in _DTYPES:
            raise ValueError(f"its channels are {', '.join(sorted(set(kinds)))}: need one type of {', '.join(_DTYPES)}")
        names, size, spacing = _described(str(czi.raw_metadata), lengths[2])
        samples = _DTYPES[kinds[0]][1]
        names = names if samples == 1 else ("",) * (samples * len(names))
        rectangles = sorted(czi.scenes_bounding_rectangle_no_pyramid.items())
        if not rectangles:
            whole = czi.total_bounding_rectangle_no_pyramid
            rectangles = [(None, whole)]
        return [
            _CziScene(czi, scene, r.x, r.y, (r.h, r.w), lengths[0], lengths[1], names, kinds, size, spacing)
            for scene, r in rectangles
        ]


def _zoom(factor: int) -> float:
    """Return the zoom of a resolution, which the library rounds to 32 bits and the size of what it reads down."""
    zoom = np.float32(1 / factor)
    return float(zoom if float(zoom) * factor >= 1 else np.nextafter(zoom, np.float32(1)))


def _described(text: str, channels: int) -> tuple[tuple[str, ...], PixelSize | None, Spacing]:
    """Return the names of the channels, the size of a pixel, and the steps of z and t that the metadata state."""
    root = safe_xml(text)
    if root is None:
        return ("",) * channels, None, UNKNOWN
    found = [one.get("Name") or "" for one in root.findall(".//Information/Image/Dimensions/Channels/Channel")]
    names = tuple(found) if len(found) == channels else ("",) * channels
    steps = {one.get("Id"): 1e6 * number(one.findtext("Value")) for one in root.findall(".//Scaling/Items/Distance")}
    y, x = (steps.get(axis, 0.0) for axis in "YX")
    seconds = number(root.findtext(".//Information/Image/Dimensions/T/Positions/Interval/Increment"))
    spacing = Spacing.of(steps.get("Z"), seconds)
    return names, (y, x) if 0 < y < 1e6 and 0 < x < 1e6 else None, spacing
