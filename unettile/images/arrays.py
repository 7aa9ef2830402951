"""Arrays as images: NumPy's, and lazy ones (dask, zarr, xarray, tensorstore, HDF5), read window by window.

What is needed of an array is `shape`, `dtype` and slices. A NumPy array is looked at where it lies. Of a lazy one whole
chunks are asked for and kept for the next window, up to a fixed number of bytes, so that nothing is computed twice in a
row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.errors import InputError
from unettile.images.cache import Cache
from unettile.images.nodata import NoData
from unettile.images.orientation import UPRIGHT
from unettile.images.pixelsize import PixelSize
from unettile.images.spacing import UNKNOWN, Spacing
from unettile.images.view import FIRST, Level, NoSuchImage, View
from unettile.wording import size_text

PIECE_EDGE = 512
"""Chunks of lazy arrays that are smaller than this are read several at once, px."""

AXES = "tczyx"
"""Letters of axes: time, channel, depth, row and column."""

_LETTERS = {"time": "t", "channel": "c", "channels": "c", "band": "c", "s": "c"}
"""What xarray's users call axes besides the letters themselves."""


@dataclass(frozen=True, eq=False)
class ArrayImage:
    """An array that is to be opened like a file.

    Args:
        array: anything with `shape`, `dtype` and slices; real numbers or booleans.
        axes: a letter of AXES for each of its axes, y and x among them. None takes the array's own names of them
            (xarray, tensorstore), or else "yx" for two axes and "yxc" for three.
        pixel_size_um: height and width of a pixel, micrometres, or None.
        name: what to call it in messages.
        spacing: of its planes, and its points in time.

    Raises:
        InputError: axes that cannot be understood, no pixels, or numbers that are no intensities.

    >>> ArrayImage(np.zeros((3, 40, 50), np.uint8), axes="cyx").axes
    'cyx'
    """

    array: Any
    axes: str | None = None
    pixel_size_um: PixelSize | None = None
    name: str = "the array"
    spacing: Spacing = UNKNOWN

    def __post_init__(self) -> None:
        shape = tuple(int(length) for length in self.array.shape)
        axes = self.axes or _own_axes(self.array) or {2: "yx", 3: "yxc"}.get(len(shape))
        if axes is None:
            raise InputError(f'{self} has {len(shape)} axes: need (H, W) or (H, W, C), or axes such as "tczyx"')
        if len(axes) != len(shape) or len(set(axes)) != len(axes) or not set("yx") <= set(axes) <= set(AXES):
            raise InputError(
                f"{self} has the shape {shape}, which axes {axes!r} do not fit: need a letter of {AXES} for each, y and"
                " x among them"
            )
        if min(shape) < 1:
            raise InputError(f"{self} has no pixels, shape {shape}")
        if axes == "yxc" and self.axes is None and shape[2] > min(shape[:2]):
            raise InputError(f"{self} has the shape {shape}: need (H, W, C); if channels come first say axes='cyx'")
        if self.dtype.kind not in "buif":
            raise InputError(f"{self} holds {self.dtype}: need integers or real numbers")
        object.__setattr__(self, "axes", axes)

    def __str__(self) -> str:
        return self.name

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type that its pixels have as NumPy has them."""
        try:
            dtype: np.dtype[Any] = np.dtype(self.array.dtype)
            return dtype
        except TypeError:  # a type of another library's own, whose arrays NumPy understands all the same
            first: NDArray[Any] = np.asarray(self.array[(slice(0, 1),) * len(self.array.shape)])
            return first.dtype

    def length(self, axis: str) -> int:
        """Return how long an axis is; 1 if there is none."""
        assert self.axes is not None
        return int(self.array.shape[self.axes.index(axis)]) if axis in self.axes else 1

    def chunk(self, axis: str) -> int:
        """Return the length of the array's chunks along an axis, the longest if they differ; 1 if it has none."""
        assert self.axes is not None
        edges = _chunks(self.array)
        if edges is None or axis not in self.axes:
            return 1
        edge = edges[self.axes.index(axis)]
        return max(1, int(max(edge) if isinstance(edge, Sequence) else edge or 1))


class ArraySlide:
    """One 2-D image, of any number of channels, of an array.

    Args:
        image: the array.
        view: which plane and channels; there is one series, and one level.
        as_stored: give booleans as 0 and 1, not as 0 and 255.

    Raises:
        NoSuchImage: the view chooses what the array does not have.
    """

    reader = "array"
    files: tuple[Path, ...] = ()
    downsample = (1.0, 1.0)
    origin_um = None
    georeference = None
    orientation = UPRIGHT
    lossy = False

    def __init__(self, image: ArrayImage, view: View = FIRST, as_stored: bool = False) -> None:
        self.path = Path(image.name)
        self.shape = image.length("y"), image.length("x")
        self.pixel_size_um, self.spacing = image.pixel_size_um, image.spacing
        if view.mpp is not None and image.pixel_size_um is None:
            raise NoSuchImage(
                f"--mpp {view.mpp:g} cannot be found: an array does not state the size of its pixels; say it, as in"
                " unettile.open(array, pixel_size=0.25)"
            )
        series = view.pick_series([size_text(self.shape)], [0])
        level = view.pick_level([Level(self.shape, pixel_size_um=image.pixel_size_um)])
        self._plane = {axis: view.pick_plane(axis, image.length(axis)) for axis in "tz"}
        self._selected = view.pick_channels(image.length("c"))
        self.view = view.resolved(series, level, (self._plane["t"], self._plane["z"]), self._selected)
        self.channels = len(self._selected)
        self.channel_names = ("",) * self.channels
        stored = image.dtype
        self.dtype = np.dtype(np.uint8) if stored.kind == "b" else stored.newbyteorder("=")
        self.no_data = NoData.of(None, None, self.dtype)
        self._image = image
        self._true = np.uint8(1 if as_stored else 255)
        self._cache = None if isinstance(image.array, np.ndarray) else Cache()
        self._rows, self._columns = (image.chunk(axis) * max(1, PIECE_EDGE // image.chunk(axis)) for axis in "yx")

    def read(self, box: Box) -> NDArray[Any]:
        """Return the region (h, w, channels); of a lazy array, memory grows with the region and the chunks under it.

        Raises:
            InputError: the array cannot give it.
        """
        assert Box.of_shape(self.shape).contains(box), f"{box} lies outside of {self.shape}"
        if self._cache is None:
            return self._fetch(box)
        out = np.empty((*box.shape, self.channels), self.dtype)
        rows = range(box.y0 // self._rows, -(-box.y1 // self._rows))
        columns = range(box.x0 // self._columns, -(-box.x1 // self._columns))
        for row, column in product(rows, columns):
            y, x = row * self._rows, column * self._columns
            whole = Box(y, x, y + self._rows, x + self._columns).intersect(Box.of_shape(self.shape))
            part = whole.intersect(box)
            out[part.relative_to(box).slices] = self._piece(whole)[part.relative_to(whole).slices]
        return out

    def known(self, box: Box) -> NDArray[np.bool_] | None:
        """Return None: all pixels of an array are known."""
        return None

    def close(self) -> None:
        self._cache = None if self._cache is None else Cache()

    def __enter__(self) -> ArraySlide:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _piece(self, box: Box) -> NDArray[Any]:
        assert self._cache is not None
        piece = self._cache.get(box, lambda: self._fetch(box))
        assert piece is not None
        return piece

    def _fetch(self, box: Box) -> NDArray[Any]:
        """Return a region (h, w, channels) of the array itself."""
        image, axes = self._image, self._image.axes
        assert axes is not None
        first, last = min(self._selected), max(self._selected)
        slices = {"y": slice(box.y0, box.y1), "x": slice(box.x0, box.x1), "c": slice(first, last + 1)}
        index = tuple(slices.get(axis, self._plane.get(axis, 0)) for axis in axes)
        try:
            pixels = np.asarray(image.array[index])
        except Exception as error:  # whatever a lazy array sets off when it is computed
            text = " ".join(str(error).split())[:160] or type(error).__name__
            raise InputError(f"cannot read {image} at y {box.y0}, x {box.x0}: {text}") from error
        order = [axis for axis in axes if axis in slices]
        if "c" not in order:
            pixels, order = pixels[..., None], [*order, "c"]
        pixels = pixels.transpose([order.index(axis) for axis in "yxc"])
        if self._selected != tuple(range(first, last + 1)):
            pixels = pixels[:, :, [number - first for number in self._selected]]
        return (
            pixels.astype(np.uint8) * self._true if pixels.dtype.kind == "b" else pixels.astype(self.dtype, copy=False)
        )


def _own_axes(array: Any) -> str | None:
    """Return the letters of the names that an array gives its axes itself; None if it names none that are known."""
    names = getattr(array, "dims", None) or getattr(getattr(array, "domain", None), "labels", None) or ()
    letters = [_LETTERS.get(str(name).lower(), str(name).lower()) for name in names]
    return "".join(letters) if letters and all(letter and letter in AXES for letter in letters) else None


def _chunks(array: Any) -> Sequence[Any] | None:
    """Return the lengths of an array's chunks by axis: a number, or numbers where they differ; None for no chunks."""
    layout = getattr(array, "chunk_layout", None)  # tensorstore's
    chunks = getattr(array, "chunks", None) if layout is None else layout.read_chunk.shape
    return chunks if isinstance(chunks, Sequence) and len(chunks) == len(array.shape) else None
