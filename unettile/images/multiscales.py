"""Multiscales: what the metadata of OME-Zarr 0.1 to 0.5 say of the images in a Zarr directory.

image.zarr/                  multiscales: axes, datasets (a path and a scale each), names of channels
    0/  1/  2/               arrays, the largest first
    labels/nuclei/           a multiscales image of its own
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import zarr

from unettile.images.pixelsize import PixelSize
from unettile.images.segments import Damaged
from unettile.images.spacing import UNKNOWN, Spacing
from unettile.images.units import in_micrometres, in_seconds

_AXES = "tczyx"
_TYPES = {"time": "t", "channel": "c"}
_FEW = 4  # an axis of at most so many is taken for channels where nothing else says what it is


@dataclass(frozen=True)
class Multiscale:
    """One image, at its resolutions.

    Args:
        name: that the file gives it, or "".
        axes: letters of t, c, z, y, x, in the order of the arrays' axes.
        arrays: its resolutions, the largest first.
        scales: of each, how far apart pixels are along y and x, in the axes' unit; empty if not stated.
        unit_um: that unit in micrometres along y and x; NaN if not stated.
        origins: of each, where the centre of its first pixel lies, in that unit; empty if none states it.
        channel_names: one a channel, or none.
        spacings: of each resolution, along z and t; empty if not stated.
    """

    name: str
    axes: str
    arrays: tuple[zarr.Array[Any], ...]
    scales: tuple[tuple[float, float], ...] = ()
    unit_um: tuple[float, float] = (math.nan, math.nan)
    origins: tuple[tuple[float, float], ...] = ()
    channel_names: tuple[str, ...] = ()
    spacings: tuple[Spacing, ...] = ()

    @property
    def pixel_size_um(self) -> PixelSize | None:
        """Height and width of a pixel of the largest resolution; None if not stated."""
        if not self.scales:
            return None
        height, width = (scale * unit for scale, unit in zip(self.scales[0], self.unit_um, strict=True))
        return (height, width) if all(math.isfinite(edge) and edge > 0 for edge in (height, width)) else None

    def spacing(self, level: int) -> Spacing:
        """Return how far a resolution's planes lie apart, and its points in time."""
        return self.spacings[level] if self.spacings else UNKNOWN

    def origin_um(self, level: int) -> tuple[float, float] | None:
        """Return where the centre of a resolution's first pixel lies, (y, x); None if not stated."""
        if not self.origins or self.pixel_size_um is None:
            return None
        y, x = self.origins[level]
        return y * self.unit_um[0], x * self.unit_um[1]

    def length(self, axis: str, level: int = 0) -> int:
        """Return how long a level is along an axis, 1 if it has none."""
        return int(self.arrays[level].shape[self.axes.index(axis)]) if axis in self.axes else 1


def find_multiscales(node: zarr.Array[Any] | zarr.Group) -> list[Multiscale]:
    """Return the images of a Zarr directory: of an OME-Zarr group, of what bioformats2raw wrote, or an array by itself.

    Raises:
        Damaged: it is a plate, a group of labels or of something else, its metadata are damaged, or it is not known
            what the axes of an array mean.
    """
    if isinstance(node, zarr.Array):
        return [Multiscale("", _axes_of_array(node), (node,))]
    attributes: dict[str, Any] = dict(node.attrs.asdict())
    ome = attributes.get("ome", attributes)
    if not isinstance(ome, Mapping):
        raise Damaged("its OME-Zarr metadata are damaged")
    if "multiscales" in ome:
        entries = ome["multiscales"]
        if not isinstance(entries, Sequence) or not entries:
            raise Damaged("its OME-Zarr metadata are damaged (multiscales is no list)")
        return [_parse(node, ome, entry) for entry in entries]
    if "plate" in ome or "well" in ome:
        raise Damaged(
            "it is a plate or a well; `segment` alone takes a plate whole: give the path of one image, like"
            " plate.zarr/A/1/0"
        )
    if isinstance(ome.get("labels"), Sequence):
        raise Damaged(f"it is a group of label images ({', '.join(map(str, ome['labels'][:8]))}): give the path of one")
    if "bioformats2raw.layout" in ome:
        names = [name for name, _ in sorted(node.groups(), key=lambda pair: pair[0].zfill(9)) if name.isdecimal()]
        return [image for name in names for image in find_multiscales(_group(node, name))]
    members = ", ".join(sorted(name for name, _ in node.members())[:8])
    raise Damaged(
        f"it is a Zarr group without an image (multiscales); it holds {members or 'nothing'}: give one of them"
    )


def _parse(group: zarr.Group, ome: Mapping[str, Any], entry: Any) -> Multiscale:
    """Return the image that an entry of `multiscales` describes.

    Raises:
        Damaged: it does not describe one.
    """
    try:
        members = [group[str(dataset["path"])] for dataset in entry["datasets"]]
        arrays = tuple(member for member in members if isinstance(member, zarr.Array))
        if not arrays or len(arrays) < len(members):
            raise ValueError("a resolution is no array")
        axes, units = parse_axes(entry.get("axes"), arrays[0].ndim)
        if any(array.ndim != len(axes) for array in arrays):
            raise ValueError(f"an array does not have the axes {axes}")
        places = [parse_place(dataset, entry, len(axes)) for dataset in entry["datasets"]]
        channels = (ome.get("omero") or {}).get("channels") or ()
        names = tuple(str(channel.get("label") or "") for channel in channels)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
        text = " ".join(str(error).split())[:120]
        raise Damaged(f"its OME-Zarr metadata are damaged ({text or type(error).__name__})") from error
    y, x = axes.index("y"), axes.index("x")
    scales = [(scale[y], scale[x]) for scale, _ in places if scale is not None]
    shifts = [shift for _, shift in places]
    stated = any(shift is not None for shift in shifts)  # where another is, a resolution without one lies at 0
    return Multiscale(
        str(entry.get("name") or ""),
        axes,
        arrays,
        tuple(scales) if len(scales) == len(arrays) else (),
        (in_micrometres(1, units[y]), in_micrometres(1, units[x])),
        tuple((0.0, 0.0) if shift is None else (shift[y], shift[x]) for shift in shifts) if stated else (),
        names if any(names) else (),
        tuple(_spacing(axes, units, scale) for scale, _ in places),
    )


def _spacing(axes: str, units: Sequence[str], scale: Sequence[float] | None) -> Spacing:
    """Return the steps along z and t that a resolution's scale states, where the axes have units."""
    z, t = axes.find("z"), axes.find("t")
    return Spacing.of(
        None if scale is None or z < 0 else in_micrometres(scale[z], units[z]),
        None if scale is None or t < 0 else in_seconds(scale[t], units[t]),
    )


def parse_axes(axes: Any, count: int) -> tuple[str, list[str]]:
    """Return the letters and the units of the axes; a version before 0.3 has none, and five in a fixed order.

    Raises:
        ValueError: other axes than t, c, z, y, x, one of them twice, or no y and x.
    """
    entries = (
        [{"name": letter} for letter in _AXES]
        if axes is None
        else [{"name": axis} if isinstance(axis, str) else axis for axis in axes]
    )
    letters = "".join(_TYPES.get(str(entry.get("type")), str(entry["name"]).lower()) for entry in entries)
    known = set(letters) <= set(_AXES) and len(set(letters)) == len(letters) == len(entries) == count
    if not known or not {"y", "x"} <= set(letters):
        raise ValueError(
            f"axes {', '.join(str(entry['name']) for entry in entries)}: need y and x, and may have t, c, z"
        )
    return letters, [str(entry.get("unit") or "") for entry in entries]


def parse_place(dataset: Any, entry: Any, count: int) -> tuple[list[float] | None, list[float] | None]:
    """Return a resolution's scale and translation along each axis, None where not stated.

    A dataset's transformations come first, then those of the whole entry, each list in its order.

    Raises:
        ValueError: of another kind or number.
    """
    scale: list[float] | None = None
    shift: list[float] | None = None
    for step in [*(dataset.get("coordinateTransformations") or ()), *(entry.get("coordinateTransformations") or ())]:
        kind = step["type"]
        if kind == "identity":
            continue
        if kind not in ("scale", "translation"):
            raise ValueError(f"a transformation of kind {kind}")
        values = [float(value) for value in step[kind]]
        if len(values) != count or not all(math.isfinite(value) for value in values):
            raise ValueError(f"a {kind} of {values} for {count} axes")
        if kind == "scale":
            scale = values if scale is None else [a * b for a, b in zip(scale, values, strict=True)]
            shift = None if shift is None else [a * b for a, b in zip(shift, values, strict=True)]
        else:
            shift = values if shift is None else [a + b for a, b in zip(shift, values, strict=True)]
    return scale, shift


def _axes_of_array(array: zarr.Array[Any]) -> str:
    """Return the axes of an array without OME-Zarr metadata: by the names it gives them, or where there is no doubt.

    Raises:
        Damaged: there is doubt.
    """
    attributes: dict[str, Any] = dict(array.attrs.asdict())
    names = getattr(array.metadata, "dimension_names", None) or attributes.get("_ARRAY_DIMENSIONS")
    if names and all(isinstance(name, str) for name in names):
        letters = "".join(name.lower() if len(name) == 1 else "?" for name in names)
        if set(letters) <= set(_AXES) and len(set(letters)) == array.ndim and {"y", "x"} <= set(letters):
            return letters
    if array.ndim == 2:
        return "yx"
    if array.ndim == 3:
        first, last = array.shape[0] <= _FEW, array.shape[2] <= _FEW
        if first != last:
            return "cyx" if first else "yxc"
    raise Damaged(
        f"it is a Zarr array of shape {tuple(array.shape)}, and nothing says what its axes are: give the OME-Zarr group"
        " that holds it, or name its dimensions t, c, z, y, x"
    )


def _group(parent: zarr.Group, name: str) -> zarr.Group:
    node = parent[name]
    assert isinstance(node, zarr.Group)
    return node
