"""TIFF directories: tiles that come in any order, and the tables that say where they are.

    as it comes   header | tile | tile | … | directory | its values | directory | its values | …
    in order      header | directory | its values | … | tiles of the smallest level | … | tiles of level 0

In order is what maps call cloud-optimised: a reader learns from the beginning of the file where everything is, and what
it needs for a view lies together. Layout after TIFF 6.0 and, with 64-bit offsets, BigTIFF; little-endian.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, BinaryIO

import numpy as np

from unettile import __version__
from unettile.images.canvas import TILE_EDGE
from unettile.images.colours import Colour
from unettile.images.georeference import Georeference, pack_entry
from unettile.images.pixelsize import PixelSize

_ASCII, _SHORT, _LONG, _RATIONAL, _IFD, _LONG8, _IFD8 = 2, 3, 4, 5, 13, 16, 18
_KINDS = {"s": _ASCII, "H": _SHORT, "d": 12}
_GDAL_NODATA = 42113
_DEFLATE, _GREY, _PALETTE, _SEPARATE = 8, 1, 3, 2
_NO_UNIT, _CENTIMETRE = 1, 3  # of the tag ResolutionUnit
_REDUCED = 1  # bit of NewSubfileType: a lower resolution of another image in the file


@dataclass
class Page:
    """An image in a TIFF: what its directory says, and where its tiles went.

    Args:
        shape: height and width, px.
        dtype: of the samples.
        samples: planes, stored one after the other.
        palette: colours of the numbers 0, 1, …; empty for grey.
        reduced: it is a lower resolution of another page.
        description: UTF-8 in the file; may be empty.
        pixel_size_um: height and width of a pixel.
        offset_um: where the first pixel lies (y, x); TIFF states it only where it is not negative.
        levels: pages that only this one points to (SubIFDs), largest first.
        georeference: where on earth the pixels lie; None if it is not known.
        no_data: the number of pixels that hold nothing; None if there is none.
        strip: it is one strip of plain numbers, as ImageJ wants the planes of a stack, instead of deflated tiles; and
            its resolution is in px a µm, of a unit that the description of the stack says.
    """

    shape: tuple[int, int]
    dtype: np.dtype[Any]
    samples: int = 1
    palette: tuple[Colour, ...] = ()
    reduced: bool = False
    description: str = ""
    pixel_size_um: PixelSize | None = None
    offset_um: tuple[float, float] | None = None
    levels: list[Page] = field(default_factory=list)
    georeference: Georeference | None = None
    no_data: int | None = None
    strip: bool = False

    def __post_init__(self) -> None:
        self.offsets, self.sizes = np.zeros((2, self.samples * self.tiles), np.uint64)

    @property
    def columns(self) -> int:
        return -(-self.shape[1] // TILE_EDGE)

    @property
    def tiles(self) -> int:
        """How many tiles, or strips, a plane has."""
        if self.strip:
            return 1
        return -(-self.shape[0] // TILE_EDGE) * self.columns


class TiffFile:
    """A TIFF that is being written.

    Args:
        file: open for writing and, if it is to be put in order, for reading; empty.
        big: write a BigTIFF, which may be larger than 4 GiB.
    """

    def __init__(self, file: BinaryIO, big: bool) -> None:
        self._file, self._big = file, big
        self._word = "<Q" if big else "<I"
        self._end = file.write(self._header(0))

    def add_tile(self, page: Page, index: int, data: bytes) -> None:
        """Append a compressed tile; `index` counts those of all planes of the page, row by row."""
        page.offsets[index], page.sizes[index] = self._end, len(data)
        self._end += self._file.write(data)

    def reserve(self, page: Page) -> None:
        """Keep room for the strip of a page, after all that there is."""
        page.offsets[0], page.sizes[0] = self._end, page.shape[0] * page.shape[1] * page.dtype.itemsize
        self._end += int(page.sizes[0])

    def write_rows(self, page: Page, row: int, data: bytes) -> None:
        """Write rows into the strip of a page."""
        self._file.seek(int(page.offsets[0]) + row * page.shape[1] * page.dtype.itemsize)
        self._file.write(data)

    def finish(self, pages: Sequence[Page]) -> None:
        """Write the directories; each page follows the one before, its levels hang from it."""
        self._check_whole(pages)
        start = self._end + -self._end % struct.calcsize(self._word)
        self._file.seek(self._end)
        self._file.write(bytes(start - self._end) + self._directories(pages, start))
        self._file.seek(0)
        self._file.write(self._header(start + self._levels_length(pages[0])))

    def put_in_order(self, pages: Sequence[Page], file: BinaryIO) -> None:
        """Write another TIFF of the same tiles, its directories first, then the tiles, those of the last page first.

        Args:
            pages: the largest resolution first.
            file: open for writing, empty.
        """
        self._check_whole(pages)
        self._file.flush()
        start = len(self._header(0))
        end = start + len(self._directories(pages, start))
        before = [page.offsets.copy() for page in pages]
        for page in reversed(pages):
            page.offsets[:] = end + np.cumsum(page.sizes) - page.sizes
            end += int(page.sizes.sum())
        file.write(self._header(start + self._levels_length(pages[0])) + self._directories(pages, start))
        for page, offsets in zip(reversed(pages), reversed(before), strict=True):
            for offset, size in zip(offsets.tolist(), page.sizes.tolist(), strict=True):
                file.write(os.pread(self._file.fileno(), size, offset))

    @staticmethod
    def _check_whole(pages: Sequence[Page]) -> None:
        assert all(one.sizes.all() for page in pages for one in (page, *page.levels)), "a tile is missing"

    def _header(self, first: int) -> bytes:
        """Return the beginning of the file, which points to the first directory."""
        if self._big:
            return struct.pack("<2sHHHQ", b"II", 43, 8, 0, first)
        return struct.pack("<2sHI", b"II", 42, first)

    def _directories(self, pages: Sequence[Page], start: int) -> bytes:
        """Return the directories of pages and of their levels, of which the first lies at `start`, a whole word."""
        out = b""
        for number, page in enumerate(pages):
            levels = []
            for level in page.levels:
                levels.append(start + len(out))
                out += self._directory(level, [], levels[-1], 0)
            place = start + len(out)
            one = self._directory(page, levels, place, 0)
            last = number + 1 == len(pages)
            following = 0 if last else place + len(one) + self._levels_length(pages[number + 1])
            out += one if last else self._directory(page, levels, place, following)
        return out

    def _levels_length(self, page: Page) -> int:
        """Return the bytes of the directories of a page's levels, which lie before its own."""
        return sum(len(self._directory(level, [], 0, 0)) for level in page.levels)

    def _directory(self, page: Page, levels: list[int], start: int, following: int) -> bytes:
        """Return a directory that lies at `start`, and points to the one that follows, if any; whole words."""
        entries = self._entries(page, levels)
        word = struct.calcsize(self._word)
        count = struct.pack("<Q" if self._big else "<H", len(entries))
        at = start + len(count) + len(entries) * (4 + 2 * word) + word
        table, values = [count], []
        for tag, kind, number, data in entries:
            table.append(struct.pack("<HH", tag, kind) + struct.pack(self._word, number))
            if len(data) > word:
                table.append(struct.pack(self._word, at))
                values.append(data + bytes(-len(data) % word))
                at += len(values[-1])
            else:
                table.append(data.ljust(word, b"\0"))
        whole = b"".join([*table, struct.pack(self._word, following), *values])
        return whole + bytes(-len(whole) % word)

    def _entries(self, page: Page, levels: list[int]) -> list[tuple[int, int, int, bytes]]:
        """Return tag, type, count and value of every entry, sorted by tag."""
        samples = page.samples
        offset, pointer = (_LONG8, _IFD8) if self._big else (_LONG, _IFD)
        entries = [
            (254, *_longs([_REDUCED if page.reduced else 0])),
            (256, *_longs([page.shape[1]])),
            (257, *_longs([page.shape[0]])),
            (258, *_shorts([8 * page.dtype.itemsize] * samples)),
            (259, *_shorts([1 if page.strip else _DEFLATE])),
            (262, *_shorts([_PALETTE if page.palette else _GREY])),
            (277, *_shorts([samples])),
            (305, *_text(f"unettile {__version__}")),
            (273 if page.strip else 324, offset, len(page.offsets), page.offsets.astype(self._word).tobytes()),
            (279 if page.strip else 325, _LONG, len(page.sizes), page.sizes.astype("<u4").tobytes()),
            (339, *_shorts([3 if page.dtype.kind == "f" else 1] * samples)),
        ]
        if page.strip:
            entries.append((278, *_longs([page.shape[0]])))
        else:
            entries += [(322, *_longs([TILE_EDGE])), (323, *_longs([TILE_EDGE]))]
        if page.description:
            entries.append((270, *_text(page.description)))
        if samples > 1:
            entries += [(284, *_shorts([_SEPARATE])), (338, *_shorts([0] * (samples - 1)))]
        unit, unit_um = (_NO_UNIT, 1.0) if page.strip else (_CENTIMETRE, 1e4)
        if page.pixel_size_um is not None and unit_um / min(page.pixel_size_um) < 2**32:
            y, x = (_rational(unit_um / size) for size in page.pixel_size_um)
            entries += [(282, *x), (283, *y), (296, *_shorts([unit]))]
            if page.offset_um is not None and 0 <= min(page.offset_um) <= max(page.offset_um) < 1e12:
                y, x = (_rational(um / 1e4) for um in page.offset_um)
                entries += [(286, *x), (287, *y)]
        if page.palette:
            colours = np.zeros((3, 256), "<u2")
            colours[:, : len(page.palette)] = np.array(page.palette, np.uint16).T * 257
            entries.append((320, _SHORT, colours.size, colours.tobytes()))
        for entry in () if page.georeference is None else page.georeference.entries():
            entries.append((entry[0], _KINDS[entry[1]], *pack_entry(entry)))
        if page.no_data is not None:
            entries.append((_GDAL_NODATA, *_text(str(page.no_data))))
        if levels:
            entries.append((330, pointer, len(levels), np.array(levels, self._word).tobytes()))
        return sorted(entries)


def _shorts(values: list[int]) -> tuple[int, int, bytes]:
    return _SHORT, len(values), struct.pack(f"<{len(values)}H", *values)


def _longs(values: list[int]) -> tuple[int, int, bytes]:
    return _LONG, len(values), struct.pack(f"<{len(values)}I", *values)


def _text(text: str) -> tuple[int, int, bytes]:
    data = text.encode() + b"\0"
    return _ASCII, len(data), data


def _rational(value: float) -> tuple[int, int, bytes]:
    """Return a TIFF rational, two 32-bit integers, as near to a number from 0 to 2³² as they allow."""
    small = 2**-31 < value < 1e-3  # of which the inverse is nearer
    whole = 1 / value if small else value
    fraction = Fraction(whole).limit_denominator(max(1, min(10**6, int((2**32 - 1) / (whole + 1)))))
    parts = fraction.numerator, fraction.denominator
    return _RATIONAL, 1, struct.pack("<II", *(reversed(parts) if small else parts))
