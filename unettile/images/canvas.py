"""Canvas: an image that is written piece by piece, without its pixels; its layers say what they mean."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.images.colours import Colour
from unettile.images.georeference import Georeference
from unettile.images.pixelsize import PixelSize
from unettile.images.spacing import UNKNOWN, Spacing

TILE_EDGE = 512
"""Edge of the tiles, and of the smallest chunks, of what is written, px."""

PIECE_BYTES = 2**25
"""Pixels asked for at once, in bytes; at least one tile."""

ZARR_VERSIONS = ("0.5", "0.4")

_DTYPES = ("uint8", "uint16", "uint32", "float16", "float32")
_REDUCTIONS = ("majority", "mean", "none")

Reader = Callable[[Box], NDArray[Any]]
"""Gives the pixels of a box, (C, h, w), layer after layer; of a canvas with one channel (h, w) will do."""

Readers = Reader | Sequence[Reader]
"""What gives the pixels of a canvas, or of a stack one for each plane: all depths of the first time, then the next."""


@dataclass(frozen=True)
class Layer:
    """One image of a canvas: planes that belong together.

    Args:
        name: what it shows, such as classes or probabilities.
        channels: how many planes.
        reduction: how levels of a pyramid are made of the pixels: majority, mean, or none for no pyramid.
        names: of the numbers 0, 1, … if the layer has one channel, else of the channels; may be empty.
        colours: of the same things; of one channel they are its palette. Empty for grey.
        dtype: narrower than the canvas's, in which its pixels come; None for the same.
    """

    name: str
    channels: int = 1
    reduction: str = "none"
    names: tuple[str, ...] = ()
    colours: tuple[Colour, ...] = ()
    dtype: np.dtype[Any] | None = None

    def __post_init__(self) -> None:
        if self.channels < 1:
            raise ValueError(f"a layer of a canvas needs channels: got {self.channels}")
        if self.reduction not in _REDUCTIONS:
            raise ValueError(f"a canvas is reduced by one of {', '.join(_REDUCTIONS)}: got {self.reduction!r}")
        if self.channels > 1 and any(given and len(given) != self.channels for given in (self.names, self.colours)):
            raise ValueError(f"a canvas layer of {self.channels} channels needs as many names and colours, or none")
        if len(self.colours) > 256:
            raise ValueError(f"a palette of a canvas has up to 256 colours: got {len(self.colours)}")

    @property
    def palette(self) -> tuple[Colour, ...]:
        """Colours of the numbers 0, 1, …; empty if there is none."""
        return self.colours if self.channels == 1 else ()


@dataclass(frozen=True)
class Canvas:
    """What is to be written, without its pixels.

    Args:
        shape: height and width, px.
        layers: one or more images of that shape.
        dtype: uint8, uint16, uint32, float16 or float32: in which pixels come, of layers that are narrower, too.
        pixel_size_um: height and width of a pixel, micrometres, if known.
        offset_um: where the first pixel lies (y, x), micrometres, if known.
        metadata: JSON, written into the file.
        georeference: where on earth the pixels lie, if known; TIFFs have tags for it, and everything's metadata say it.
        no_data: the number of pixels that hold nothing, for readers of maps; None if there is none.
        stack: how many points in time and planes in depth there are; (1, 1) for a single image.
        zarr: which version of OME-Zarr it is written as, if as one: 0.5, or 0.4, which more programs read.
        spacing: of the stack, as far as it is known.
    """

    shape: tuple[int, int]
    layers: tuple[Layer, ...] = (Layer("image"),)
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.uint8))
    pixel_size_um: PixelSize | None = None
    offset_um: tuple[float, float] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    georeference: Georeference | None = None
    no_data: int | None = None
    stack: tuple[int, int] = (1, 1)
    zarr: str = ZARR_VERSIONS[0]
    spacing: Spacing = UNKNOWN

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", np.dtype(self.dtype))
        if min(self.shape) < 1 or not self.layers:
            raise ValueError(f"a canvas needs pixels and layers: got {self.shape}, {len(self.layers)} layers")
        if self.dtype.name not in _DTYPES:
            raise ValueError(f"a canvas holds one of {', '.join(_DTYPES)}: got {self.dtype}")
        for layer in self.layers:
            dtype = self.dtype_of(layer)
            if dtype.kind != self.dtype.kind or dtype.itemsize > self.dtype.itemsize:
                raise ValueError(f"a layer of {dtype} does not fit a canvas of {self.dtype}")
            if dtype != np.uint8 and layer.palette:
                raise ValueError(f"a palette needs a canvas of uint8: got {dtype}")
        if self.zarr not in ZARR_VERSIONS:
            raise ValueError(f"OME-Zarr is written as {' or '.join(ZARR_VERSIONS)}: got {self.zarr!r}")
        if len({layer.reduction == "none" for layer in self.layers}) > 1:
            raise ValueError("the layers of a canvas have a pyramid together or not at all")

    @property
    def channels(self) -> int:
        """How many planes the layers have together."""
        return sum(layer.channels for layer in self.layers)

    @property
    def steps(self) -> Spacing:
        """The spacing along the axes that have more than one place."""
        times, depths = self.stack
        return Spacing(self.spacing.z_um if depths > 1 else None, self.spacing.time_s if times > 1 else None)

    @property
    def images(self) -> int:
        """How many images of `shape` a stack has."""
        return self.stack[0] * self.stack[1]

    def readers(self, read: Readers) -> Sequence[Reader]:
        """Return what gives the pixels of each image of the stack."""
        found = [read] if callable(read) else read
        assert len(found) == self.images, f"{len(found)} readers for {self.images} images"
        return found

    @property
    def has_pyramid(self) -> bool:
        return self.layers[0].reduction != "none"

    @property
    def description(self) -> str:
        """Return the metadata as one line of ASCII, keys sorted.

        The blank before each colon keeps tifffile from taking a key called "shape" for a description of its own.
        """
        placed = {} if self.georeference is None else {"georeference": self.georeference.to_dict()}
        values = self.metadata | placed
        return json.dumps(values, sort_keys=True, ensure_ascii=True, allow_nan=False, separators=(", ", " : "))

    def dtype_of(self, layer: Layer) -> np.dtype[Any]:
        """Return the type in which a layer is written."""
        return self.dtype if layer.dtype is None else layer.dtype

    def planes(self, layer: Layer) -> slice:
        """Return where the planes of a layer lie among those of the canvas."""
        index = self.layers.index(layer)
        start = sum(other.channels for other in self.layers[:index])
        return slice(start, start + layer.channels)

    def read(self, reader: Reader, box: Box) -> NDArray[Any]:
        """Return the pixels of a box, (C, h, w)."""
        pixels = reader(box)
        need = (self.channels, *box.shape)
        if pixels.ndim == 2:
            pixels = pixels[None]
        assert pixels.shape == need and pixels.dtype == self.dtype, f"{pixels.shape} {pixels.dtype} for {need}"
        return pixels
