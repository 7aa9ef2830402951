"""Chunks of an ND2: where the frames lie in the file, read by rows and no more than those.

header, name, data   header, name, data   …   map: name → place, length   the map's place
"""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.images.segments import SEGMENT_LIMIT

SIGNATURE = b"\xda\xce\xbe\x0a"

_HEADER = struct.Struct("<4sIQ")  # signature, bytes of the name, bytes of the data
_ENTRY = struct.Struct("<QQ")
_END = b"ND2 CHUNK MAP SIGNATURE 0000001!"
_MOST_MAP = 2**28
_STAMP = 8  # bytes of a time before the pixels


@dataclass(frozen=True)
class FrameLayout:
    """How a frame is stored: rows of pixels, each of as many numbers as there are channels.

    Args:
        shape: height and width, px.
        samples: numbers of a pixel.
        dtype: little-endian.
        row_bytes: from one row to the next.
        compressed: as a whole, by zlib.

    Raises:
        ValueError: rows that do not hold their pixels.
    """

    shape: tuple[int, int]
    samples: int
    dtype: np.dtype[Any]
    row_bytes: int
    compressed: bool

    def __post_init__(self) -> None:
        if min(*self.shape, self.samples) < 1 or self.row_bytes < self.shape[1] * self.pixel_bytes:
            raise ValueError(
                f"its frames of {self.shape[1]} × {self.samples} numbers have {self.row_bytes} bytes a row"
            )

    @property
    def pixel_bytes(self) -> int:
        return self.samples * self.dtype.itemsize

    @property
    def frame_bytes(self) -> int:
        """Of a frame, without what fills its last row."""
        return (self.shape[0] - 1) * self.row_bytes + self.shape[1] * self.pixel_bytes


class ChunkFile:
    """An open ND2 of the kind that is made of chunks.

    Raises:
        ValueError: it is damaged.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        try:
            self._size = os.fstat(self._file.fileno()).st_size
            self._places = self._map()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._file.close()

    def read(self, number: int, layout: FrameLayout, box: Box) -> NDArray[Any]:
        """Return a box of a frame, (h, w, samples).

        Raises:
            ValueError: the frame is not there, or damaged.
            OSError: the file cannot be read.
        """
        start, length = self._find(b"ImageDataSeq|%d!" % number)
        if layout.compressed:
            rows = _unpacked(self._bytes(start, length)[_STAMP:], layout)
            return rows[box.y0 : box.y1, box.x0 : box.x1]
        if length < _STAMP + layout.frame_bytes:
            raise ValueError(f"frame {number} has {length} bytes, need {_STAMP + layout.frame_bytes}")
        size, first = layout.pixel_bytes, start + _STAMP
        width = box.width * size
        parts = [self._bytes(first + y * layout.row_bytes + box.x0 * size, width) for y in range(box.y0, box.y1)]
        return np.frombuffer(b"".join(parts), layout.dtype).reshape(*box.shape, layout.samples)

    def _find(self, name: bytes) -> tuple[int, int]:
        """Return the place and the length of a chunk's data."""
        place = self._places.get(name)
        if place is None:
            raise ValueError(f"{name.decode('ascii', 'replace')} is not in it: its recording was stopped before")
        return self._data(place, name)

    def _data(self, place: int, name: bytes) -> tuple[int, int]:
        signature, named, length = _HEADER.unpack(self._bytes(place, _HEADER.size))
        start = place + _HEADER.size + named
        if signature != SIGNATURE or self._bytes(place + _HEADER.size, len(name)) != name:
            raise ValueError(f"{name.decode('ascii', 'replace')} is not where its map says")
        if length > self._size - start:
            raise ValueError(f"{name.decode('ascii', 'replace')} has {length} bytes, more than the file")
        return start, length

    def _map(self) -> dict[bytes, int]:
        tail = self._bytes(max(self._size - len(_END) - 8, 0), len(_END) + 8)
        if not tail.startswith(_END):
            raise ValueError("it ends before its map of chunks: get a complete copy")
        start, length = self._data(struct.unpack("<Q", tail[-8:])[0], b"ND2 FILEMAP SIGNATURE NAME 0001!")
        if length > _MOST_MAP:
            raise ValueError(f"its map of chunks has {length} bytes")
        data, places, at = self._bytes(start, length), {}, 0
        while (stop := data.find(b"!", at) + 1) > 0 and (name := data[at:stop]) != _END:
            if stop + _ENTRY.size > len(data):
                raise ValueError("its map of chunks is damaged")
            places[name], _ = _ENTRY.unpack_from(data, stop)
            at = stop + _ENTRY.size
        return places

    def _bytes(self, place: int, count: int) -> bytes:
        """Return bytes of the file."""
        data = b""
        while len(data) < count:
            more = os.pread(self._file.fileno(), min(count - len(data), 2**30), min(place + len(data), 2**62))
            if not more:
                raise ValueError(f"it ends at {place + len(data)}, need {count - len(data)} bytes more")
            data += more
        return data


def _unpacked(packed: bytes, layout: FrameLayout) -> NDArray[Any]:
    """Return a frame that was compressed, (H, W, samples)."""
    need = layout.shape[0] * layout.row_bytes
    assert need <= SEGMENT_LIMIT + layout.row_bytes, "who opens the file refuses larger planes"
    try:
        data = zlib.decompressobj().decompress(packed, need)
    except zlib.error as error:
        raise ValueError("a frame does not decompress") from error
    if len(data) < layout.frame_bytes:
        raise ValueError(f"a frame has {len(data)} bytes, need {layout.frame_bytes}")
    steps = (layout.row_bytes, layout.pixel_bytes, layout.dtype.itemsize)
    return np.ndarray((*layout.shape, layout.samples), layout.dtype, data, 0, steps)
