"""Scenes: the images of a microscope's own file, as a library reads them, opened as slides.

file ── scene (--series) ── t, z, c ── piece ── pixels (h, w, samples)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.errors import InputError
from unettile.images.cache import Cache
from unettile.images.nodata import NoData
from unettile.images.orientation import UPRIGHT
from unettile.images.pixelsize import PixelSize
from unettile.images.segments import SEGMENT_LIMIT
from unettile.images.spacing import Spacing
from unettile.images.view import FIRST, Level, View
from unettile.wording import size_text

PIECE_EDGE = 1024
"""Edge of what is read at once, px, of files that are read by region."""


class Scene(Protocol):
    """One image of a file, of any number of planes."""

    @property
    def name(self) -> str:
        """That the file gives it, or ""."""
        ...

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, px."""
        ...

    @property
    def times(self) -> int: ...

    @property
    def depths(self) -> int: ...

    @property
    def names(self) -> tuple[str, ...]:
        """Of every sample of every stored channel; "" where there is none."""
        ...

    @property
    def samples(self) -> int:
        """Numbers that a pixel of a stored channel has: 1, or 3 for colours, or all channels of a file of one."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    @property
    def pixel_size_um(self) -> PixelSize | None: ...

    @property
    def spacing(self) -> Spacing: ...

    @property
    def by_region(self) -> bool:
        """Whether a part of a plane can be read without the rest."""
        ...

    @property
    def factors(self) -> tuple[int, ...]:
        """How many px of the image a px of each of its resolutions is, 1 the first."""
        ...

    def read(self, t: int, z: int, c: int, box: Box, factor: int = 1) -> NDArray[Any]:
        """Return a box of a stored channel, (h, w, samples), in px of the resolution that is `factor` times smaller.

        Raises whatever the library does for damage.
        """
        ...


@dataclass(frozen=True)
class SizedScene:
    """What of a scene follows from the lengths of its axes.

    Args:
        sizes: of Y, X, and as far as there are such, T, Z, C and S, where colours lie.
    """

    sizes: dict[str, int]

    @property
    def shape(self) -> tuple[int, int]:
        return self.sizes["Y"], self.sizes["X"]

    @property
    def times(self) -> int:
        return self.sizes.get("T", 1)

    @property
    def depths(self) -> int:
        return self.sizes.get("Z", 1)

    @property
    def samples(self) -> int:
        return self.sizes.get("S", 1)


class SceneFile(Protocol):
    """An open file of scenes."""

    @property
    def scenes(self) -> Sequence[Scene]: ...

    def close(self) -> None: ...


class SceneSlide:
    """One 2-D image, of any number of channels, of a file of scenes; see `unettile.images.slide.Slide`.

    Args:
        path: the file.
        opened: it, open; closed with this.
        reader: what reads it, for the record.
        view: which scene, resolution, plane and channels.

    Raises:
        InputError: it holds no image, or one whose planes cannot be held.
        NoSuchImage: the view chooses what is not there.
    """

    origin_um = None
    georeference = None
    orientation = UPRIGHT
    lossy = False

    def __init__(self, path: Path, opened: SceneFile, reader: str, view: View = FIRST) -> None:
        self.path, self.reader, self._opened, self._lock, self._closed = path, reader, opened, Lock(), False
        try:
            self._choose(view)
        except BaseException:
            self.close()
            raise

    def _choose(self, view: View) -> None:
        scenes = self._opened.scenes
        if not scenes:
            raise InputError(f"cannot read {self.path}: it holds no image")
        names = [size_text(one.shape) + (f" {one.name[:40]!r}" if one.name else "") for one in scenes]
        series = view.pick_series(names, range(len(scenes)))
        self._scene = scene = scenes[series]
        self.dtype = scene.dtype.newbyteorder("=")
        if self.dtype.kind not in "uif":
            raise InputError(f"cannot read {self.path}: its pixels are {self.dtype}; need integers or real numbers")
        if min(scene.shape) < 1:
            raise InputError(f"cannot read {self.path}: it has no pixels")
        whole = scene.samples * self.dtype.itemsize * scene.shape[0] * scene.shape[1]
        if not scene.by_region and whole > SEGMENT_LIMIT:
            raise InputError(f"cannot read {self.path}: its planes have more than {SEGMENT_LIMIT >> 30} GiB")
        try:
            factors = scene.factors
        except Exception as error:  # what a library makes of damaged bytes
            raise InputError(f"cannot read {self.path}: {_said(error)}") from error
        levels = [_level(scene, factor) for factor in factors]
        level, mpp = view.pick_level(levels)
        self._factor, chosen = factors[level], levels[level]
        self.shape, self.downsample, self.pixel_size_um = chosen.shape, chosen.downsample, chosen.pixel_size_um
        self.spacing = scene.spacing
        self._t, self._z = view.pick_plane("t", scene.times), view.pick_plane("z", scene.depths)
        every = scene.names
        self._selected = view.pick_channels(len(every), every)
        self.channels = len(self._selected)
        self.channel_names = tuple(every[number] for number in self._selected)
        self.no_data = NoData.of(None, None, self.dtype)
        self.view = view.resolved(series, (level, mpp), (self._t, self._z), self._selected)
        self._edge = PIECE_EDGE if scene.by_region else max(self.shape)
        self._cache = Cache()

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)

    def read(self, box: Box) -> NDArray[Any]:
        """Return the region (h, w, channels); memory grows with the region and the pieces under it.

        Raises:
            InputError: the file is damaged there.
        """
        assert Box.of_shape(self.shape).contains(box), f"{box} lies outside of {self.shape}"
        out = np.empty((*box.shape, self.channels), self.dtype)
        edge, samples = self._edge, self._scene.samples
        rows, columns = (range(a // edge, -(-b // edge)) for a, b in ((box.y0, box.y1), (box.x0, box.x1)))
        for row, column, place in product(rows, columns, range(self.channels)):
            y, x = row * edge, column * edge
            whole = Box(y, x, y + edge, x + edge).intersect(Box.of_shape(self.shape))
            part = whole.intersect(box)
            channel, sample = divmod(self._selected[place], samples)
            pixels = self._piece(whole, channel)
            out[(*part.relative_to(box).slices, place)] = pixels[(*part.relative_to(whole).slices, sample)]
        return out

    def known(self, box: Box) -> None:
        """Return None: of what the file declares, a FilledSlide knows."""

    def close(self) -> None:
        """Close the file; once more does no harm, as some libraries would have it."""
        if not self._closed:
            self._closed = True
            self._opened.close()

    def __enter__(self) -> SceneSlide:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _piece(self, box: Box, channel: int) -> NDArray[Any]:
        piece = self._cache.get((box, channel), lambda: self._load(box, channel))
        assert piece is not None
        return piece

    def _load(self, box: Box, channel: int) -> NDArray[Any]:
        try:
            with self._lock:  # the libraries seek in one file
                pixels = self._scene.read(self._t, self._z, channel, box, self._factor)
        except Exception as error:  # what a library makes of damaged bytes
            place = f"channel {channel}, y {box.y0}, x {box.x0}"
            raise InputError(f"cannot read {self.path} at {place}: {_said(error)}") from error
        assert pixels.shape == (*box.shape, self._scene.samples), f"{pixels.shape} for {box}"
        return pixels.astype(self.dtype, copy=False)


def _said(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__


def _level(scene: Scene, factor: int) -> Level:
    """Return a resolution of a scene; the last row and column of px that are not whole are left out."""
    size = scene.pixel_size_um
    shape = scene.shape[0] // factor, scene.shape[1] // factor
    return Level(shape, (float(factor), float(factor)), None if size is None else (size[0] * factor, size[1] * factor))
