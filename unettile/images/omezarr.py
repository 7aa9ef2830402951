"""OME-Zarr: one image of a Zarr directory, 0.4 (Zarr v2) or 0.5 (Zarr v3), or a plain Zarr array, read by region."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from unettile.box import Box
from unettile.errors import Incomplete, InputError
from unettile.images.cache import Cache
from unettile.images.multiscales import Multiscale, find_multiscales
from unettile.images.nodata import NoData
from unettile.images.orientation import UPRIGHT
from unettile.images.remote import size_if_any
from unettile.images.remotestore import RemoteStore
from unettile.images.segments import SEGMENT_LIMIT, Damaged
from unettile.images.urls import url_of
from unettile.images.view import FIRST, Level, NoSuchImage, View, whole_factor
from unettile.images.zarrstore import ConfinedStore
from unettile.wording import size_text

PIECE_EDGE = 512
"""Chunks smaller than this are read several at once, px."""

SAMPLED_CHUNKS = 256
"""Chunks whose files tell an image from another."""

_TIFF_ENDINGS = (".tif", ".tiff", ".svs", ".ndpi", ".scn", ".qptiff", ".btf", ".tf8")
_METADATA = ("zarr.json", ".zgroup", ".zattrs", ".zarray")


def is_zarr(path: Path) -> bool:
    """Whether a path is a Zarr group or array in a directory."""
    return path.is_dir() and any((path / name).is_file() for name in _METADATA)


def is_remote_zarr(url: str) -> bool:
    """Whether a Zarr group or array is at a URL; a name that is a TIFF's is asked of no server.

    Raises:
        InputError: the server refuses.
        Incomplete: the connection is lost.
    """
    if url.lower().endswith(_TIFF_ENDINGS):
        return False
    return any(size_if_any(f"{url}/{name}") >= 0 for name in _METADATA)


def is_group(path: Path) -> bool:
    """Whether a path is a Zarr group or array, in a directory or on a server; errors as those of `is_remote_zarr`."""
    url = url_of(path)
    return is_zarr(path) if url is None else is_remote_zarr(url)


class ZarrSlide:
    """One 2-D image, of any number of channels, of a Zarr directory.

    What Zarr says of a chunk that is not there holds here: it is full of the array's fill value.

    Args:
        path: a group with multiscales metadata, or an array.
        view: which image, resolution, plane and channels.
        as_stored: give booleans as 0 and 1, not as 0 and 255.

    Raises:
        InputError: it cannot be read, holds no image, or none that can be understood.
        NoSuchImage: it has no such image, or several of which the view chooses none.
    """

    reader = "zarr"
    orientation = UPRIGHT
    georeference = None
    lossy = False

    def __init__(self, path: Path, view: View = FIRST, as_stored: bool = False) -> None:
        self.path, self._url = path, url_of(path)
        self._store = ConfinedStore(path, read_only=True) if self._url is None else RemoteStore(self._url)
        try:
            self._open(view, as_stored)
        except (NoSuchImage, Incomplete):
            raise
        except Damaged as error:
            raise _refusal(path, error) from error
        except Exception as error:  # damaged metadata make the library raise whatever it likes
            text = " ".join(str(error).split())[:160] or type(error).__name__
            raise InputError(f"cannot read {path}: not a readable Zarr directory ({text})") from error

    def _open(self, view: View, as_stored: bool) -> None:
        store = self._store
        images = find_multiscales(zarr.open(store, mode="r"))
        names = [
            size_text((image.length("y"), image.length("x"))) + (f" {image.name[:40]!r}" if image.name else "")
            for image in images
        ]
        series = view.pick_series(names, range(len(images)))
        image = images[series]
        levels = _levels(image)
        level, mpp = view.pick_level(levels if view.mpp is None else _of_the_same_planes(image, levels))
        self._array, self._axes = image.arrays[level], image.axes
        stored = np.dtype(self._array.dtype)
        if stored.kind not in "buif":
            raise Damaged(f"its pixels are {stored}; need integers or real numbers")
        if min(self._array.shape) < 1:
            raise Damaged(f"it has no pixels (shape {tuple(self._array.shape)})")
        if stored.itemsize * math.prod(self._array.chunks) > SEGMENT_LIMIT:
            raise Damaged(
                f"one of its chunks takes more than {SEGMENT_LIMIT / 2**30:.0f} GiB; rewrite it in smaller ones"
            )
        store.bound(self._array)
        plane = {axis: view.pick_plane(axis, image.length(axis, level)) for axis in "tz"}
        selected = view.pick_channels(image.length("c", level), image.channel_names)
        self._plane = plane
        self._selected = selected
        self._bilevel = np.uint8(1 if as_stored else 255)
        self._cache = Cache()
        self.shape = levels[level].shape
        self.pixel_size_um, self.downsample = levels[level].pixel_size_um, levels[level].downsample
        self.origin_um, self.spacing = image.origin_um(level), image.spacing(level)
        self.channels = len(selected)
        self.channel_names = tuple((*image.channel_names, *[""] * (n + 1))[n] for n in selected)
        self.dtype = np.dtype(np.uint8) if stored == np.bool_ else stored.newbyteorder("=")
        self.no_data = NoData.of(None, None, self.dtype)
        self.view = view.resolved(series, (level, mpp), (plane["t"], plane["z"]), selected)
        self._rows, self._columns = (edge * max(1, PIECE_EDGE // edge) for edge in (self._edge("y"), self._edge("x")))

    @property
    def files(self) -> tuple[Path, ...]:
        """The metadata, and up to 256 files of chunks spread evenly over the chosen plane, be they there or not."""
        folders = dict.fromkeys((self.path, self._folder))
        metadata = [folder / name for folder in folders for name in _METADATA]
        ranges = [self._chunks_along(axis, self._array.shards or self._array.chunks) for axis in self._axes]
        count = math.prod(len(one) for one in ranges)
        chosen = (
            range(count)
            if count <= SAMPLED_CHUNKS
            else [index * (count - 1) // (SAMPLED_CHUNKS - 1) for index in range(SAMPLED_CHUNKS)]
        )
        keys = []
        for index in chosen:
            place = []
            for one in reversed(ranges):
                index, digit = divmod(index, len(one))
                place.append(one[digit])
            keys.append(self._array.metadata.encode_chunk_key(tuple(reversed(place))))
        return (*metadata, *(self._folder / key for key in keys))

    def read(self, box: Box) -> NDArray[Any]:
        """Return the region (h, w, channels); memory grows with the region and with the chunks under it.

        Raises:
            InputError: a chunk is damaged, or the directory has vanished.
        """
        assert Box.of_shape(self.shape).contains(box), f"{box} lies outside of {self.shape}"
        out = np.empty((*box.shape, self.channels), self.dtype)
        rows = range(box.y0 // self._rows, -(-box.y1 // self._rows))
        columns = range(box.x0 // self._columns, -(-box.x1 // self._columns))
        together = self._edge("c")
        try:
            for row, column, channel in product(rows, columns, dict.fromkeys(n // together for n in self._selected)):
                y, x, first = row * self._rows, column * self._columns, channel * together
                whole = Box(y, x, y + self._rows, x + self._columns).intersect(Box.of_shape(self.shape))
                pixels = self._piece(whole, first)
                part = whole.intersect(box)
                for place, number in enumerate(self._selected):
                    if number // together == channel:
                        source = pixels[(*part.relative_to(whole).slices, number - first)]
                        out[(*part.relative_to(box).slices, place)] = source
        except Damaged as error:
            raise _refusal(self.path, error) from error
        return out

    def known(self, box: Box) -> None:
        """Return None: of what the file declares, a FilledSlide knows."""

    def close(self) -> None:
        self._cache = Cache()

    def __enter__(self) -> ZarrSlide:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _folder(self) -> Path:
        return self.path / self._array.path

    def _edge(self, axis: str) -> int:
        """Return the edge of a chunk along an axis."""
        return int(self._array.chunks[self._axes.index(axis)]) if axis in self._axes else 1

    def _chunks_along(self, axis: str, edges: tuple[int, ...]) -> Sequence[int]:
        """Return the numbers along an axis of the stored chunks under the chosen plane and channels."""
        edge = edges[self._axes.index(axis)]
        if axis in "tz":
            return (self._plane[axis] // edge,)
        if axis == "c":
            return sorted({number // edge for number in self._selected})
        return range(-(-self.shape["yx".index(axis)] // edge))

    def _piece(self, box: Box, first: int) -> NDArray[Any]:
        """Return whole chunks, (h, w, channels that are stored together), from the cache or the disk.

        Raises:
            Damaged: a chunk cannot be decoded, and is named.
        """
        piece = self._cache.get((box, first), lambda: self._load(box, first))
        assert piece is not None
        return piece

    def _load(self, box: Box, first: int) -> NDArray[Any]:
        try:
            pixels = self._fetch(box, first)
        except Incomplete:
            raise
        except Exception as error:  # a decoder fed with damaged bytes raises whatever it likes
            raise self._name_damage(box, first, error) from error
        # Chunks that are not there are full of the fill value: so would be a whole image that has vanished.
        if (self._url is None or not pixels.any()) and not self._is_there():
            raise Damaged(f"{self._folder} has vanished")
        return pixels

    def _is_there(self) -> bool:
        """Whether the array still is; of one on a server it is asked where there is nothing but fill values."""
        names = (".zarray", "zarr.json")
        if self._url is None:
            return any((self._folder / name).is_file() for name in names)
        place = "/".join(part for part in (self._url, self._array.path) if part)
        return any(size_if_any(f"{place}/{name}") >= 0 for name in names)

    def _fetch(self, box: Box, first: int) -> NDArray[Any]:
        slices = {"y": slice(box.y0, box.y1), "x": slice(box.x0, box.x1), "c": slice(first, first + self._edge("c"))}
        index = tuple(slices.get(axis, self._plane.get(axis, 0)) for axis in self._axes)
        order = [axis for axis in self._axes if axis in slices]
        pixels = np.asarray(self._array[index])
        if "c" not in order:
            pixels, order = pixels[..., None], [*order, "c"]
        pixels = np.ascontiguousarray(pixels.transpose([order.index(axis) for axis in "yxc"]))
        return (
            pixels.view(np.uint8) * self._bilevel if pixels.dtype == np.bool_ else pixels.astype(self.dtype, copy=False)
        )

    def _name_damage(self, box: Box, first: int, error: Exception) -> Damaged:
        """Return what to say of chunks of which one cannot be decoded: which one."""
        edges = self._edge("y"), self._edge("x")
        for y, x in product(range(box.y0, box.y1, edges[0]), range(box.x0, box.x1, edges[1])):
            try:
                self._fetch(Box(y, x, y + edges[0], x + edges[1]).intersect(box), first)
            except Exception as again:
                place = {"y": y, "x": x, "c": first, **self._plane}
                stored = self._array.shards or self._array.chunks
                key = tuple(place[axis] // edge for axis, edge in zip(self._axes, stored, strict=True))
                name = self._folder.relative_to(self.path) / self._array.metadata.encode_chunk_key(key)
                return Damaged(f"chunk {name} cannot be decoded ({_one_line(again)})")
        return Damaged(f"chunks at y {box.y0}, x {box.x0} could not be read ({_one_line(error)}); try again")


def _levels(image: Multiscale) -> list[Level]:
    """Return the resolutions of an image; how they relate is read off their scales, or if not stated, their shapes."""
    levels = []
    for number in range(len(image.arrays)):
        shape = image.length("y", number), image.length("x", number)
        if image.scales:
            y, x = (here / base for here, base in zip(image.scales[number], image.scales[0], strict=True))
        else:
            y, x = (whole_factor(image.length(axis), max(1, image.length(axis, number))) for axis in "yx")
        size = image.pixel_size_um
        levels.append(Level(shape, (y, x), None if size is None else (size[0] * y, size[1] * x)))
    return levels


def _of_the_same_planes(image: Multiscale, levels: list[Level]) -> list[Level]:
    """Return resolutions to choose from by the size of pixels: none whose planes or times are not the largest one's."""
    return [
        level
        if all(image.length(axis, number) == image.length(axis) for axis in "tz")
        else replace(level, pixel_size_um=None)
        for number, level in enumerate(levels)
    ]


def _refusal(path: Path, error: Exception) -> InputError:
    return InputError(f"cannot read {path}: {' '.join(str(error).split())[:300]}")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
