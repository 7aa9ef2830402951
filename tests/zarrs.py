"""OME-Zarr images and plates as other programs write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray


def write_zarr(path: Path, pixels: NDArray[Any], axes: str, version: str, levels: int = 2, halved: str = "yx") -> Path:
    """Write an OME-Zarr image of 0.4 or 0.5 with pixels of 0.5 × 0.25 µm, each level half the one before.

    Args:
        axes: letters of t, c, z, y, x; y and x are the last.
        halved: axes along which levels are.
    """
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    kinds = {"t": "time", "c": "channel"}
    steps = {"t": 3.0, "z": 2.0, "y": 0.5, "x": 0.25}
    described = [
        {"name": axis, "type": kinds.get(axis, "space"), **({"unit": "micrometer"} if axis in "zyx" else {})}
        for axis in axes
    ]
    datasets = []
    for level in range(levels):
        some = pixels[tuple(slice(None, None, 2**level if axis in halved else 1) for axis in axes)]
        array = group.create_array(str(level), shape=some.shape, chunks=some.shape, dtype=some.dtype)
        array[...] = some
        scale = [steps.get(axis, 1.0) * (2**level if axis in halved else 1) for axis in axes]
        datasets.append({"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale}]})
    put(group, version, {"multiscales": [{"axes": described, "datasets": datasets, "name": "image"}]})
    return path


def write_plate(path: Path, fields: dict[str, NDArray[Any]], version: str) -> Path:
    """Write a plate; `fields` are images (y, x) by path, such as A/1/0."""
    form = 2 if version == "0.4" else 3
    plate = zarr.open_group(path, mode="w", zarr_format=form)
    wells = sorted({field.rpartition("/")[0] for field in fields})
    rows, columns = ([{"name": name} for name in sorted({well.split("/")[k] for well in wells})] for k in (0, 1))
    named = [{"path": well, "rowIndex": 0, "columnIndex": number} for number, well in enumerate(wells)]
    put(plate, version, {"plate": {"wells": named, "rows": rows, "columns": columns, "version": version}})
    for well in wells:
        zarr.open_group(path / well.split("/")[0], mode="a", zarr_format=form)
        own = [{"path": field.rpartition("/")[2]} for field in fields if field.startswith(f"{well}/")]
        put(zarr.open_group(path / well, mode="a", zarr_format=form), version, {"well": {"images": own}})
    for field, pixels in fields.items():
        write_zarr(path / field, pixels, "yx", version)
    return path


def put(group: zarr.Group, version: str, metadata: dict[str, Any]) -> None:
    """Write OME metadata to a group as its version has them."""
    if version == "0.4":
        listed = metadata.get("multiscales", ())
        group.attrs.update(metadata | ({"multiscales": [one | {"version": "0.4"} for one in listed]} if listed else {}))
    else:
        group.attrs.update({"ome": {"version": version} | metadata})


def files(path: Path) -> dict[str, bytes]:
    """Return every file below a directory."""
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def noise(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 255, shape).astype(np.uint8)
