"""A slide of any size in a small file: all tiles of glass are one and the same piece of the file."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np

TILE = 512
GLASS = 235


def write_sparse_tiff(path: Path, edge: int, tissue: int) -> None:
    """Write an RGB TIFF of edge × edge px in deflated tiles: `tissue` of them noise, the others of one colour.

    The standard lets entries of the table of tiles point to one place; a writer that compresses tile by tile does not
    make use of that, hence the file is put together by hand.
    """
    rng = np.random.default_rng(0)
    count = (-(-edge // TILE)) ** 2
    places, sizes = [0] * count, [0] * count
    with path.open("wb") as file:
        file.write(bytes(8))

        def put(data: bytes) -> int:
            file.write(bytes(file.tell() % 2))
            start = file.tell()
            file.write(data)
            return start

        glass = zlib.compress(np.full((TILE, TILE, 3), GLASS, np.uint8).tobytes())
        places, sizes = [put(glass)] * count, [len(glass)] * count
        for number in range(tissue):
            index = (number * count // tissue + count // 2) % count
            data = zlib.compress(rng.integers(0, 255, (TILE, TILE, 3), np.uint8).tobytes(), 1)
            places[index], sizes[index] = put(data), len(data)
        short, long = 3, 4
        tags = (
            (256, long, 1, edge),  # width
            (257, long, 1, edge),  # height
            (258, short, 3, put(struct.pack("<3H", 8, 8, 8))),  # bits per sample
            (259, short, 1, 8),  # deflate
            (262, short, 1, 2),  # RGB
            (277, short, 1, 3),  # samples per pixel
            (284, short, 1, 1),  # interleaved
            (322, long, 1, TILE),
            (323, long, 1, TILE),
            (324, long, count, put(struct.pack(f"<{count}I", *places))),
            (325, long, count, put(struct.pack(f"<{count}I", *sizes))),
        )
        directory = put(struct.pack("<H", len(tags)))
        for tag in tags:
            file.write(struct.pack("<HHII", *tag))
        file.write(bytes(4))
        file.seek(0)
        file.write(b"II*\0" + struct.pack("<I", directory))
