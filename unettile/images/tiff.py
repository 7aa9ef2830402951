"""TIFF: one image of a TIFF, BigTIFF, OME-TIFF, ImageJ or Aperio file, read by region."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import tifffile
from numpy.typing import NDArray

from unettile.box import Box
from unettile.errors import InputError
from unettile.images.colours import ColourTable
from unettile.images.pixelsize import PixelSize, tiff_pixel_size
from unettile.images.segments import Damaged, SegmentReader

_MIN_IS_WHITE, _PALETTE, _YCBCR = 0, 3, 6
_JPEG = (6, 7, 33007, 34892)
_APERIO_YCBCR = 33003
_COMPANIONS = ("label", "macro", "map", "thumbnail", "overview")


class TiffSlide:
    """One 2-D image, of any number of channels, of a TIFF file.

    The largest resolution is read; pyramid levels, thumbnails, labels and macro photographs beside it are passed over.
    Channels may be samples of a pixel, separate planes, or pages that the file declares to be channels.

    Args:
        path: the file.
        as_stored: give the stored numbers. Otherwise numbers mean what a viewer shows: palettes become grey, RGB or
            RGBA, white-is-zero is turned round, and bilevel is 0 and 255 instead of 0 and 1.

    Raises:
        InputError: the file cannot be read, is truncated, holds several images or a stack, or has no pixels.
    """

    def __init__(self, path: Path, as_stored: bool = False) -> None:
        self.path = path
        self._tif: Any = None
        self._file: BinaryIO = path.open("rb", buffering=0)
        try:
            with _quiet():
                self._open(as_stored)
        except (InputError, Damaged) as error:
            self.close()
            raise _refusal(path, error) from error
        except Exception as error:  # a damaged header makes the parser raise whatever it likes
            self.close()
            text = " ".join(str(error).split())[:160] or type(error).__name__
            raise InputError(f"cannot read {path}: not a readable TIFF ({text})") from error

    def _open(self, as_stored: bool) -> None:
        self._tif = tifffile.TiffFile(self.path)
        size = self.path.stat().st_size
        _check_chain(self._tif, size)
        pages = _choose_pages(self._tif)
        key = pages[0].keyframe
        _check_page(key)
        self._readers = [SegmentReader(page, self._file, size) for page in pages]
        self._readers[0].probe()
        self.shape = (int(key.imagelength), int(key.imagewidth))
        self._stored_dtype = np.dtype(key.dtype).newbyteorder("=")
        self._stored_channels = sum(reader.channels for reader in self._readers)
        self._table = _colour_table(key) if key.photometric == _PALETTE and not as_stored else None
        self._top = _white(key, self._stored_dtype) if key.photometric == _MIN_IS_WHITE and not as_stored else None
        self._bilevel = 1 if as_stored else 255
        self.channels = self._stored_channels if self._table is None else self._table.channels
        self.dtype = np.dtype(np.uint8) if self._bytes_out else self._stored_dtype
        self.pixel_size_um: PixelSize | None = tiff_pixel_size(self._tif, key)

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
                parts = [reader.read(box) for reader in self._readers]
        except Damaged as error:
            raise _refusal(self.path, error) from error
        pixels = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)
        if self._table is not None:
            return self._table.apply(pixels.view(np.uint8) if pixels.dtype == np.bool_ else pixels)
        if self._stored_dtype == np.bool_:
            shown = pixels if self._top is None else ~pixels
            return shown.view(np.uint8) * np.uint8(self._bilevel)
        return pixels if self._top is None else self._stored_dtype.type(self._top) - pixels

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


def _check_chain(tif: Any, file_size: int) -> None:
    """Refuse a file whose last page announces another past its end: tifffile would quietly do without it.

    Raises:
        Damaged: pages are missing.
    """
    offset = int(tif.pages[len(tif.pages) - 1].offset) if len(tif.pages) else 0
    if offset <= 0 or tif.tiff.is_ndpi:
        return
    handle, form = tif.filehandle, tif.tiff
    handle.seek(offset)
    (tags,) = struct.unpack(form.tagnoformat, handle.read(form.tagnosize))
    handle.seek(offset + form.tagnosize + tags * form.tagsize)
    (following,) = struct.unpack(form.offsetformat, handle.read(form.offsetsize))
    if following >= file_size:
        raise Damaged(
            f"it is truncated: another page should begin at byte {following}, but the file ends at byte {file_size};"
            " get a complete copy"
        )


def _choose_pages(tif: Any) -> list[Any]:
    """Return the pages that hold the channels of the file's one image.

    Raises:
        Damaged: there is none, more than one, or a stack.
    """
    if len(tif.pages) == 0:
        raise Damaged("it holds no image")
    try:
        series = list(tif.series)
    except Exception:  # a description that only looks like one of the forms that tifffile knows
        if len(tif.pages) > 1:
            raise
        return [tif.pages.first]
    if not series:
        raise Damaged("it holds no image")
    primary = [one for one in series if not _is_companion(one, series[0])] or series[:1]
    if len(primary) > 1:
        shapes = ", ".join("×".join(map(str, one.shape)) for one in primary[:4])
        raise Damaged(f"it holds {len(primary)} images ({shapes}); need one: save the one you mean to its own file")
    image = primary[0]
    lengths = {axis: int(n) for axis, n in zip(image.axes, image.shape, strict=True) if n > 1}
    deep = [f"{n} along {axis}" for axis, n in lengths.items() if axis not in "YXSC"]
    key = image.keyframe
    if not deep and int(getattr(key, "imagedepth", 1)) > 1:
        deep = [f"{key.imagedepth} along Z"]
    if deep:
        raise Damaged(f"it is a stack of planes ({', '.join(deep)}); need one plane: save that plane to its own file")
    pages = [page for page in image.pages if page is not None]
    planes = lengths.get("C", 1) if len(pages) > 1 else 1
    if len(pages) != planes or (len(pages) == 1 and _volume(image.shape) != _volume(key.shape)):
        raise Damaged("its planes are not stored as pages of their own; save it as a plain TIFF")
    if any(page.parent is not tif for page in pages):
        raise Damaged("its pixels are in other files; save it as one file")
    return pages


def _volume(shape: tuple[int, ...]) -> int:
    product = 1
    for length in shape:
        product *= int(length)
    return product


def _is_companion(series: Any, first: Any) -> bool:
    """Tell whether a series is a thumbnail, a label or a lower resolution that goes with the image."""
    if any(word in str(series.name or "").lower() for word in _COMPANIONS):
        return True
    key, big = series.keyframe, first.keyframe
    if int(key.subfiletype) & 0b1101:  # reduced image, transparency mask, or Aperio's macro
        return True
    if series is first or key.imagewidth >= big.imagewidth or key.imagelength >= big.imagelength:
        return False
    # A level of a pyramid whose writer did not mark it: the same form up to the rounding of one pixel.
    form = key.imagewidth * big.imagelength - key.imagelength * big.imagewidth
    return bool(
        abs(form) <= big.imagewidth + big.imagelength
        and key.samplesperpixel == big.samplesperpixel
        and key.dtype == big.dtype
    )


def _check_page(page: Any) -> None:
    """Refuse pixels that cannot be read, or could be read wrongly.

    Raises:
        Damaged: with what to do.
    """
    for name in ("imagelength", "imagewidth", "samplesperpixel", "rowsperstrip", "tilelength", "tilewidth"):
        if not isinstance(getattr(page, name), int):
            raise Damaged(f"not a readable TIFF ({name} is not a number)")
    if page.imagelength < 1 or page.imagewidth < 1 or page.samplesperpixel < 1:
        raise Damaged(f"it has no pixels (height {page.imagelength}, width {page.imagewidth})")
    if page.dtype is None:
        raise Damaged(f"its pixel type is unknown (format {page.sampleformat}, {page.bitspersample} bits)")
    if np.dtype(page.dtype).kind not in "buif":
        raise Damaged(f"its pixels are {page.dtype}; need integers or real numbers")
    if (page.photometric == _YCBCR and page.compression not in _JPEG) or page.compression == _APERIO_YCBCR:
        raise Damaged("its colours are stored as YCbCr without JPEG; save it as RGB")


def _colour_table(page: Any) -> ColourTable:
    tag = page.tags.valueof(320)
    if tag is None or page.samplesperpixel != 1 or np.dtype(page.dtype).kind not in "bu":
        raise Damaged("it is a palette image without a usable palette")
    table = np.asarray(tag).reshape(3, -1).T
    # The standard has 16-bit colours; old writers put 8-bit ones there.
    return ColourTable(np.ascontiguousarray(table if table.max() < 256 else table >> 8).astype(np.uint8))


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
