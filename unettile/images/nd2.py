"""ND2: the files of Nikon's microscopes. What they hold is told by the package nd2, pixels are read from their chunks.

Files of the oldest kind, which are JPEG 2000, are not read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.images.nd2chunks import ChunkFile, FrameLayout
from unettile.images.pixelsize import PixelSize
from unettile.images.scenes import Scene
from unettile.images.spacing import UNKNOWN, Spacing

_AXES = {"TimeLoop": "T", "NETimeLoop": "T", "ZStackLoop": "Z", "XYPosLoop": "P"}
_COLOURS = 3


@dataclass(frozen=True)
class _Nd2Scene:
    """A position of the stage.

    Args:
        number: of the position.
        axes: T, Z and P, and how long they are; frames are counted along the last of them first.
        colours: red, green and blue of each channel lie beside each other, blue first.
    """

    chunks: ChunkFile
    layout: FrameLayout
    number: int
    axes: dict[str, int]
    name: str
    names: tuple[str, ...]
    colours: bool
    pixel_size_um: PixelSize | None
    spacing: Spacing
    factors: tuple[int, ...] = (1,)

    @property
    def shape(self) -> tuple[int, int]:
        return self.layout.shape

    @property
    def times(self) -> int:
        return self.axes.get("T", 1)

    @property
    def depths(self) -> int:
        return self.axes.get("Z", 1)

    @property
    def samples(self) -> int:
        return self.layout.samples

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.layout.dtype

    @property
    def by_region(self) -> bool:
        return not self.layout.compressed

    def read(self, t: int, z: int, c: int, box: Box, factor: int = 1) -> NDArray[Any]:
        frame, place = 0, {"T": t, "Z": z, "P": self.number}
        for axis, length in self.axes.items():
            frame = frame * length + place[axis]
        pixels = self.chunks.read(frame, self.layout, box)
        if not self.colours:
            return pixels
        return pixels.reshape(*box.shape, -1, _COLOURS)[..., ::-1].reshape(pixels.shape)


class Nd2File:
    """An open ND2.

    Args:
        library: the module `nd2`.

    Raises:
        ValueError: axes or pixels that are not understood.
        Exception: the library's, for a file that it cannot read.
    """

    def __init__(self, path: Path, library: Any) -> None:
        self._chunks = ChunkFile(path)
        try:
            with library.ND2File(path) as file:
                self.scenes: Sequence[Scene] = _find(file, self._chunks)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._chunks.close()


def _find(file: Any, chunks: ChunkFile) -> list[_Nd2Scene]:
    attributes, axes, names, spacing = file.attributes, {}, [""], UNKNOWN
    for loop in file.experiment:
        axis = _AXES.get(loop.type, loop.type)
        if axis not in "TZP" or axis in axes:
            raise ValueError(f"it has {loop.count} frames along {loop.type}, too: need at most T, Z and positions")
        axes[axis], spacing = int(loop.count), spacing.or_else(_spacing(loop.parameters))
        if axis == "P":
            names = [one.name or "" for one in loop.parameters.points]
    if math.prod(axes.values()) < 1 or (not axes and attributes.sequenceCount > 1):
        raise ValueError(f"it does not say along which axes its {attributes.sequenceCount} frames lie")
    layout, stored = _layout(attributes), int(attributes.channelCount or 1)
    colours = layout.samples == _COLOURS * stored
    channels, size = _described(file, layout.samples)
    return [
        _Nd2Scene(chunks, layout, number, axes, name, channels, colours, size, spacing)
        for number, name in enumerate(names)
    ]


def _spacing(loop: Any) -> Spacing:
    """Return the step of a loop, as its parameters state it; unknown of positions, and of periods that differ."""
    depth = getattr(loop, "stepUm", None)
    if depth is not None:
        return Spacing.of(abs(depth))
    phases = getattr(loop, "periods", None) or [loop]
    # Frames that are taken as fast as may be have no period, but a mean that was measured.
    periods = {phase.periodMs or phase.periodDiff.avg or 0.0 for phase in phases if hasattr(phase, "periodMs")}
    return Spacing.of(time_s=periods.pop() / 1000) if len(periods) == 1 else UNKNOWN


def _layout(attributes: Any) -> FrameLayout:
    bits, kind = attributes.bitsPerComponentInMemory, "f" if attributes.pixelDataType == "float" else "u"
    if (kind, bits) not in (("u", 8), ("u", 16), ("f", 32)):
        raise ValueError(f"its numbers are {attributes.pixelDataType} of {bits} bits: need 8, 16 or floating 32")
    if attributes.compressionType == "lossy":
        raise ValueError("its frames are compressed with loss: save it as OME-TIFF")
    samples, dtype = int(attributes.componentCount), np.dtype(f"<{kind}{bits // 8}")
    row = int(attributes.widthBytes or attributes.widthPx * samples * dtype.itemsize)
    shape = int(attributes.heightPx), int(attributes.widthPx)
    return FrameLayout(shape, samples, dtype, row, attributes.compressionType == "lossless")


def _described(file: Any, samples: int) -> tuple[tuple[str, ...], PixelSize | None]:
    """Return the names of the channels and the size of a pixel that the metadata state."""
    channels = file.metadata.channels or []
    names = tuple(one.channel.name or "" for one in channels)
    if len(names) != samples:
        names = ("",) * samples
    if not channels or not all(channels[0].volume.axesCalibrated[:2]):
        return names, None
    x, y = channels[0].volume.axesCalibration[:2]
    return names, (y, x) if 0 < y < 1e6 and 0 < x < 1e6 else None
