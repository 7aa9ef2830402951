"""Writing a label image of an OME-Zarr image: with the image's axes but for channels, its scale and resolutions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zarr

from unettile.images.canvas import Canvas, Readers
from unettile.images.pyramid import Pyramid
from unettile.images.write_omezarr import METADATA_KEY, create_array, image_label, stated
from unettile.limits import count_threads


@dataclass(frozen=True)
class Place:
    """How a label image lies on the OME-Zarr image that it is of.

    Args:
        name: of the label image.
        axes: what its metadata say of each, y and x the last.
        lengths: of those before y and x, t or z.
        scale, shift: of the largest resolution, along each axis.
        halvings: how often each resolution that is written halves the largest.
    """

    name: str
    axes: tuple[dict[str, Any], ...]
    lengths: Mapping[str, int]
    scale: tuple[float, ...]
    shift: tuple[float, ...]
    halvings: tuple[int, ...]

    def transformations(self, halvings: int) -> list[dict[str, Any]]:
        """Return scale and translation of a resolution, the centre of its first pixel amid those under it."""
        factors = [*(1.0 for _ in self.lengths), 2.0**halvings, 2.0**halvings]
        scale = [step * factor for step, factor in zip(self.scale, factors, strict=True)]
        shift = [
            start + step * (factor - 1) / 2 for start, step, factor in zip(self.shift, self.scale, factors, strict=True)
        ]
        return [{"type": "scale", "scale": scale}, {"type": "translation", "translation": shift}]


def write_label(path: Path, canvas: Canvas, read: Readers, place: Place) -> None:
    """Write the one layer of a canvas as a label image of an OME-Zarr image; as `write_omezarr`.

    Resolutions that the image does not have are made and dropped.

    Args:
        place: how it lies on the image.
    """
    [layer] = canvas.layers
    pyramid = Pyramid(canvas, place.halvings[-1] + 1)
    group = zarr.create_group(path, zarr_format=2 if canvas.zarr == "0.4" else 3)
    multiscale = {
        "name": place.name,
        "axes": list(place.axes),
        "datasets": [
            {"path": str(level), "coordinateTransformations": place.transformations(halvings)}
            for level, halvings in enumerate(place.halvings)
        ],
        "type": layer.reduction,
    }
    attributes = stated(canvas, {"multiscales": [multiscale], "image-label": image_label(layer, below=True)})
    group.attrs.update(attributes | {METADATA_KEY: json.loads(canvas.description)})
    arrays = {
        halvings: create_array(group, canvas, layer, pyramid, halvings, dict(place.lengths), name=str(level))
        for level, halvings in enumerate(place.halvings)
    }
    with zarr.config.set({"async.concurrency": count_threads()}):
        for number, reader in enumerate(canvas.readers(read)):
            numbers: dict[str, int] = {"t": number // canvas.stack[1], "z": number % canvas.stack[1]}
            for halvings, box, pixels in pyramid.stream(reader):
                if halvings in arrays:
                    where: tuple[int | slice, ...] = (*(numbers[axis] for axis in place.lengths), *box.slices)
                    arrays[halvings][where] = pixels[0].astype(canvas.dtype_of(layer), copy=False)
