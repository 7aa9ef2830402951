"""Plain images: held whole in memory, as PNG and JPEG must be; and the reading of JPEG."""

from __future__ import annotations

import struct
from pathlib import Path
from types import TracebackType
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.errors import InputError
from unettile.images.nodata import ALL_DATA, NoData
from unettile.images.orientation import UPRIGHT, exif_orientation, shown_pair, turn
from unettile.images.pixelsize import PixelSize
from unettile.images.spacing import UNKNOWN
from unettile.images.view import FIRST, Level, View
from unettile.wording import size_text

DECODED_LIMIT = 2**30
"""Largest PNG or JPEG, in bytes once decoded."""

JPEG_SIGNATURE = b"\xff\xd8\xff"

_EXIF = b"Exif\0\0"
_NO_FRAME = (0xC4, 0xC8, 0xCC)  # among the JPEG markers C0 … CF, those that do not begin a frame


class PlainSlide:
    """An image held whole in memory.

    Args:
        path: where it came from.
        pixels: (H, W, C), any numeric type.
        pixel_size_um: height and width of a pixel, or None if not known.
        view: which channels; there is one level and one plane.
        orientation: by which `pixels` are yet to be turned.
        no_data: how the file declares pixels that hold none.
        lossy: the file is compressed such that numbers may have changed.

    Raises:
        NoSuchImage: the view chooses another level, plane, or a channel that is not there.
    """

    reader = "whole"
    downsample = (1.0, 1.0)
    origin_um = None
    spacing = UNKNOWN
    georeference = None

    def __init__(
        self,
        path: Path,
        pixels: NDArray[Any],
        pixel_size_um: PixelSize | None = None,
        view: View = FIRST,
        orientation: int = UPRIGHT,
        no_data: NoData = ALL_DATA,
        lossy: bool = False,
    ) -> None:
        assert pixels.ndim == 3
        self.path = path
        self.orientation, self.no_data, self.lossy = orientation, no_data, lossy
        if orientation != UPRIGHT:
            pixels = np.ascontiguousarray(turn(pixels, orientation))
            pixel_size_um = None if pixel_size_um is None else shown_pair(pixel_size_um, orientation)
        self.shape = (int(pixels.shape[0]), int(pixels.shape[1]))
        self.dtype = pixels.dtype
        self.pixel_size_um = pixel_size_um
        series = view.pick_series([size_text(self.shape)], [0])
        level = view.pick_level([Level(self.shape, pixel_size_um=pixel_size_um)])
        plane = view.pick_plane("t", 1), view.pick_plane("z", 1)
        selected = view.pick_channels(int(pixels.shape[2]))
        self.view = view.resolved(series, level, plane, selected)
        self.channels = len(selected)
        self.channel_names = ("",) * self.channels
        every = selected == tuple(range(int(pixels.shape[2])))
        self._pixels: NDArray[Any] | None = pixels if every else pixels[:, :, list(selected)]

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.path,)

    def read(self, box: Box) -> NDArray[Any]:
        """Return the region (h, w, C), a view of the pixels; `box` must be a part of the image."""
        assert Box.of_shape(self.shape).contains(box), f"{box} lies outside of {self.shape}"
        assert self._pixels is not None, "the slide is closed"
        return self._pixels[box.slices]

    def known(self, box: Box) -> None:
        """Return None: of what the file declares, a FilledSlide knows."""

    def close(self) -> None:
        self._pixels = None

    def __enter__(self) -> PlainSlide:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_jpeg(path: Path, view: View = FIRST) -> PlainSlide:
    """Decode a JPEG: grey or RGB, turned as its Exif data say.

    Raises:
        InputError: damaged, truncated, empty, CMYK, or larger than DECODED_LIMIT.
        NoSuchImage: the view chooses what it does not hold.
    """
    data = read_limited(path)
    try:
        height, width, samples, bits = _jpeg_frame(data)
    except (ValueError, IndexError, struct.error) as error:
        raise damaged(path, "JPEG", error) from error
    check_size(path, height, width, samples * (1 if bits <= 8 else 2))
    if samples not in (1, 3):
        raise InputError(f"cannot read {path}: a JPEG of {samples} channels (CMYK?); save it as RGB")
    try:
        pixels = imagecodecs.jpeg_decode(data)
    except Exception as error:  # a decoder fed with damaged bytes raises whatever it likes
        raise damaged(path, "JPEG", error) from error
    pixels = np.asarray(pixels).reshape(height, width, samples)
    return PlainSlide(path, pixels, view=view, orientation=exif_orientation(_jpeg_exif(data)), lossy=True)


def check_size(path: Path, height: int, width: int, pixel_bytes: int) -> None:
    """Refuse, before any memory is taken, an image without pixels or with too many."""
    if height < 1 or width < 1:
        raise InputError(f"cannot read {path}: it has no pixels (height {height}, width {width})")
    if height * width * pixel_bytes > DECODED_LIMIT:
        raise InputError(
            f"cannot read {path}: {size_text((height, width))} take"
            f" {height * width * pixel_bytes / 2**30:.1f} GiB in memory, the limit for PNG and JPEG is"
            f" {DECODED_LIMIT / 2**30:.0f} GiB; convert it to a tiled TIFF"
        )


def read_limited(path: Path) -> bytes:
    size = path.stat().st_size
    if size > 2 * DECODED_LIMIT:
        raise InputError(
            f"cannot read {path}: {size / 2**30:.1f} GiB is too much for a PNG or JPEG; convert it to a tiled TIFF"
        )
    return path.read_bytes()


def damaged(path: Path, kind: str, error: Exception) -> InputError:
    text = " ".join(str(error).split())[:160] or type(error).__name__
    return InputError(f"cannot read {path}: damaged or truncated {kind} ({text})")


def _jpeg_frame(data: bytes) -> tuple[int, int, int, int]:
    """Return height, width, channels and bits from a JPEG's frame header.

    Raises:
        ValueError: there is none, or the data ends without the end marker.
    """
    position = 2
    while True:
        while data[position] == 0xFF and data[position + 1] == 0xFF:  # fill bytes
            position += 1
        if data[position] != 0xFF:
            raise ValueError("no frame header")
        marker = data[position + 1]
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in _NO_FRAME:
            bits, height, width, samples = struct.unpack(">BHHB", data[position + 4 : position + 10])
            # Decoders fill what is missing with grey and only warn; a complete file has the end marker.
            if data.rfind(b"\xff\xd9") < position:
                raise ValueError("it ends too early")
            return height, width, samples, bits
        if marker in (0xD9, 0xDA) or length < 2:
            raise ValueError("no frame header")
        position += 2 + length


def _jpeg_exif(data: bytes) -> bytes:
    """Return the Exif data of a JPEG whose frame header was found; empty if there are none."""
    position = 2
    while True:
        while data[position + 1] == 0xFF:  # fill bytes
            position += 1
        marker, length = data[position + 1], int.from_bytes(data[position + 2 : position + 4], "big")
        content = data[position + 4 : position + 2 + length]
        if marker == 0xE1 and content.startswith(_EXIF):
            return content.removeprefix(_EXIF)
        if 0xC0 <= marker <= 0xCF and marker not in _NO_FRAME:
            return b""
        position += 2 + length
