"""What bioio reads: files of other microscopes, by a plugin for each, which comes with a package of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.images.pixelsize import PixelSize
from unettile.images.scenes import Scene, SizedScene
from unettile.images.spacing import Spacing

_AXES = "TCZYXS"


@dataclass(frozen=True)
class _BioScene(SizedScene):
    """A scene; what the plugin reads at once is its own choice, a plane or a part of one.

    Args:
        label: by which the library knows it.
    """

    image: Any
    label: str
    name: str
    names: tuple[str, ...]
    dtype: np.dtype[Any]
    pixel_size_um: PixelSize | None
    spacing: Spacing
    by_region: bool
    factors: tuple[int, ...] = (1,)

    def read(self, t: int, z: int, c: int, box: Box, factor: int = 1) -> NDArray[Any]:
        pixels = _plane(self.image, self.label, self.sizes, t, z, c)[box.slices]
        return np.asarray(pixels.compute(scheduler="synchronous")).reshape(*box.shape, self.samples)


class BioFile:
    """A file that a plugin of bioio reads.

    Args:
        library: the module `bioio`.

    Raises:
        ValueError: axes that are not understood.
        Exception: the library's, for a file that none of its plugins can read.
    """

    def __init__(self, path: Path, library: Any) -> None:
        image = library.BioImage(path)
        self.scenes: Sequence[Scene] = [_scene(image, label) for label in image.scenes]

    def close(self) -> None:
        """Do nothing: the library opens the file for each part that it reads."""


def _scene(image: Any, label: str) -> _BioScene:
    image.set_scene(label)
    sizes = {axis: int(image.dims[axis][0]) for axis in image.dims.order}
    if not set("TCZYX") <= sizes.keys() <= set(_AXES):
        raise ValueError(f"it has the axes {', '.join(sizes)}: need at most {', '.join(_AXES)}")
    names = tuple(map(str, image.channel_names or ()))
    count = sizes["C"] * sizes.get("S", 1)
    edges = [image.physical_pixel_sizes.Y, image.physical_pixel_sizes.X]
    size = (float(edges[0]), float(edges[1])) if all(edge is not None and 0 < edge < 1e6 for edge in edges) else None
    whole = _plane(image, label, sizes, 0, 0, 0)
    return _BioScene(
        sizes,
        image,
        label,
        str(label) if len(image.scenes) > 1 else "",
        names if len(names) == count else ("",) * count,
        np.dtype(image.dtype),
        size,
        Spacing.of(image.physical_pixel_sizes.Z, _interval(image)),
        whole.chunksize[:2] != whole.shape[:2],
    )


def _interval(image: Any) -> float | None:
    """Return the time between two points in time, seconds; None where the plugin does not say, or not in what unit."""
    try:
        found = image.time_interval
    except Exception:  # what a plugin makes of damaged metadata, which are no reason to refuse pixels
        return None
    return found.total_seconds() if isinstance(found, timedelta) else None


def _plane(image: Any, label: str, sizes: dict[str, int], t: int, z: int, c: int) -> Any:
    """Return a plane that is not read yet, (H, W) or (H, W, samples)."""
    image.set_scene(label)
    return image.get_image_dask_data("YXS" if "S" in sizes else "YX", T=t, Z=z, C=c)
