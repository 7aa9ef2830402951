"""OpenSlide: the slides that are no TIFFs, and those whose tiles overlap, through the library of that name.

It comes with `pip install unettile[openslide]`. Regions are read on a fixed grid: where a level is not a whole number
of times smaller than the largest, OpenSlide moves what it reads by a fraction of a pixel, and that must depend on the
image alone.
"""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.errors import InputError
from unettile.images.cache import Cache
from unettile.images.nodata import ALL_DATA
from unettile.images.orientation import UPRIGHT
from unettile.images.pixelsize import PixelSize, believable
from unettile.images.spacing import UNKNOWN
from unettile.images.units import number
from unettile.images.view import FIRST, Level, NoSuchImage, View, whole_factor
from unettile.wording import size_text

INSTALL = "pip install 'unettile[openslide]'"

PIECE_EDGE = 1024
"""Edge of the squares in which a level is read, its own px."""

_WHITE = "ffffff"


class OpenSlideSlide:
    """One level of a slide that OpenSlide reads: RGB, 8 bits; what was not scanned has the slide's background colour.

    Args:
        path: the file; of several, the one that stands for all.
        view: which level and channels.

    Raises:
        InputError: OpenSlide is not installed, does not know the file, or finds it damaged.
        NoSuchImage: it has no such level, plane or channel.
    """

    reader = "openslide"
    orientation = UPRIGHT
    no_data = ALL_DATA
    lossy = True
    dtype = np.dtype(np.uint8)
    origin_um = None
    spacing = UNKNOWN
    georeference = None

    def __init__(self, path: Path, view: View = FIRST) -> None:
        self.path = path
        library = load_openslide()
        if library is None:
            raise InputError(f"cannot read {path}: need OpenSlide for it; install it with {INSTALL}")
        try:
            self._slide = library.OpenSlide(path)
        except library.OpenSlideUnsupportedFormatError as error:
            raise InputError(f"cannot read {path}: no slide that OpenSlide knows") from error
        except library.OpenSlideError as error:
            raise self._refusal(error) from error
        self._error: type[Exception] = library.OpenSlideError
        try:
            self._choose(view)
        except NoSuchImage:
            self.close()
            raise

    def _choose(self, view: View) -> None:
        properties = self._slide.properties
        size = _pixel_size(properties.get("openslide.mpp-y"), properties.get("openslide.mpp-x"))
        levels = _levels([(height, width) for width, height in self._slide.level_dimensions], size)
        height, width = levels[0].shape
        series = view.pick_series([size_text((height, width))], [0])
        level, mpp = view.pick_level(levels)
        plane = view.pick_plane("t", 1), view.pick_plane("z", 1)
        self._selected = list(view.pick_channels(3))
        self._level = level
        self._downsample = float(self._slide.level_downsamples[level])
        colour = str(properties.get("openslide.background-color", _WHITE))
        usual = re.fullmatch(r"[\da-fA-F]{6}", colour) is not None
        self._background = np.frombuffer(bytes.fromhex(colour if usual else _WHITE), np.uint8)
        self._cache = Cache()
        self.shape, self.downsample = levels[level].shape, levels[level].downsample
        self.pixel_size_um = levels[level].pixel_size_um
        self.channels = len(self._selected)
        self.channel_names = ("",) * self.channels
        self.view = view.resolved(series, (level, mpp), plane, self._selected)

    @property
    def files(self) -> tuple[Path, ...]:
        """The file and, of the formats that have many, the others: in the folder of its name, beside it, or named."""
        ending, folder = self.path.suffix.lower(), self.path.with_suffix("")
        if ending == ".mrxs" and folder.is_dir():
            return (self.path, *sorted(part for part in folder.iterdir() if part.is_file()))
        if ending == ".dcm":
            return tuple(sorted(part for part in self.path.parent.iterdir() if part.suffix.lower() == ".dcm"))
        if ending in (".vms", ".vmu"):
            named = re.findall(r"=\s*([^=\r\n]+\.\w{3})\s*$", self.path.read_text("latin-1"), re.MULTILINE)
            return (self.path, *(self.path.parent / name for name in sorted(set(named))))
        return (self.path,)

    def read(self, box: Box) -> NDArray[Any]:
        """Return the region (h, w, channels).

        Raises:
            InputError: a part of it is damaged.
        """
        assert Box.of_shape(self.shape).contains(box), f"{box} lies outside of {self.shape}"
        out = np.empty((*box.shape, self.channels), np.uint8)
        rows = range(box.y0 // PIECE_EDGE, -(-box.y1 // PIECE_EDGE))
        columns = range(box.x0 // PIECE_EDGE, -(-box.x1 // PIECE_EDGE))
        for row, column in product(rows, columns):
            y, x = row * PIECE_EDGE, column * PIECE_EDGE
            whole = Box(y, x, y + PIECE_EDGE, x + PIECE_EDGE).intersect(Box.of_shape(self.shape))
            part = whole.intersect(box)
            pixels = self._cache.get(whole, lambda whole=whole: self._load(whole))  # type: ignore[misc]
            assert pixels is not None
            out[part.relative_to(box).slices] = pixels[part.relative_to(whole).slices][..., self._selected]
        return out

    def known(self, box: Box) -> None:
        """Return None: of what the file declares, a FilledSlide knows."""

    def close(self) -> None:
        self._slide.close()

    def __enter__(self) -> OpenSlideSlide:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _load(self, box: Box) -> NDArray[np.uint8]:
        place = round(box.x0 * self._downsample), round(box.y0 * self._downsample)
        try:
            colours = np.asarray(self._slide.read_region(place, self._level, (box.width, box.height)))
        except self._error as error:
            raise self._refusal(error, f" at y {box.y0}, x {box.x0} of level {self._level}") from error
        opacity = colours[..., 3:].astype(np.uint16)
        if (opacity == 255).all():
            return np.ascontiguousarray(colours[..., :3])
        mixed = (colours[..., :3] * opacity + self._background * (255 - opacity) + 127) // 255
        return mixed.astype(np.uint8)

    def _refusal(self, error: Exception, where: str = "") -> InputError:
        return InputError(f"cannot read {self.path}{where}: OpenSlide says: {' '.join(str(error).split())[:200]}")


def load_openslide() -> Any:
    """Return the module `openslide`, or None if it, or the library that it loads, is not installed."""
    try:
        import openslide
    except (ImportError, OSError):
        return None
    return openslide


def knows(path: Path) -> bool:
    """Whether OpenSlide is installed and takes a file for one of its formats."""
    library = load_openslide()
    return library is not None and library.OpenSlide.detect_format(path) is not None


def _pixel_size(height: Any, width: Any) -> PixelSize | None:
    return believable(number(height), number(width))


def _levels(shapes: list[tuple[int, int]], size: PixelSize | None) -> list[Level]:
    levels = []
    for shape in shapes:
        y, x = (whole_factor(base, here) for base, here in zip(shapes[0], shape, strict=True))
        levels.append(Level(shape, (y, x), None if size is None else (size[0] * y, size[1] * x)))
    return levels
