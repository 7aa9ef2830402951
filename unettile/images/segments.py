"""Segments: regions of one TIFF page, read strip by strip or tile by tile.

page, cut into segments (strips are segments as wide as the page)
+-------+-------+-------+
|       |   ....|....   |     Only the segments under the region are touched. Uncompressed ones are read row by
+-------+---.---+---.---+     row straight from the file; compressed ones are decoded whole and kept, newest last,
|       |   ....|....   |     up to a fixed number of bytes: neighbouring windows share them.
+-------+-------+-------+
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.images.cache import Cache
from unettile.images.declared import check_picture
from unettile.images.remote import RemoteFile
from unettile.wording import size_text

SEGMENT_LIMIT = 2**30
"""Largest decoded strip or tile, in bytes; a larger one would have to be held whole in memory."""

_WHOLE_BYTES = (8, 16, 32, 64)


class Damaged(Exception):
    """A page, or a segment of it, that cannot be read; the message completes "cannot read FILE: …"."""


class SegmentReader:
    """Reads regions of one page in memory proportional to the region and to one segment.

    Args:
        page: a tifffile page or frame of one 2-D plane (depth 1).
        file: the open file, unbuffered.
        file_size: bytes.
        cache: of the slide that the page is a part of.
        plane: of a stack whose planes follow each other in the file after those of the page, the one to read.
        fill: what a missing segment is full of; None for what the page says, or 0.

    Raises:
        Damaged: the table of segments is incomplete, points past the end of the file, or a segment is too large.
    """

    def __init__(
        self,
        page: Any,
        file: BinaryIO | RemoteFile,
        file_size: int,
        cache: Cache,
        plane: int = 0,
        fill: int | None = None,
    ) -> None:
        # Page is Any: tifffile's pages and frames share attributes, but no declared type.
        key = page.keyframe
        self._page = page
        self._decode: Any = None
        self._file = file
        self._cache = cache
        self.planes = int(key.shaped[0])
        self.samples = int(key.shaped[4])
        self.height = int(key.imagelength)
        self.width = int(key.imagewidth)
        self.dtype = np.dtype(key.dtype).newbyteorder("=")
        tiled = key.is_tiled
        self._rows = int(key.tilelength if tiled else key.rowsperstrip)
        self._columns = int(key.tilewidth if tiled else key.imagewidth)
        if self._rows < 1 or self._columns < 1:
            raise Damaged("its strips or tiles have no size")
        self._down = math.ceil(self.height / self._rows)
        self._across = math.ceil(self.width / self._columns)
        self._file_dtype = np.dtype(page.parent.byteorder + key.dtype.char)
        self._raw = (
            key.compression == 1
            and key.predictor == 1
            and key.fillorder == 1
            and key.sampleformat != 5
            and key.bitspersample in _WHOLE_BYTES
            and key.bitspersample == 8 * self.dtype.itemsize
        )
        self._tiled = tiled
        self._alone = self._raw and self._down * self._across * self.planes == 1  # its byte count is often left at 0
        self._fill = key.nodata if fill is None else fill
        self._offsets, self._counts = page.dataoffsets, page.databytecounts
        if plane > 0:
            self._follow(plane)
        self._check(file_size)

    @property
    def channels(self) -> int:
        return self.planes * self.samples

    def probe(self) -> None:
        """Decode the first segment, to refuse an unknown or unsupported compression before anything is written.

        Raises:
            Damaged: it cannot be decoded.
        """
        stored = np.flatnonzero(np.asarray(self._counts[: self._down * self._across * self.planes]))
        if not self._raw and len(stored):
            index = int(stored[0])
            self._read_segment(index, Box(0, 0, 1, 1), index // self._across % self._down)

    def read(self, box: Box, channels: Sequence[int]) -> NDArray[Any]:
        """Return the region as an array (h, w, channels) of the page's own type and native byte order.

        Args:
            box: a part of the page.
            channels: those to read, in the order wanted; planes without one of them are not touched.

        Raises:
            Damaged: a segment cannot be decoded.
        """
        out = np.empty((box.height, box.width, len(channels)), self.dtype)
        for plane in range(self.planes):
            places = [place for place, channel in enumerate(channels) if channel // self.samples == plane]
            if not places:
                continue
            samples = [channels[place] % self.samples for place in places]
            whole = samples == list(range(self.samples)) and len(places) == len(channels)
            for row in range(box.y0 // self._rows, -(-box.y1 // self._rows)):
                for column in range(box.x0 // self._columns, -(-box.x1 // self._columns)):
                    y, x = row * self._rows, column * self._columns
                    part = box.intersect(Box(y, x, y + self._rows, x + self._columns))
                    index = (plane * self._down + row) * self._across + column
                    pixels = self._read_segment(index, part.shift(-y, -x), row)
                    place = part.relative_to(box).slices
                    if whole:
                        out[place] = pixels
                    else:
                        out[(*place, places)] = pixels[..., samples] if isinstance(pixels, np.ndarray) else pixels
        return out

    def _follow(self, plane: int) -> None:
        """Move to a later plane of a stack that has one page for all.

        Raises:
            Damaged: its planes are compressed or tiled, so that it is not known where they begin.
        """
        if not self._raw or self._tiled:
            raise Damaged("its planes are not stored as pages of their own; save it as a plain TIFF")
        step = plane * self.height * self.width * self.channels * self.dtype.itemsize
        self._offsets = tuple(offset + step for offset in self._offsets)

    def _read_segment(self, index: int, part: Box, row: int) -> Any:
        """Return part (in the segment's own frame) of a segment, or the number that fills a missing one."""
        if self._offsets[index] == 0 or (self._counts[index] == 0 and not self._alone):
            return self._fill
        if self._raw:
            return self._read_raw(index, part)
        decoded = self._cache.get((self._page.offset, index), lambda: self._decoded(index, row))
        return self._fill if decoded is None else decoded[part.slices]

    def _read_raw(self, index: int, part: Box) -> NDArray[Any]:
        """Read the rows of an uncompressed segment; whole rows at once if they are not much longer than the part."""
        offset = self._offsets[index]
        pixel = self.samples * self._file_dtype.itemsize
        pitch = self._columns * pixel
        if part.width * 4 >= self._columns:
            data = self._bytes(offset + part.y0 * pitch, part.height * pitch)
            rows = np.frombuffer(data, self._file_dtype).reshape(part.height, self._columns, self.samples)
            return rows[:, part.x0 : part.x1]
        out = np.empty((*part.shape, self.samples), self._file_dtype)
        for y in range(part.height):
            data = self._bytes(offset + (part.y0 + y) * pitch + part.x0 * pixel, part.width * pixel)
            out[y] = np.frombuffer(data, self._file_dtype).reshape(part.width, self.samples)
        return out

    def _decoded(self, index: int, row: int) -> NDArray[Any] | None:
        data = self._bytes(self._offsets[index], self._counts[index])
        where = f"{'tile' if self._tiled else 'strip'} {index} cannot be decoded"
        key = self._page.keyframe
        try:
            if self._decode is None:
                self._decode = key.decode
            check_picture(data, (self._rows, self._columns))
            decoded, _, _ = self._decode(data, index, jpegtables=self._page.jpegtables, jpegheader=key.jpegheader)
        except Exception as error:  # a decoder fed with damaged bytes raises whatever it likes
            raise Damaged(f"{where} ({_one_line(error)})") from error
        if decoded is None:
            return None
        segment: NDArray[Any] = np.asarray(decoded)[0]
        need_rows, need_columns = min(self._rows, self.height - row * self._rows), min(self._columns, self.width)
        if segment.ndim != 3 or segment.shape[2] != self.samples or segment.shape[0] < need_rows:
            raise Damaged(f"{where} (it has the shape {segment.shape})")
        column = index % self._across
        if segment.shape[1] < min(need_columns, self.width - column * self._columns):
            raise Damaged(f"{where} (it has the shape {segment.shape})")
        if segment.dtype != self.dtype:
            if self.dtype != np.bool_ and not np.can_cast(segment.dtype, self.dtype, "safe"):
                raise Damaged(f"{where} (it holds {segment.dtype}, the file declares {self.dtype})")
            segment = segment.astype(self.dtype)  # fax decoders give bytes for bits
        bits = key.bitspersample
        if key.predictor == 2 and isinstance(bits, int) and bits not in _WHOLE_BYTES and self.dtype.kind == "u":
            # Differences of packed integers wrap at their own width, the decoder's sums at the array's.
            segment = np.bitwise_and(segment, self.dtype.type(2**bits - 1))
        return segment

    def _bytes(self, offset: int, count: int) -> bytes:
        parts = []
        while count > 0:
            try:
                part = self._pread(min(count, 2**30), offset)
            except OSError as error:
                raise Damaged(f"reading failed at byte {offset} ({error.strerror})") from error
            if not part:
                raise Damaged(f"it ended at byte {offset}, though it was longer when it was opened")
            parts.append(part)
            offset += len(part)
            count -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _pread(self, count: int, offset: int) -> bytes:
        file = self._file
        return file.pread(count, offset) if isinstance(file, RemoteFile) else os.pread(file.fileno(), count, offset)

    def _check(self, file_size: int) -> None:
        """Refuse, before anything is read, a page whose pixels cannot all be in the file."""
        kind = "tiles" if self._tiled else "strips"
        expected = self._down * self._across * self.planes
        listed = min(len(self._offsets), len(self._counts))
        if listed < expected:
            raise Damaged(f"{size_text((self.height, self.width))} need {expected} {kind}, but it lists {listed}")
        size = self._rows * self._columns * self.samples * self.dtype.itemsize
        if not self._raw and size > SEGMENT_LIMIT:
            raise Damaged(
                f"one of its compressed {kind} takes {size / 2**30:.1f} GiB in memory, the limit is"
                f" {SEGMENT_LIMIT / 2**30:.0f} GiB; rewrite it with smaller tiles"
            )
        offsets = np.asarray(self._offsets[:expected], dtype=np.float64)
        counts = np.asarray(self._counts[:expected], dtype=np.float64)
        if self._raw:
            counts = np.where((counts == 0) & (not self._alone), 0.0, self._raw_sizes(expected))
        ends = np.where((offsets > 0) & (counts > 0), offsets + counts, 0.0)
        if (offsets < 0).any() or (counts < 0).any():
            raise Damaged(f"the table of its {kind} holds negative numbers")
        if ends.max() > file_size:
            first = int(np.argmax(ends > file_size))
            raise Damaged(
                f"it is truncated: {kind[:-1]} {first} of {expected} ends at byte {ends[first]:.0f},"
                f" the file at byte {file_size}; get a complete copy"
            )

    def _raw_sizes(self, expected: int) -> NDArray[np.float64]:
        """Return the bytes that each uncompressed segment must have; the last strip of a plane may be shorter."""
        pitch = self._columns * self.samples * self.dtype.itemsize
        rows = np.full(expected, self._rows, dtype=np.float64)
        if not self._tiled:
            rows[self._down - 1 :: self._down] = self.height - (self._down - 1) * self._rows
        sizes: NDArray[np.float64] = rows * pitch
        return sizes


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return (text or type(error).__name__)[:160]
