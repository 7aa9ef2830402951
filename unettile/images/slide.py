"""Slide: an image that is read by region, whatever its file format."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
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
from unettile.images.recognition import open_recognised
from unettile.images.resample import ResampledSlide
from unettile.images.spacing import Spacing
from unettile.images.view import FIRST, NoSuchImage, View
from unettile.tiling import MOST_PIXELS
from unettile.wording import size_text


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
        """What reads it: tiff, whole (PNG, JPEG), zarr, openslide, czi, lif, nd2, bioio, array, drawn."""
        ...

    @property
    def files(self) -> Sequence[Path]:
        """The files that tell this image from another, for its fingerprint; not all need exist. None of an array."""
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
    def spacing(self) -> Spacing:
        """How far the planes of its stack lie apart, and its points in time, as far as the file says."""
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


class LabelSource(ABC):
    """Labels that are no image, and open themselves as one."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What to call them in messages."""

    @property
    def file(self) -> Path | None:
        """The file that pairs with an image by its name; None if none does."""
        return None

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes that they are of, without the background; () where they have none."""
        return ()

    def in_classes(self, names: Sequence[str]) -> LabelSource:
        """Return them in the numbers of classes.

        Args:
            names: of the classes, background first.
        """
        return self

    @abstractmethod
    def open(self, view: View) -> Slide:
        """Open them; errors as those of `open_labels`, or NoSuchImage for what the view chooses in vain."""


ImageSource = Path | ArrayImage | LabelSource
"""Where an image comes from: a file, an array, or what stands for a label image."""


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


def _fill(slide: Slide) -> Slide:
    """Return a slide that is filled where it declares no data; opacity that is among its channels is a channel."""
    declared = slide.no_data
    chosen = slide.view.channels or ()
    hidden = declared.opacity if declared.opacity not in chosen else None
    if declared.value is None and hidden is None and not declared.nan:
        return slide
    opacity = None if hidden is None else _open(slide.path, replace(slide.view, channels=(hidden,)), as_stored=False)
    return FilledSlide(slide, opacity)


def _open(path: ImageSource, view: View, as_stored: bool) -> Slide:
    slide = _open_any(path, view, as_stored)
    if math.prod(slide.shape) > MOST_PIXELS:
        slide.close()
        raise InputError(
            f"cannot read {path}: it states {size_text(slide.shape)}, which no command would finish; need at most"
            f" {MOST_PIXELS / 1e9:.0f} Gpx: give a part of it"
        )
    return slide


def _open_any(path: ImageSource, view: View, as_stored: bool) -> Slide:
    if isinstance(path, ArrayImage):
        return ArraySlide(path, view, as_stored)
    if isinstance(path, LabelSource):
        return path.open(view)
    return open_recognised(path, view, as_stored)
