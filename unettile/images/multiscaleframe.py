"""Multiscale frame: how the axes of an OME-Zarr image lie in the world, and how large its resolutions are."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zarr

from unettile.errors import InputError
from unettile.images.multiscales import parse_axes, parse_place
from unettile.images.zarrstore import ConfinedStore


@dataclass(frozen=True)
class MultiscaleFrame:
    """Axes, scale and resolutions of an OME-Zarr image.

    Args:
        zarr_format: 2 or 3.
        axes: letters of t, c, z, y, x, in the order of the arrays' axes; y and x are the last.
        entries: what the metadata say of each.
        shapes: of each resolution, the largest first.
        scale, shift: of the largest along each axis: how far apart pixels are, and where the first one's centre lies.
    """

    zarr_format: int
    axes: str
    entries: tuple[dict[str, Any], ...]
    shapes: tuple[tuple[int, ...], ...]
    scale: tuple[float, ...]
    shift: tuple[float, ...]

    def length(self, axis: str) -> int:
        """Return how long the image is along an axis, 1 if it has none."""
        return self.shapes[0][self.axes.index(axis)] if axis in self.axes else 1

    @property
    def halvings(self) -> tuple[int, ...]:
        """How often each resolution halves the largest; 0, 1, 2, … where they are no such.

        >>> MultiscaleFrame(3, "yx", (), ((70, 90), (35, 45), (8, 11)), (1, 1), (0, 0)).halvings
        (0, 1, 3)
        """
        full, found = self.shapes[0][-2:], []
        for shape in self.shapes:
            number = max(0, round(math.log2(max(full) / max(1, *shape[-2:]))))
            near = all(abs(length / 2**number - reduced) < 1 for length, reduced in zip(full, shape[-2:], strict=True))
            found.append(number if near else -1)
        rising = all(one < other for one, other in zip([-1, *found], found, strict=False))
        return tuple(found) if rising and found[0] == 0 else tuple(range(len(found)))


def read_frame(path: Path) -> MultiscaleFrame:
    """Return the frame of the OME-Zarr image in a directory.

    Raises:
        InputError: it holds no such image, or several, is of a version before 0.4, or has other axes at the end than y
            and x.
    """
    try:
        group = zarr.open(ConfinedStore(path, read_only=True), mode="r")
        attributes: dict[str, Any] = dict(group.attrs.asdict())
        ome = attributes.get("ome", attributes)
        entries = ome.get("multiscales") if isinstance(ome, Mapping) else None
        if not isinstance(group, zarr.Group) or not isinstance(entries, list) or len(entries) != 1:
            raise ValueError("need one OME-Zarr image; of several, give the path of one, like image.zarr/0")
        [entry] = entries
        described = [dict(axis) for axis in entry.get("axes", ()) if isinstance(axis, Mapping)]
        members = [group[str(dataset["path"])] for dataset in entry["datasets"]]
        arrays = [member for member in members if isinstance(member, zarr.Array)]
        if len(arrays) < len(members):
            raise ValueError("a resolution is no array")
        axes, _ = parse_axes(described, arrays[0].ndim)
        scale, shift = parse_place(entry["datasets"][0], entry, len(axes))
        if scale is None:
            raise ValueError("it states no scale, as versions before 0.4: need OME-Zarr 0.4 or 0.5")
        if axes[-2:] != "yx":
            raise ValueError(f"its axes are {', '.join(axes)}: need y and x at the end")
    except Exception as error:  # damaged metadata make the library raise whatever it likes
        text = " ".join(str(error).split())[:160] or type(error).__name__
        raise InputError(f"{path} cannot get a label image: {text}") from error
    return MultiscaleFrame(
        group.metadata.zarr_format,
        axes,
        tuple(described),
        tuple(tuple(int(length) for length in array.shape) for array in arrays),
        tuple(scale),
        tuple(shift or [0.0] * len(axes)),
    )
