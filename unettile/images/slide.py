"""Slide: an image that is read by region, whatever its file format."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.errors import InputError, UsageError
from unettile.images.plain import JPEG_SIGNATURE, open_jpeg
from unettile.images.png import PNG_SIGNATURE, open_png
from unettile.images.tiff import TiffSlide

IMAGE_ENDINGS = (".tif", ".tiff", ".svs", ".ndpi", ".scn", ".qptiff", ".btf", ".tf8", ".png", ".jpg", ".jpeg")
"""File name endings that `list_images` takes for images; a file that is named by itself may have any ending."""

_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_HEADER_BYTES = 2**16
_SAMPLE_BYTES = 2**16
_SAMPLES = 256


class Slide(Protocol):
    """A 2-D image of one or more channels, read by region, from one thread at a time."""

    @property
    def path(self) -> Path: ...

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, px."""
        ...

    @property
    def channels(self) -> int: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    @property
    def pixel_size_um(self) -> tuple[float, float] | None:
        """Height and width of a pixel, micrometres; None if the file does not say."""
        ...

    def read(self, box: Box) -> NDArray[Any]:
        """Return the region (h, w, channels) in the image's own type; `box` must be a part of the image."""
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Slide: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_slide(path: Path) -> Slide:
    """Open an image, recognised by its content: TIFF in its many forms, PNG or JPEG.

    Numbers mean what a viewer shows: palettes are expanded to colours, white-is-zero is turned round, bilevel is 0
    and 255. Opacity stays a channel.

    Raises:
        InputError: it does not exist, cannot be read, is damaged or truncated, or holds no single 2-D image.
    """
    return _open(path, as_stored=False)


def open_labels(path: Path) -> Slide:
    """Open a label image: as `open_slide`, but with the stored numbers, which are the labels.

    A palette image gives its indices, a bilevel one 0 and 1.

    Raises:
        InputError: as `open_slide`.
    """
    return _open(path, as_stored=True)


def read_image(path: Path) -> NDArray[Any]:
    """Return a whole image (H, W, C), for images that fit into memory.

    Raises:
        InputError: as `open_slide`.
    """
    with open_slide(path) as slide:
        return slide.read(Box.of_shape(slide.shape))


def read_labels(path: Path) -> NDArray[Any]:
    """Return a whole label image (H, W), for images that fit into memory.

    Raises:
        InputError: as `open_slide`, or it has more than one channel.
    """
    with open_labels(path) as slide:
        if slide.channels != 1:
            raise InputError(f"labels {path} have {slide.channels} channels; need one, of class or object numbers")
        return slide.read(Box.of_shape(slide.shape))[:, :, 0]


def list_images(directory: Path) -> list[Path]:
    """Return the images of a directory (not of those below it), by name; hidden files are passed over.

    Raises:
        InputError: it is no directory, cannot be read, or holds no image.
    """
    try:
        entries = sorted(directory.iterdir())
    except OSError as error:
        raise InputError(f"cannot list {directory}: {(error.strerror or str(error)).lower()}") from error
    images = [
        path
        for path in entries
        if path.suffix.lower() in IMAGE_ENDINGS and not path.name.startswith(".") and path.is_file()
    ]
    if not images:
        raise InputError(
            f"{directory} holds no images: none of its {len(entries)} entries ends with {' '.join(IMAGE_ENDINGS)}"
        )
    return images


def image_stem(path: Path) -> str:
    """Return a file's name without its ending; `.ome.tif` counts as one ending.

    >>> image_stem(Path("a/b.c.ome.tif"))
    'b.c'
    """
    return path.stem.removesuffix(".ome")


def select_channels(slide: Slide, channels: tuple[int, ...]) -> Slide:
    """Return a slide with some channels of another, in the order given, counted from 0; closing it closes the other.

    Raises:
        UsageError: none, or one that the image does not have.
    """
    wrong = [channel for channel in channels if not 0 <= channel < slide.channels]
    if wrong or not channels:
        raise UsageError(
            f"channel {wrong[0] if wrong else '(none)'} does not exist: {slide.path} has {slide.channels};"
            f" use numbers from 0 to {slide.channels - 1}"
        )
    return _SelectedChannels(slide, channels)


class _SelectedChannels:
    """Some channels of a slide."""

    def __init__(self, slide: Slide, selected: tuple[int, ...]) -> None:
        self._slide = slide
        self.selected = selected
        self.path = slide.path
        self.shape = slide.shape
        self.channels = len(selected)
        self.dtype = slide.dtype
        self.pixel_size_um = slide.pixel_size_um

    def read(self, box: Box) -> NDArray[Any]:
        return self._slide.read(box)[:, :, list(self.selected)]

    def close(self) -> None:
        self._slide.close()

    def __enter__(self) -> _SelectedChannels:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def fingerprint(slide: Slide) -> dict[str, Any]:
    """Return what tells this image from another: cheap at 100 GB, and free of paths and times.

    A file of up to 16 MiB is hashed whole. Of a larger one, the first 64 KiB and 256 pieces of 64 KiB, spread evenly
    from its beginning to its very end, are; a change between the pieces that keeps the file's length goes unnoticed.

    Returns:
        JSON: bytes, sha256 of the header and of the content, shape, dtype, channels, and the selected channels, if any.

    Raises:
        InputError: the file cannot be read.
    """
    header, content = hashlib.sha256(), hashlib.sha256()
    try:
        size = slide.path.stat().st_size
        with slide.path.open("rb") as file:
            header.update(file.read(_HEADER_BYTES))
            if size <= _SAMPLES * _SAMPLE_BYTES:
                starts, length = [0], size
            else:
                starts = [(size - _SAMPLE_BYTES) * i // (_SAMPLES - 1) for i in range(_SAMPLES)]
                length = _SAMPLE_BYTES
            for start in starts:
                file.seek(start)
                content.update(file.read(length))
    except OSError as error:
        raise InputError(f"cannot read {slide.path}: {(error.strerror or str(error)).lower()}") from error
    result: dict[str, Any] = {
        "bytes": size,
        "header_sha256": header.hexdigest(),
        "content_sha256": content.hexdigest(),
        "shape": list(slide.shape),
        "dtype": slide.dtype.name,
        "channels": slide.channels,
    }
    if isinstance(slide, _SelectedChannels):
        result["selected_channels"] = list(slide.selected)
    return result


def _open(path: Path, as_stored: bool) -> Slide:
    try:
        if path.is_dir():
            raise InputError(f"cannot read {path}: it is a directory; need an image file")
        if path.exists() and not path.is_file():
            raise InputError(f"cannot read {path}: it is a pipe or a device; need an image file")
        with path.open("rb") as file:
            start = file.read(8)
        if start.startswith(_TIFF_SIGNATURES):
            return TiffSlide(path, as_stored)
        if start.startswith(PNG_SIGNATURE):
            return open_png(path, as_stored)
        if start.startswith(JPEG_SIGNATURE):
            return open_jpeg(path)
    except FileNotFoundError as error:
        raise InputError(f"cannot read {path}: no such file") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error
    what = "it is empty" if not start else f"its content is none of these (it begins with {start[:4]!r})"
    raise InputError(f"cannot read {path}: need a TIFF, PNG or JPEG image; {what}")
