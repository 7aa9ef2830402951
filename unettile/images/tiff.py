"""TIFF: one image of a TIFF, BigTIFF, OME-TIFF, ImageJ, Aperio or other slide file, read by region."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import tifffile
from numpy.typing import NDArray

from unettile.box import Box
from unettile.errors import Incomplete, InputError
from unettile.images.cache import Cache
from unettile.images.colours import ColourTable
from unettile.images.georeference import Georeference
from unettile.images.nodata import NoData, stored_number
from unettile.images.orientation import UPRIGHT, known_orientation, shown_pair, stored_box, turn
from unettile.images.pixelsize import PixelSize
from unettile.images.remote import RemoteFile
from unettile.images.segments import Damaged, SegmentReader
from unettile.images.tiffchecks import JPEG, check_chain, check_description, check_page
from unettile.images.tifffacts import page_names, tiff_facts
from unettile.images.tiffimages import TiffImage, Unstitched, find_images, find_plane
from unettile.images.urls import url_of
from unettile.images.view import FIRST, Level, NoSuchImage, View, whole_factor

_MIN_IS_WHITE, _PALETTE = 0, 3


class TiffSlide:
    """One 2-D image, of any number of channels, of a TIFF file.

    Which image, resolution, plane and channels is said by the view. Thumbnails, labels and macro photographs beside an
    image are passed over. Channels may be samples of a pixel, separate planes, or pages that the file declares to be
    channels; only the chosen ones are read. The image is turned as its orientation says.

    Args:
        path: the file.
        view: which image; its pixel size is not looked at further than to choose the level.
        as_stored: give the stored numbers. Otherwise numbers mean what a viewer shows: palettes become grey, RGB or
            RGBA, white-is-zero is turned round, and bilevel is 0 and 255 instead of 0 and 1.

    Raises:
        InputError: the file cannot be read, is truncated, or has no pixels.
        NoSuchImage: it has no such image, or several of which the view chooses none.
        Unstitched: its tiles overlap; OpenSlide puts them together.
    """

    reader = "tiff"

    def __init__(self, path: Path, view: View = FIRST, as_stored: bool = False) -> None:
        self.path = path
        self._tif: Any = None
        url = url_of(path)
        self._file: BinaryIO | RemoteFile = path.open("rb", buffering=0) if url is None else RemoteFile(url)
        try:
            with _quiet():
                self._open(view, as_stored)
        except (NoSuchImage, Unstitched, Incomplete):
            self.close()
            raise
        except (InputError, Damaged) as error:
            self.close()
            raise _refusal(path, error) from error
        except Exception as error:  # a damaged header makes the parser raise whatever it likes
            self.close()
            text = " ".join(str(error).split())[:160] or type(error).__name__
            raise InputError(f"cannot read {path}: not a readable TIFF ({text})") from error

    def _open(self, view: View, as_stored: bool) -> None:
        source: Any = self._file if isinstance(self._file, RemoteFile) else self.path
        self._tif = tifffile.TiffFile(source)
        size = self._file.size if isinstance(self._file, RemoteFile) else self.path.stat().st_size
        check_chain(self._tif, size)
        check_description(self._tif, size)
        images = find_images(self._tif)
        main = [number for number, image in enumerate(images) if not image.companion]
        series = view.pick_series([image.name for image in images], main)
        image = images[series]
        check_page(image.levels[0].keyframe)
        facts = tiff_facts(self._tif, image.number, image.levels[0].keyframe)
        levels = _levels(image, facts.pixel_size_um)
        level, mpp = view.pick_level(levels)
        plane = find_plane(self._tif, image.levels[level], view)
        key = plane.pages[0].keyframe
        check_page(key)
        cache = Cache()
        white = self._tif.is_philips and key.samplesperpixel == 3  # what it did not scan it does not store
        self._readers = [
            SegmentReader(page, self._file, size, cache, within, 255 if white else None)
            for page, within in zip(plane.pages, plane.within, strict=True)
        ]
        self._sample = plane.sample
        self._readers[0].probe()
        self.orientation = known_orientation(image.levels[0].keyframe.tags.valueof(274))
        self.shape = shown_pair(levels[level].shape, self.orientation)
        edges = levels[level].pixel_size_um
        self.pixel_size_um = None if edges is None else shown_pair(edges, self.orientation)
        self.downsample = shown_pair(levels[level].downsample, self.orientation)
        self.spacing = facts.spacing
        self.origin_um = facts.origin_um if self.orientation == UPRIGHT else None
        placed = Georeference.of_tags({tag.code: tag.value for tag in image.levels[0].keyframe.tags})
        if placed is not None:
            placed = placed.scaled(*levels[level].downsample).turned(self.shape, self.orientation)
        self.georeference = placed
        self._stored_dtype = np.dtype(key.dtype).newbyteorder("=")
        self._table = _colour_table(key) if key.photometric == _PALETTE and not as_stored else None
        self._top = _white(key, self._stored_dtype) if key.photometric == _MIN_IS_WHITE and not as_stored else None
        self._bilevel = 1 if as_stored else 255
        stored = sum(map(self._channels_of, self._readers))
        names = facts.channel_names or page_names(self._tif, plane.pages)
        self._selected = view.pick_channels(stored if self._table is None else self._table.channels, names)
        self.channel_names = tuple(names[n] if n < len(names) else "" for n in self._selected)
        self.channels = len(self._selected)
        self.dtype = np.dtype(np.uint8) if self._bytes_out else self._stored_dtype
        opacity = None if plane.sampled else _opacity(key)
        self.no_data = NoData.of(self._empty_value(key), opacity, self.dtype)
        self.lossy = key.compression in JPEG
        self.view = view.resolved(series, (level, mpp), (plane.t, plane.z), self._selected)

    def _empty_value(self, page: Any) -> float | None:
        """Return the number that GDAL's tag declares, where pixels are shown as they are stored."""
        text = page.tags.valueof(42113)
        shown_as_stored = self._table is None and self._top is None and self._stored_dtype != np.bool_
        return stored_number(text, self._stored_dtype) if text is not None and shown_as_stored else None

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)

    @property
    def _bytes_out(self) -> bool:
        return self._table is not None or self._stored_dtype == np.bool_

    def read(self, box: Box) -> NDArray[Any]:
        """Return the region (h, w, channels); memory grows with the region and with one strip or tile.

        Args:
            box: a part of the image.

        Raises:
            InputError: a strip or tile is damaged.
        """
        assert Box.of_shape(self.shape).contains(box), f"{box} lies outside of {self.shape}"
        try:
            with _quiet():
                stored = self._read_stored(stored_box(box, self.shape, self.orientation))
        except Damaged as error:
            raise _refusal(self.path, error) from error
        pixels = stored if self.orientation == UPRIGHT else np.ascontiguousarray(turn(stored, self.orientation))
        if self._table is not None:
            return self._table.apply(pixels.view(np.uint8) if pixels.dtype == np.bool_ else pixels)[
                :, :, list(self._selected)
            ]
        if self._stored_dtype == np.bool_:
            shown = pixels if self._top is None else ~pixels
            return shown.view(np.uint8) * np.uint8(self._bilevel)
        return pixels if self._top is None else self._stored_dtype.type(self._top) - pixels

    def _read_stored(self, box: Box) -> NDArray[Any]:
        """Return the chosen channels as stored; of a palette image, the numbers."""
        wanted = self._selected if self._table is None else (0,)
        if len(self._readers) == 1:
            return self._readers[0].read(box, self._samples(wanted))
        out = np.empty((*box.shape, len(wanted)), self._stored_dtype)
        first = 0
        for reader in self._readers:
            count = self._channels_of(reader)
            places = [place for place, channel in enumerate(wanted) if first <= channel < first + count]
            if places:
                out[:, :, places] = reader.read(box, self._samples([wanted[place] - first for place in places]))
            first += count
        return out

    def _channels_of(self, reader: SegmentReader) -> int:
        """Return how many channels of the plane a page holds."""
        return reader.channels if self._sample is None else 1

    def _samples(self, channels: Sequence[int]) -> Sequence[int]:
        """Return the samples of a page that its channels are."""
        return channels if self._sample is None else [self._sample] * len(channels)

    def known(self, box: Box) -> None:
        """Return None: of what the file declares, a FilledSlide knows."""

    def close(self) -> None:
        self._file.close()
        if self._tif is not None:
            self._tif.close()

    def __enter__(self) -> TiffSlide:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _levels(image: TiffImage, pixel_size_um: PixelSize | None) -> list[Level]:
    """Return the resolutions of an image; all sizes of pixels follow from that of the largest."""
    levels = []
    base = image.levels[0].keyframe
    for one in image.levels:
        shape = int(one.keyframe.imagelength), int(one.keyframe.imagewidth)
        y, x = (
            whole_factor(int(long), max(1, short))
            for long, short in zip((base.imagelength, base.imagewidth), shape, strict=True)
        )
        size = None if pixel_size_um is None else (pixel_size_um[0] * y, pixel_size_um[1] * x)
        levels.append(Level(shape, (y, x), size))
    return levels


def _colour_table(page: Any) -> ColourTable:
    tag = page.tags.valueof(320)
    if tag is None or page.samplesperpixel != 1 or np.dtype(page.dtype).kind not in "bu":
        raise Damaged("it is a palette image without a usable palette")
    table = np.asarray(tag).reshape(3, -1).T
    # The standard has 16-bit colours; old writers put 8-bit ones there.
    return ColourTable(np.ascontiguousarray(table if table.max() < 256 else table >> 8).astype(np.uint8))


def _opacity(page: Any) -> int | None:
    """Return which sample of a pixel is its opacity (ExtraSamples 1 and 2); None if none is."""
    first = page.samplesperpixel - len(page.extrasamples)
    places = [first + place for place, kind in enumerate(page.extrasamples) if kind in (1, 2)]
    return places[0] if len(places) == 1 else None


def _white(page: Any, dtype: np.dtype[Any]) -> int:
    """Return the number that stands for black in a white-is-zero page."""
    if dtype.kind not in "bu" or not isinstance(page.bitspersample, int):
        raise Damaged(f"white is zero in it, and no number of {dtype} is black; save it as black-is-zero")
    return int(2**page.bitspersample - 1)


def _refusal(path: Path, error: Exception) -> InputError:
    text = " ".join(str(error).split())
    return InputError(f"cannot read {path}: {text[:300]}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep tifffile's log lines off the terminal: what matters of them becomes the refusal's own line."""
    logger = logging.getLogger("tifffile")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before
