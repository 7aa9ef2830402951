"""Writing OME-Zarr: a directory of arrays, one for each level, with multiscales metadata.

Version 0.5 is Zarr v3, in shards; 0.4 is Zarr v2, which has none: each of its chunks is a file.

The first layer is the image. A further one of numbers, classes or ids, is a label image of it, `labels/<name>`, as the
format has it, any other an image of its own, `<name>`; numbers alone are the image, and carry the label image's
metadata at the root.

A file (a shard) holds what one piece of the image gives of a level: 4096² px of a class mask's largest resolution, in
compressed chunks of 512² that are read one by one. That keeps 100,000² px below 3,000 files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import zarr
from zarr.codecs import ZstdCodec

from unettile.images.canvas import TILE_EDGE, Canvas, Layer, Readers
from unettile.images.pyramid import Pyramid
from unettile.limits import count_threads

METADATA_KEY = "unettile"
"""Attribute of the root that holds the canvas's metadata."""

_ZSTD = ZstdCodec(level=3, checksum=True)
_BLOSC = numcodecs.Blosc(cname="zstd", clevel=3)  # what readers of Zarr v2 know, in any language


def check_omezarr(canvas: Canvas) -> None:
    """Take every canvas: an OME-Zarr holds them all."""


def write_omezarr(path: Path, canvas: Canvas, read: Readers) -> None:
    """Write an OME-Zarr directory.

    Chunks of zeros are written, too: one that is absent was lost.

    Args:
        path: the directory, empty; a temporary one, so that its final name never shows half of it.
        canvas: what to write.
        read: gives the pixels of a box; each pixel is asked for once, at most PIECE_BYTES or one tile at a time.

    Raises:
        OSError: it cannot be written.
    """
    pyramid = Pyramid(canvas)
    root = zarr.create_group(path, zarr_format=2 if canvas.zarr == "0.4" else 3)
    groups = [root]
    named = [layer.name for layer in canvas.layers[1:] if is_label(layer)]
    if named:
        root.create_group("labels").attrs.update(stated(canvas, {"labels": named}))
    groups += [root.create_group(_place(layer)) for layer in canvas.layers[1:]]
    arrays = []
    for group, layer in zip(groups, canvas.layers, strict=True):
        attributes = stated(canvas, _metadata(canvas, layer, pyramid, below=is_label(layer) and group is not root))
        group.attrs.update(attributes | ({METADATA_KEY: json.loads(canvas.description)} if group is root else {}))
        axes, levels = _axes(canvas, layer), range(len(pyramid.shapes))
        arrays.append([create_array(group, canvas, layer, pyramid, level, axes) for level in levels])
    with zarr.config.set({"async.concurrency": count_threads()}):  # how many chunks are compressed at once
        for number, reader in enumerate(canvas.readers(read)):
            for level, box, pixels in pyramid.stream(reader):
                for layer, own in zip(canvas.layers, arrays, strict=True):
                    planes = pixels[canvas.planes(layer)].astype(canvas.dtype_of(layer), copy=False)
                    place = _place_in(canvas, layer, number)
                    own[level][(*place, *box.slices)] = planes if layer.channels > 1 else planes[0]


def stated(canvas: Canvas, metadata: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes that hold OME metadata: 0.4 has no key for all of them, and a version in each."""
    if canvas.zarr != "0.4":
        return {"ome": {"version": canvas.zarr} | metadata}
    named = {"multiscales": [one | {"version": "0.4"} for one in metadata.get("multiscales", [])]}
    named |= {key: metadata[key] | {"version": "0.4"} for key in ("omero", "image-label") if key in metadata}
    return metadata | {key: value for key, value in named.items() if value}


def is_label(layer: Layer) -> bool:
    """Whether the pixels of a layer are numbers of things, not amounts."""
    return layer.channels == 1 and layer.reduction == "majority"


def _place(layer: Layer) -> str:
    return f"labels/{layer.name}" if is_label(layer) else layer.name


def _axes(canvas: Canvas, layer: Layer) -> dict[str, int]:
    """Return the axes before y and x, and how long they are."""
    lengths = {"t": canvas.stack[0], "c": layer.channels, "z": canvas.stack[1]}
    return {axis: length for axis, length in lengths.items() if length > 1}


def _place_in(canvas: Canvas, layer: Layer, number: int) -> tuple[int | slice, ...]:
    """Return where an image of the stack lies along the axes before y and x."""
    places: dict[str, int | slice] = {"t": number // canvas.stack[1], "c": slice(None), "z": number % canvas.stack[1]}
    return tuple(places[axis] for axis in _axes(canvas, layer))


def create_array(
    group: zarr.Group,
    canvas: Canvas,
    layer: Layer,
    pyramid: Pyramid,
    level: int,
    axes: Mapping[str, int],
    name: str | None = None,
) -> zarr.Array[Any]:
    """Create the array of a level.

    Args:
        axes: before y and x, and how long they are.
        name: of the array; None for the level's number.
    """
    height, width = pyramid.shapes[level]
    edge = pyramid.part_edge(level)
    shard = tuple(min(edge, -(-length // TILE_EDGE) * TILE_EDGE) for length in (height, width))
    if canvas.zarr == "0.4":
        return group.create_array(
            name or str(level),
            shape=(*axes.values(), height, width),
            chunks=(*(1 for _ in axes), TILE_EDGE, TILE_EDGE),
            dtype=canvas.dtype_of(layer).name,
            compressors=_BLOSC,
            fill_value=0,
            chunk_key_encoding={"name": "v2", "separator": "/"},
            config={"write_empty_chunks": True},
        )
    return group.create_array(
        name or str(level),
        shape=(*axes.values(), height, width),
        chunks=(*(1 for _ in axes), TILE_EDGE, TILE_EDGE),
        shards=(*(length if axis == "c" else 1 for axis, length in axes.items()), *shard),
        dtype=canvas.dtype_of(layer).name,
        compressors=_ZSTD,
        fill_value=0,
        dimension_names=(*axes, "y", "x"),
        config={"write_empty_chunks": True},
    )


def _metadata(canvas: Canvas, layer: Layer, pyramid: Pyramid, below: bool) -> dict[str, Any]:
    """Return the OME metadata of a layer's group."""
    several = layer.channels > 1
    micrometre = {"unit": "micrometer"}
    unit: dict[str, str] = {} if canvas.pixel_size_um is None else micrometre
    kinds: dict[str, dict[str, str]] = {
        "t": {"type": "time"} | ({} if canvas.steps.time_s is None else {"unit": "second"}),
        "c": {"type": "channel"},
        "z": {"type": "space"} | ({} if canvas.steps.z_um is None else micrometre),
    }
    axes: list[dict[str, str]] = [{"name": axis, **kinds[axis]} for axis in _axes(canvas, layer)]
    axes += [{"name": axis, "type": "space", **unit} for axis in "yx"]
    multiscale = {
        "name": layer.name,
        "axes": axes,
        "datasets": [
            {"path": str(level), "coordinateTransformations": _transformations(canvas, layer, level)}
            for level in range(len(pyramid.shapes))
        ],
        "type": layer.reduction,
    }
    found: dict[str, Any] = {"multiscales": [multiscale]}
    dtype = canvas.dtype_of(layer)
    if several and dtype.kind == "u":
        most = int(np.iinfo(dtype).max)
        found["omero"] = {"channels": [_channel(layer, number, most) for number in range(layer.channels)]}
    elif layer.names or layer.colours or below:
        found["image-label"] = image_label(layer, below)
    return found


def _transformations(canvas: Canvas, layer: Layer, level: int) -> list[dict[str, Any]]:
    """Return scale and translation of a level: the centre of its first pixel lies amid those of level 0 under it."""
    size = canvas.pixel_size_um or (1.0, 1.0)
    origin = canvas.offset_um or (0.0, 0.0)
    steps = {"t": canvas.steps.time_s, "z": canvas.steps.z_um}
    leading = [steps.get(axis) or 1.0 for axis in _axes(canvas, layer)]
    scale = [*leading, *(edge * 2.0**level for edge in size)]
    shift = [start + edge * (2**level - 1) / 2 for start, edge in zip(origin, size, strict=True)]
    return [
        {"type": "scale", "scale": scale},
        {"type": "translation", "translation": [*(0.0 for _ in leading), *shift]},
    ]


def _channel(layer: Layer, number: int, most: int) -> dict[str, Any]:
    """Return how a viewer should show a channel; one whose colour is black is shown in white."""
    colour = layer.colours[number] if layer.colours and any(layer.colours[number]) else (255, 255, 255)
    return {
        "label": layer.names[number] if layer.names else str(number),
        "color": "{:02X}{:02X}{:02X}".format(*colour),
        "active": True,
        "window": {"min": 0, "max": most, "start": 0, "end": most},
    }


def image_label(layer: Layer, below: bool) -> dict[str, Any]:
    """Return colours and names of the numbers; 0, the background, is transparent so that an image shows under it."""
    found: dict[str, Any] = {}
    if layer.colours:
        found["colors"] = [
            {"label-value": number, "rgba": [*colour, 255 if number else 0]}
            for number, colour in enumerate(layer.colours)
        ]
    if layer.names:
        found["properties"] = [{"label-value": number, "name": name} for number, name in enumerate(layer.names)]
    if below:
        found["source"] = {"image": "../../"}
    return found
