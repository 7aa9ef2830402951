"""Fingerprint: what tells one image from another, as a plan and the metadata of an output hold it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from msgspec import Meta

from unettile.errors import InputError
from unettile.images.normalize import sample_boxes
from unettile.images.orientation import UPRIGHT
from unettile.images.remote import read_range, size_if_any, size_of
from unettile.images.slide import Slide
from unettile.images.urls import url_of
from unettile.typed import Count, Name, Sha256, Shape, Unfit, from_plain

_HEADER_BYTES = 2**16
_SAMPLE_BYTES = 2**16
_SAMPLES = 256
_REQUESTS = 16  # at once, to a server


@dataclass(frozen=True)
class Fingerprint:
    """What tells an image from another: cheap at 100 GB, and free of paths and times.

    Files of together up to 16 MiB are hashed whole. Of larger ones, the first 64 KiB and 256 pieces of 64 KiB, spread
    evenly from beginning to very end, are; a change between the pieces that keeps the length goes unnoticed. Of an
    array, the pixels that its intensity scaling is measured from are hashed: all up to 4 Mpx, else 256 squares.

    Args:
        bytes: of the files, or of an array's pixels.
        header_sha256, content_sha256: of the beginning, and of samples.
        reader: what reads it.
        shape: height and width, px.
        dtype: of its pixels, as numpy names it.
        channels: that are read.
        orientation: as TIFF counts them; upright where nothing was turned.

    Raises:
        ValueError: no type of pixels.
    """

    bytes: Count
    header_sha256: Sha256
    content_sha256: Sha256
    reader: Name
    shape: Shape
    dtype: Name
    channels: Annotated[int, Meta(ge=1, le=2**16)]
    orientation: Annotated[int, Meta(ge=1, le=8)] = UPRIGHT

    def __post_init__(self) -> None:
        if self.dtype not in _DTYPES:
            raise ValueError(f"dtype = {self.dtype[:60]!r}, need one of {', '.join(_DTYPES)}")

    @classmethod
    def of(cls, slide: Slide) -> Fingerprint:
        """Take the fingerprint of an image.

        Raises:
            InputError: a file cannot be read, or no plan can hold an image of that size.
        """
        size, header, content = _hash_files(slide) if slide.files else _hash_pixels(slide)
        values = {
            "bytes": size,
            "header_sha256": header,
            "content_sha256": content,
            "reader": slide.reader,
            "shape": list(slide.shape),
            "dtype": slide.dtype.name,
            "channels": slide.channels,
            "orientation": slide.orientation,
        }
        try:
            return from_plain(values, cls)
        except Unfit as error:
            raise InputError(f"{slide.path} cannot be worked on: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON; an upright image says nothing of how it lies."""
        values = asdict(self) | {"shape": list(self.shape)}
        if self.orientation == UPRIGHT:
            del values["orientation"]
        return values


_DTYPES = tuple(np.dtype(code).name for code in "?bBhHiIlLqQefd")


def _hash_pixels(slide: Slide) -> tuple[int, str, str]:
    """Return the bytes of an array's pixels, the hash of no header, and that of its samples."""
    content = hashlib.sha256()
    for box in sample_boxes(slide.shape):
        content.update(np.ascontiguousarray(slide.read(box)).data)
    size = slide.shape[0] * slide.shape[1] * slide.channels * slide.dtype.itemsize
    return size, hashlib.sha256().hexdigest(), content.hexdigest()


def _hash_files(slide: Slide) -> tuple[int, str, str]:
    """Return the bytes of an image's files, and the hashes of their beginning and of samples of them."""
    header, content = hashlib.sha256(), hashlib.sha256()
    try:
        sizes = _sizes(slide.files)
        if len(sizes) > 1:  # which of several files are there, and how long each is
            header.update(json.dumps(sizes).encode())
        pieces = _Pieces(slide.files, sizes)
        header.update(pieces.read(0, _HEADER_BYTES))
        if pieces.size <= _SAMPLES * _SAMPLE_BYTES:
            starts, length = [0], pieces.size
        else:
            starts = [(pieces.size - _SAMPLE_BYTES) * i // (_SAMPLES - 1) for i in range(_SAMPLES)]
            length = _SAMPLE_BYTES
        for piece in pieces.read_all(starts, length):
            content.update(piece)
    except OSError as error:
        raise InputError(f"cannot read {slide.path}: {(error.strerror or str(error)).lower()}") from error
    return pieces.size, header.hexdigest(), content.hexdigest()


def _sizes(files: Sequence[Path]) -> list[int]:
    """Return the bytes of files, -1 for one that is not there."""
    urls = [url_of(path) for path in files]
    if any(urls):
        with ThreadPoolExecutor(_REQUESTS) as pool:
            return list(pool.map(lambda url: (size_if_any if len(urls) > 1 else size_of)(url or ""), urls))
    return [path.stat().st_size if path.exists() else -1 for path in files]


class _Pieces:
    """Files one after the other, as if they were one; those of size -1 are not there."""

    def __init__(self, files: Sequence[Path], sizes: Sequence[int]) -> None:
        self._files = [(path, size) for path, size in zip(files, sizes, strict=True) if size > 0]
        self._starts = [0, *accumulate(size for _, size in self._files)]
        self.size = self._starts[-1]

    def read(self, start: int, length: int) -> bytes:
        return b"".join(self.read_all([start], length))

    def read_all(self, starts: Sequence[int], length: int) -> Iterator[bytes]:
        """Yield the pieces that begin at `starts`, or parts of them, in order; of files on a server several at once."""
        parts = [part for start in starts for part in self._parts(start, length)]
        if parts and url_of(parts[0][0]) is not None:
            with ThreadPoolExecutor(_REQUESTS) as pool:
                yield from pool.map(lambda part: read_range(url_of(part[0]) or "", part[1], part[2]), parts)
            return
        for path, start, stop in parts:
            with path.open("rb") as file:
                file.seek(start)
                yield file.read(stop - start)

    def _parts(self, start: int, length: int) -> Iterator[tuple[Path, int, int]]:
        """Yield the files under a piece, and which of their bytes it holds."""
        for (path, size), first in zip(self._files, self._starts, strict=False):
            here, there = max(start, first), min(start + length, first + size)
            if here < there:
                yield path, here - first, there - first
