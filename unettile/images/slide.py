"""Slide: an image that is read by region, whatever its file format."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.errors import InputError
from unettile.images.arrays import ArrayImage, ArraySlide
from unettile.images.georeference import Georeference
from unettile.images.nodata import FilledSlide, NoData
from unettile.images.normalize import sample_boxes
from unettile.images.omezarr import ZarrSlide, is_zarr
from unettile.images.orientation import UPRIGHT
from unettile.images.plain import JPEG_SIGNATURE, open_jpeg
from unettile.images.png import PNG_SIGNATURE, open_png
from unettile.images.resample import ResampledSlide
from unettile.images.tiff import TiffSlide
from unettile.images.tiffimages import Unstitched
from unettile.images.viaopenslide import INSTALL, OpenSlideSlide, knows, load_openslide
from unettile.images.view import FIRST, NoSuchImage, View
from unettile.tiling import MOST_PIXELS
from unettile.wording import size_text

IMAGE_ENDINGS = (
    ".tif", ".tiff", ".svs", ".ndpi", ".scn", ".qptiff", ".btf", ".tf8", ".bif", ".svslide", ".mrxs",
    ".png", ".jpg", ".jpeg",
)  # fmt: skip
"""File name endings that `list_images` takes for images; a file that is named by itself may have any ending."""

_TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PREVIEWS = ".mrxs"  # such a file is a JPEG, but only a preview; the slide is in the folder of its name
_HEADER_BYTES = 2**16
_SAMPLE_BYTES = 2**16
_SAMPLES = 256


ImageSource = Path | ArrayImage
"""Where an image comes from: a file, or an array."""


class Slide(Protocol):
    """A 2-D image of one or more channels, read by region, from one thread at a time."""

    @property
    def path(self) -> Path: ...

    @property
    def view(self) -> View:
        """Which image of the file it is, completely: opened with it again, the file gives the same pixels."""
        ...

    @property
    def reader(self) -> str:
        """What reads it, for the record: tiff, whole (PNG and JPEG), zarr, openslide or array."""
        ...

    @property
    def files(self) -> Sequence[Path]:
        """The files that tell this image from another, for `fingerprint`; not all need exist. None of an array."""
        ...

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, px."""
        ...

    @property
    def channels(self) -> int: ...

    @property
    def channel_names(self) -> tuple[str, ...]:
        """One for each channel; "" where the file gives none."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    @property
    def pixel_size_um(self) -> tuple[float, float] | None:
        """Height and width of a pixel, micrometres; None if the file does not say."""
        ...

    @property
    def downsample(self) -> tuple[float, float]:
        """How many pixels of the image's largest resolution one pixel is, (y, x)."""
        ...

    @property
    def origin_um(self) -> tuple[float, float] | None:
        """Where the first pixel lies in the frame of the microscope's stage, (y, x), micrometres; None if unknown.

        Its centre in an OME-Zarr, where each resolution states its own; what a TIFF states is kept as it is.
        """
        ...

    @property
    def georeference(self) -> Georeference | None:
        """Where on earth the pixels of a map lie; None if the file does not say."""
        ...

    @property
    def orientation(self) -> int:
        """By which the stored pixels are turned (Exif's and TIFF's 1 to 8); 1 where they are not."""
        ...

    @property
    def no_data(self) -> NoData:
        """How the file declares pixels that hold no data."""
        ...

    @property
    def lossy(self) -> bool:
        """Whether the file is compressed such that numbers may have changed, as JPEG is."""
        ...

    def known(self, box: Box) -> NDArray[np.bool_] | None:
        """Return which pixels (h, w) hold data, in a slide that is filled where none are; None if all do."""
        ...

    def read(self, box: Box) -> NDArray[Any]:
        """Return the region (h, w, channels) in the image's own type; `box` must be a part of the image."""
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Slide: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_slide(path: ImageSource, view: View = FIRST, *, filled: bool = False) -> Slide:
    """Open an image, recognised by its content: TIFF in its many forms, OME-Zarr, PNG or JPEG; or an array.

    Numbers mean what a viewer shows: palettes are expanded to colours, white-is-zero is turned round, bilevel is 0
    and 255. Opacity stays a channel. Pixels lie where a viewer shows them: an orientation in the metadata is applied.

    Args:
        path: the file, the Zarr directory, or the array.
        view: which image of the file, at which resolution, of which plane, and which of its channels.
        filled: where the file declares that pixels hold no data, or they are NaN, give them the middle intensity, and
            know of them.

    Raises:
        InputError: it does not exist, cannot be read, is damaged or truncated, or does not hold what the view asks for.
    """
    try:
        slide = _open(path, view, as_stored=False)
        try:
            if filled:
                slide = _fill(slide)
            return slide if slide.view.mpp is None else ResampledSlide(slide, slide.view.mpp)
        except (NoSuchImage, InputError):
            slide.close()
            raise
    except NoSuchImage as error:
        raise InputError(f"{path}: {error}") from error


def open_labels(path: ImageSource, view: View = FIRST, *, lossy: bool = False) -> Slide:
    """Open a label image: as `open_slide`, but with the stored numbers, which are the labels, and never resampled.

    A palette image gives its indices, a bilevel one 0 and 1.

    Args:
        lossy: take numbers that a compression may have changed: those of amounts, but not those of things.

    Raises:
        InputError: as `open_slide`, or a JPEG, where it may not be lossy.
    """
    assert view.mpp is None, "a mean of labels is no label"
    try:
        slide = _open(path, view, as_stored=True)
    except NoSuchImage as error:
        raise InputError(f"{path}: {error}") from error
    if slide.lossy and not lossy:
        slide.close()
        raise InputError(
            f"{path} is a JPEG, whose compression changes the ids of pixels: need labels without loss; threshold it,"
            " if it is a mask of two values, and save it as PNG or TIFF"
        )
    return slide


def read_image(path: ImageSource) -> NDArray[Any]:
    """Return a whole image (H, W, C), for images that fit into memory.

    Raises:
        InputError: as `open_slide`.
    """
    with open_slide(path) as slide:
        return slide.read(Box.of_shape(slide.shape))


def read_labels(path: ImageSource) -> NDArray[Any]:
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
    images = [path for path in entries if not path.name.startswith(".") and _has_ending(path)]
    if not images:
        raise InputError(
            f"{directory} holds no images: none of its {len(entries)} entries ends with {' '.join(IMAGE_ENDINGS)} .zarr"
        )
    return images


def is_folder(path: Path) -> bool:
    """Whether a path is a directory that may hold images, and not itself an image, as a Zarr directory is."""
    return path.is_dir() and not is_zarr(path)


def image_stem(path: Path) -> str:
    """Return a file's name without its ending; `.ome.tif` counts as one ending.

    >>> image_stem(Path("a/b.c.ome.tif"))
    'b.c'
    """
    return path.stem.removesuffix(".ome")


def fingerprint(slide: Slide) -> dict[str, Any]:
    """Return what tells this image from another: cheap at 100 GB, and free of paths and times.

    Files of together up to 16 MiB are hashed whole. Of larger ones, the first 64 KiB and 256 pieces of 64 KiB, spread
    evenly from beginning to very end, are; a change between the pieces that keeps the length goes unnoticed. Of an
    array, the pixels that its intensity scaling is measured from are hashed: all up to 4 Mpx, else 256 squares.

    Returns:
        JSON: bytes (of an array its pixels'), sha256 of the header and of the content, reader, shape, dtype, channels;
        the orientation of an image that was turned.

    Raises:
        InputError: a file cannot be read.
    """
    header, content = hashlib.sha256(), hashlib.sha256()
    if not slide.files:
        pixel_bytes = slide.channels * slide.dtype.itemsize
        for box in sample_boxes(slide.shape):
            content.update(np.ascontiguousarray(slide.read(box)).data)
        return _described(slide, slide.shape[0] * slide.shape[1] * pixel_bytes, header.hexdigest(), content.hexdigest())
    try:
        sizes = [path.stat().st_size if path.exists() else -1 for path in slide.files]
        if len(sizes) > 1:  # which of several files are there, and how long each is
            header.update(json.dumps(sizes).encode())
        pieces = _Pieces(slide.files, sizes)
        header.update(pieces.read(0, _HEADER_BYTES))
        if pieces.size <= _SAMPLES * _SAMPLE_BYTES:
            starts, length = [0], pieces.size
        else:
            starts = [(pieces.size - _SAMPLE_BYTES) * i // (_SAMPLES - 1) for i in range(_SAMPLES)]
            length = _SAMPLE_BYTES
        for start in starts:
            content.update(pieces.read(start, length))
    except OSError as error:
        raise InputError(f"cannot read {slide.path}: {(error.strerror or str(error)).lower()}") from error
    return _described(slide, pieces.size, header.hexdigest(), content.hexdigest())


def _described(slide: Slide, size: int, header: str, content: str) -> dict[str, Any]:
    return {
        "bytes": size,
        "header_sha256": header,
        "content_sha256": content,
        "reader": slide.reader,
        "shape": list(slide.shape),
        "dtype": slide.dtype.name,
        "channels": slide.channels,
        **({} if slide.orientation == UPRIGHT else {"orientation": slide.orientation}),
    }


class _Pieces:
    """Files one after the other, as if they were one; those of size -1 are not there."""

    def __init__(self, files: Sequence[Path], sizes: Sequence[int]) -> None:
        self._files = [(path, size) for path, size in zip(files, sizes, strict=True) if size > 0]
        self._starts = [0, *accumulate(size for _, size in self._files)]
        self.size = self._starts[-1]

    def read(self, start: int, length: int) -> bytes:
        parts = []
        for (path, size), first in zip(self._files, self._starts, strict=False):
            here, there = max(start, first), min(start + length, first + size)
            if here < there:
                with path.open("rb") as file:
                    file.seek(here - first)
                    parts.append(file.read(there - here))
        return b"".join(parts)


def _fill(slide: Slide) -> Slide:
    """Return a slide that is filled where it declares no data; opacity that is among its channels is a channel."""
    declared = slide.no_data
    chosen = slide.view.channels or ()
    hidden = declared.opacity if declared.opacity not in chosen else None
    if declared.value is None and hidden is None and not declared.nan:
        return slide
    opacity = None if hidden is None else _open(slide.path, replace(slide.view, channels=(hidden,)), as_stored=False)
    return FilledSlide(slide, opacity)


def _has_ending(path: Path) -> bool:
    """Whether a name is an image's: a Zarr directory, or a known ending of what is no directory.

    A link that leads nowhere is one, too: whoever reads it will say so.
    """
    ending = path.suffix.lower()
    return is_zarr(path) if ending == ".zarr" else ending in IMAGE_ENDINGS and not path.is_dir()


def _open(path: ImageSource, view: View, as_stored: bool) -> Slide:
    slide = _open_any(path, view, as_stored)
    if math.prod(slide.shape) > MOST_PIXELS:
        slide.close()
        raise InputError(
            f"cannot read {path}: it states {size_text(slide.shape)}, which no command would finish; need at most"
            f" {MOST_PIXELS / 1e9:.0f} Gpx, a part of it say"
        )
    return slide


def _open_any(path: ImageSource, view: View, as_stored: bool) -> Slide:
    if isinstance(path, ArrayImage):
        return ArraySlide(path, view, as_stored)
    try:
        if is_zarr(path):
            return ZarrSlide(path, view, as_stored)
        if path.is_dir():
            raise InputError(f"cannot read {path}: it is a directory; need an image file, or a Zarr directory")
        if path.exists() and not path.is_file():
            raise InputError(f"cannot read {path}: it is a pipe or a device; need an image file")
        if path.suffix.lower() == _PREVIEWS:
            return OpenSlideSlide(path, view)
        with path.open("rb") as file:
            start = file.read(8)
        if start.startswith(_TIFF_SIGNATURES):
            try:
                return TiffSlide(path, view, as_stored)
            except Unstitched:
                return OpenSlideSlide(path, view)
        if start.startswith(PNG_SIGNATURE):
            return open_png(path, view, as_stored)
        if start.startswith(JPEG_SIGNATURE):
            return open_jpeg(path, view)
        if start and knows(path):
            return OpenSlideSlide(path, view)
    except FileNotFoundError as error:
        raise InputError(f"cannot read {path}: no such file") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error
    if not start:
        raise InputError(f"cannot read {path}: it is empty; need an image file")
    others = "OpenSlide does not know it either" if load_openslide() else f"for other slides, {INSTALL}"
    raise InputError(
        f"cannot read {path}: need a TIFF, OME-Zarr, PNG or JPEG image; its content is none of these (it begins with"
        f" {start[:4]!r}); {others}"
    )
