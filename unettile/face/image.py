"""Image: a file, or an array, opened to be read by region; and what counts as one."""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.errors import InputError, UsageError
from unettile.images.arrays import ArrayImage
from unettile.images.pixelsize import PixelSize
from unettile.images.record import read_metadata
from unettile.images.slide import ImageSource, Slide, open_labels, open_slide
from unettile.images.spacing import MOST, UNKNOWN, Spacing
from unettile.images.urls import named
from unettile.images.view import FIRST, View

Channel = int | str | Sequence[int | str]
"""One channel or several, by number from 0 or by the name that the file gives it."""


class Lazy(Protocol):
    """An array, in memory or not: NumPy's, dask's, zarr's, xarray's, tensorstore's, or an open `Image`."""

    @property
    def shape(self) -> Any: ...

    @property
    def dtype(self) -> Any: ...

    def __getitem__(self, key: Any, /) -> Any: ...


ImageLike = str | os.PathLike[str] | Lazy
"""What the face takes for an image: the path of a file, or an array."""


class Image:
    """An open image, read by region; make one with `unettile.open`. It closes itself when nobody keeps it.

    It is an array that is not in memory: it has `shape`, `dtype` and slices.

    Attributes:
        shape: (H, W) of an image of one channel, else (H, W, C).
        dtype: of the pixels.
        channel_names: one for each channel; "" where the file gives none.
        pixel_size_um: height and width of a pixel, micrometres; None if unknown.
        z_step_um: from plane to plane of the stack that it is of, micrometres; None if unknown.
        time_step_s: from one point in time to the next, seconds; None if unknown.
    """

    def __init__(self, source: ImageSource, view: View = FIRST, labels: bool = False) -> None:
        self.source, self.view, self.labels = source, view, labels
        self._slide: Slide = open_labels(source, view) if labels else open_slide(source, view)
        self._lock = Lock()
        weakref.finalize(self, self._slide.close)  # of one that nobody keeps
        self.dtype = self._slide.dtype
        self.channel_names = self._slide.channel_names
        self.pixel_size_um = self._slide.pixel_size_um
        self.z_step_um, self.time_step_s = self._slide.spacing.z_um, self._slide.spacing.time_s
        self.shape: tuple[int, ...] = self._slide.shape
        if self._slide.channels > 1:
            self.shape = (*self._slide.shape, self._slide.channels)

    def __repr__(self) -> str:
        return f"<unettile.Image {self.source}: {' × '.join(map(str, self.shape))}, {self.dtype}>"

    def read(self, box: tuple[int, int, int, int] | None = None) -> NDArray[Any]:
        """Return a region, (h, w) of one channel, else (h, w, C).

        Args:
            box: y0, x0, y1, x1, half-open, px of the resolution that was opened; None for the whole image.

        Raises:
            InputError: the box is no part of the image, or the file is damaged.

        >>> import unettile
        >>> unettile.open(np.arange(6).reshape(2, 3)).read((0, 1, 2, 3)).tolist()
        [[1, 2], [4, 5]]
        """
        whole = Box.of_shape(self._slide.shape)
        y0, x0, y1, x1 = (whole.y0, whole.x0, whole.y1, whole.x1) if box is None else (int(edge) for edge in box)
        if not (0 <= y0 <= y1 <= whole.y1 and 0 <= x0 <= x1 <= whole.x1):
            raise InputError(
                f"the box {(y0, x0, y1, x1)} is no part of {self.source}: need y0, x0, y1, x1 inside of it"
            )
        with self._lock:
            pixels = self._slide.read(Box(y0, x0, y1, x1))
        return pixels if len(self.shape) > 2 else pixels[:, :, 0]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Return what NumPy's basic indexing would of the whole array; only the region under it is read."""
        keys = list(key) if isinstance(key, tuple) else [key]
        if Ellipsis in keys:
            place = keys.index(Ellipsis)
            keys[place : place + 1] = [slice(None)] * (len(self.shape) - len(keys) + 1)
        if len(keys) > len(self.shape) or not all(isinstance(one, slice | int | np.integer) for one in keys):
            raise IndexError(f"{self} takes numbers and slices of its {len(self.shape)} axes, got {key}")
        keys += [slice(None)] * (len(self.shape) - len(keys))
        rows, columns = (_span(one, length) for one, length in zip(keys, self.shape[:2], strict=False))
        inner = tuple(span[2] for span in (rows, columns))
        found: NDArray[Any] = self.read((rows[0], columns[0], rows[1], columns[1]))[(*inner, *keys[2:])]
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self.read().astype(dtype or self.dtype, copy=False)

    def close(self) -> None:
        """Close the file."""
        self._slide.close()

    def __enter__(self) -> Image:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_image(
    image: ImageLike,
    *,
    series: int | None = None,
    level: int | None = None,
    mpp: float | None = None,
    channel: Channel | None = None,
    z: int | None = None,
    time: int | None = None,
    labels: bool | None = None,
    axes: str | None = None,
    pixel_size: float | tuple[float, float] | None = None,
    z_step: float | None = None,
    time_step: float | None = None,
) -> Image:
    """Open an image of any size, to read regions of it or to say what an array's axes and pixels are.

    Args:
        image: the path of a file that `unettile segment` reads, or an array: NumPy's, or anything lazy that has
            `shape`, `dtype` and slices.
        series, level, mpp, channel, z, time: which image of the file, as the options of `unettile segment`.
        labels: give the stored numbers, which are labels, and not the colours that a viewer shows for them. None does
            so for masks that unettile wrote.
        axes: of an array: a letter of tczyx for each axis, such as "cyx". None takes the names that the array has
            itself, or else (H, W) or (H, W, C).
        pixel_size: of an array: µm, the edge of a pixel, or its height and width.
        z_step, time_step: of an array: µm from plane to plane of a stack, and seconds from one point in time to the
            next.

    Returns:
        An `Image`, which has `shape`, `dtype`, slices and `read`.

    Raises:
        InputError: the image cannot be read, or has no such series, level, plane or channel.
        UsageError: a number that cannot be meant.

    >>> import unettile
    >>> with unettile.open(np.zeros((3, 40, 50), np.uint8), axes="cyx", pixel_size=0.25) as image:
    ...     image.shape, image.pixel_size_um, image[10:30, :, 0].shape
    ((40, 50, 3), (0.25, 0.25), (20, 50))
    """
    view = view_of(series, level, mpp, channel, z, time)
    size = (float(pixel_size), float(pixel_size)) if isinstance(pixel_size, int | float) else pixel_size
    for name, step in (("z_step", z_step), ("time_step", time_step)):
        if step is not None and not 0 < step <= MOST:
            raise UsageError(f"{name} is {step:g}: need a number above 0")
    source = source_of(image, axes=axes, pixel_size_um=size, spacing=Spacing.of(z_step, time_step))
    if labels is None:
        labels = isinstance(source, Path) and source.exists() and bool(read_metadata(source))
    return Image(source, view, labels)


def source_of(
    image: ImageLike,
    name: str | None = None,
    axes: str | None = None,
    pixel_size_um: PixelSize | None = None,
    spacing: Spacing = UNKNOWN,
) -> ImageSource:
    """Return what is opened: the path of a file, or an array with a name for messages, and what is said of it.

    Raises:
        UsageError: neither a path nor an array, or something is said of a file.
        InputError: an array that is no image.
    """
    if isinstance(image, str | os.PathLike):
        if axes is not None or pixel_size_um is not None or spacing != UNKNOWN:
            raise UsageError(
                f"axes, pixel_size and steps describe an array: {os.fspath(image)} is a file, and says itself"
            )
        return named(Path(image))
    if isinstance(image, Image):
        name, pixel_size_um = name or str(image.source), pixel_size_um or image.pixel_size_um
    if not all(hasattr(image, part) for part in ("shape", "dtype", "__getitem__")):
        raise UsageError(f"got a {type(image).__name__} for an image: need the path of a file, or an array")
    return ArrayImage(image, axes, pixel_size_um, name or "the array", spacing)


def view_of(
    series: int | None,
    level: int | None,
    mpp: float | None,
    channel: Channel | None,
    z: int | None,
    time: int | None,
) -> View:
    """Return the view that a user's options choose.

    Raises:
        UsageError: a number that cannot be meant.
    """
    channels = None if channel is None else (channel,) if isinstance(channel, int | str) else tuple(channel)
    return View(series, level, mpp, channels, z, time)


def _span(key: slice | int, length: int) -> tuple[int, int, slice | int]:
    """Return the first and the last + 1 of the pixels under an index along an axis, and the index among them."""
    if not isinstance(key, slice):
        number = int(key) + length if key < 0 else int(key)
        if not 0 <= number < length:
            raise IndexError(f"{key} lies outside of an axis of {length} px")
        return number, number + 1, 0
    start, stop, step = key.indices(length)
    if step < 1:
        raise IndexError(f"a step of {step} is not read: need 1 or more")
    return start, max(start, stop), slice(None, None, step)
