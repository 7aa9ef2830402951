"""TIFF directories: a file whose tiles come in any order, first, and the tables that say where they are, last.

    header | tile | tile | … | directory | its values | directory | its values | …

The header's and each directory's pointer to the next one are filled in at the end. Layout after TIFF 6.0 and, with
64-bit offsets, BigTIFF; little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, BinaryIO

import numpy as np

from unettile import __version__
from unettile.images.canvas import TILE_EDGE
from unettile.images.colours import Colour
from unettile.images.pixelsize import PixelSize

_ASCII, _SHORT, _LONG, _RATIONAL, _IFD, _LONG8, _IFD8 = 2, 3, 4, 5, 13, 16, 18
_DEFLATE, _GREY, _PALETTE, _SEPARATE, _CENTIMETRE = 8, 1, 3, 2, 3
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

    def __post_init__(self) -> None:
        self.offsets, self.sizes = np.zeros((2, self.samples * self.tiles), np.uint64)

    @property
    def columns(self) -> int:
        return -(-self.shape[1] // TILE_EDGE)

    @property
    def tiles(self) -> int:
        """How many tiles a plane has."""
        return -(-self.shape[0] // TILE_EDGE) * self.columns


class TiffFile:
    """A TIFF that is being written.

    Args:
        file: open for writing, empty.
        big: write a BigTIFF, which may be larger than 4 GiB.
    """

    def __init__(self, file: BinaryIO, big: bool) -> None:
        self._file, self._big = file, big
        self._word = "<Q" if big else "<I"
        self._link = 8 if big else 4  # where the pointer to the first directory lies
        self._end = file.write(
            struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0) if big else struct.pack("<2sHI", b"II", 42, 0)
        )

    def add_tile(self, page: Page, index: int, data: bytes) -> None:
        """Append a compressed tile; `index` counts those of all planes of the page, row by row."""
        page.offsets[index], page.sizes[index] = self._end, len(data)
        self._end += self._file.write(data)

    def finish(self, pages: Sequence[Page]) -> None:
        """Write the directories; each page follows the one before, its levels hang from it."""
        link = self._link
        for page in pages:
            assert page.sizes.all() and all(level.sizes.all() for level in page.levels), "a tile is missing"
            levels = [self._directory(level, [])[0] for level in page.levels]
            start, following = self._directory(page, levels)
            self._file.seek(link)
            self._file.write(struct.pack(self._word, start))
            self._file.seek(self._end)
            link = following

    def _directory(self, page: Page, levels: list[int]) -> tuple[int, int]:
        """Write one directory; return where it begins and where its pointer to the next one lies."""
        entries = self._entries(page, levels)
        word = struct.calcsize(self._word)
        self._end += self._file.write(bytes(-self._end % word))
        count = struct.pack("<Q" if self._big else "<H", len(entries))
        start, link = self._end, self._end + len(count) + len(entries) * (4 + 2 * word)
        at = link + word
        table, values = [count], []
        for tag, kind, number, data in entries:
            table.append(struct.pack("<HH", tag, kind) + struct.pack(self._word, number))
            if len(data) > word:
                table.append(struct.pack(self._word, at))
                values.append(data + bytes(-len(data) % word))
                at += len(values[-1])
            else:
                table.append(data.ljust(word, b"\0"))
        self._end += self._file.write(b"".join([*table, bytes(word), *values]))
        return start, link

    def _entries(self, page: Page, levels: list[int]) -> list[tuple[int, int, int, bytes]]:
        """Return tag, type, count and value of every entry, sorted by tag."""
        samples = page.samples
        offset, pointer = (_LONG8, _IFD8) if self._big else (_LONG, _IFD)
        entries = [
            (254, *_longs([_REDUCED if page.reduced else 0])),
            (256, *_longs([page.shape[1]])),
            (257, *_longs([page.shape[0]])),
            (258, *_shorts([8 * page.dtype.itemsize] * samples)),
            (259, *_shorts([_DEFLATE])),
            (262, *_shorts([_PALETTE if page.palette else _GREY])),
            (277, *_shorts([samples])),
            (305, *_text(f"unettile {__version__}")),
            (322, *_longs([TILE_EDGE])),
            (323, *_longs([TILE_EDGE])),
            (324, offset, len(page.offsets), page.offsets.astype(self._word).tobytes()),
            (325, _LONG, len(page.sizes), page.sizes.astype("<u4").tobytes()),
            (339, *_shorts([3 if page.dtype.kind == "f" else 1] * samples)),
        ]
        if page.description:
            entries.append((270, *_text(page.description)))
        if samples > 1:
            entries += [(284, *_shorts([_SEPARATE])), (338, *_shorts([0] * (samples - 1)))]
        if page.pixel_size_um is not None and 1e4 / min(page.pixel_size_um) < 2**32:
            y, x = (_rational(1e4 / size) for size in page.pixel_size_um)
            entries += [(282, *x), (283, *y), (296, *_shorts([_CENTIMETRE]))]
            if page.offset_um is not None and 0 <= min(page.offset_um) <= max(page.offset_um) < 1e12:
                y, x = (_rational(um / 1e4) for um in page.offset_um)
                entries += [(286, *x), (287, *y)]
        if page.palette:
            colours = np.zeros((3, 256), "<u2")
            colours[:, : len(page.palette)] = np.array(page.palette, np.uint16).T * 257
            entries.append((320, _SHORT, colours.size, colours.tobytes()))
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
    fraction = Fraction(value).limit_denominator(max(1, min(10**6, int((2**32 - 1) / (value + 1)))))
    return _RATIONAL, 1, struct.pack("<II", fraction.numerator, fraction.denominator)
