"""Columns of the table of objects: what they are called, and in which frame they count.

    _px            px of the image's largest resolution, as the polygons; where the mask is of that resolution, its px
    mask_…_px      px of the mask, where it is of another resolution
    _um            micrometres

Coordinates are those of pixels' middles, the first pixel's are (0, 0); boxes go along pixels' edges, half-open.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unettile.images.pixelsize import PixelSize
from unettile.images.record import Record
from unettile.objects.certainty import Rims
from unettile.objects.gather import Grouped
from unettile.objects.intensity import Totals, Values
from unettile.objects.measure import Measurements, Sums
from unettile.objects.shape import Shapes, measure_shapes

Columns = dict[str, NDArray[Any]]

SQUARE = 1e-3  # of pixels whose edges differ by more, lengths in other units are not known


@dataclass(frozen=True)
class Known:
    """What is known of objects beside their pixels, (N,) each.

    Args:
        classes: of the objects; None if they have none.
        shares: of their pixels that are of their class; None where all are.
        mask_ids: ids that they have in the mask; None if the mask holds none.
        ids: theirs; None for 1 … N.
    """

    classes: NDArray[np.uint32] | None
    shares: NDArray[np.float64] | None = None
    mask_ids: NDArray[np.uint32] | None = None
    ids: NDArray[Any] | None = None


@dataclass(frozen=True)
class Channels:
    """What was measured of the channels of a picture.

    Args:
        names: of the channels, as columns have them.
        values: sums alone, or all values.
        percentiles: that are asked for, and with them spread and order; None for means alone.
    """

    names: tuple[str, ...]
    values: Totals | Values
    percentiles: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Confidence:
    """How probable objects are.

    Args:
        inside: (N,) mean of the probability over their pixels.
        rims: the same at their outlines, added up.
        scale: of these sums.
    """

    inside: NDArray[np.float64]
    rims: Rims
    scale: int


@dataclass(frozen=True)
class Figures:
    """What was measured of all objects.

    Args:
        sums: areas, places and moments.
        corners: for their shape, if that is asked for.
        nearest: (N,) distances to the nearest neighbour, px; with `corners`.
        parted: objects may have several parts that are not connected.
        channels: of pictures.
        confidence: if probabilities are known.
    """

    sums: Sums
    corners: Grouped | None = None
    nearest: NDArray[np.float64] | None = None
    channels: tuple[Channels, ...] = ()
    confidence: Confidence | None = None
    parted: bool = False


@dataclass(frozen=True)
class Frames:
    """The units in which a table counts.

    Args:
        downsample: px of the largest resolution that a px of the mask is, (y, x).
        pixel_size_um: height and width of a pixel of the mask; None leaves the columns in µm out.
    """

    downsample: tuple[float, float] = (1.0, 1.0)
    pixel_size_um: PixelSize | None = None

    def columns(self, sizes: dict[str, tuple[str, NDArray[Any]]]) -> Columns:
        """Return the columns of figures in px of the mask in all frames.

        Args:
            sizes: by name, what it is (`area`, `length`, `y` or `x` of a point, `top` or `left` of an edge) and values.
        """
        mask = {f"{name}_px": values for name, (_, values) in sizes.items()}
        full = self.downsample == (1.0, 1.0)
        columns = mask if full else self._scaled(sizes, self.downsample, "px")
        if self.pixel_size_um is not None:
            columns = columns | self._scaled(sizes, self.pixel_size_um, "um")
        return columns if full else columns | {f"mask_{name}": values for name, values in mask.items()}

    def _scaled(self, sizes: dict[str, tuple[str, NDArray[Any]]], unit: tuple[float, float], suffix: str) -> Columns:
        """Return figures in another unit, of which a px of the mask has (y, x)."""
        high, wide = unit
        found: Columns = {}
        for name, (kind, values) in sizes.items():
            if kind == "area":
                found[f"{name}_{suffix}{'2' if suffix != 'px' else ''}"] = values * (high * wide)
            elif kind == "length":
                if math.isclose(high, wide, rel_tol=SQUARE):  # else it has lost the directions
                    found[f"{name}_{suffix}"] = values * math.sqrt(high * wide)
            else:
                edge, reduced = (high, self.downsample[0]) if kind in ("y", "top") else (wide, self.downsample[1])
                # Of a reduced pixel the middle lies amid those of the largest resolution.
                middle = (reduced - 1) / (2 * reduced) * edge if kind in ("y", "x") else 0.0
                found[f"{name}_{suffix}"] = values * edge + middle
        return found


def make_columns(figures: Figures, known: Known, record: Record, frames: Frames, start: int, stop: int) -> Columns:
    """Return the columns of the objects start + 1 … stop."""
    found = figures.sums.measurements(start, stop)
    ids = np.arange(start + 1, stop + 1) if known.ids is None else known.ids[start:stop]
    columns: Columns = {"id": ids, **_classes(known, record, start, stop)}
    if figures.confidence is not None:
        columns["confidence"] = figures.confidence.inside[start:stop]
        columns["confidence_outline"] = figures.confidence.rims.means(start, stop, figures.confidence.scale)
    sizes: dict[str, tuple[str, NDArray[Any]]] = {
        "area": ("area", found.area),
        "centroid_y": ("y", found.centroid_y),
        "centroid_x": ("x", found.centroid_x),
        **{
            f"box_{name}": ("top" if name.startswith("y") else "left", found.box[:, k])
            for k, name in enumerate(("y0", "x0", "y1", "x1"))
        },
        "perimeter": ("length", found.perimeter),
    }
    plain: Columns = {"eccentricity": found.eccentricity}
    if figures.corners is not None:
        nearest = None if figures.nearest is None else figures.nearest[start:stop]
        _add_shape(sizes, plain, found, measure_shapes(figures.corners, start, stop, figures.parted), nearest)
    weighted: dict[str, tuple[str, NDArray[Any]]] = {}
    values: Columns = {}
    for channels in figures.channels:
        _add_channels(weighted, values, channels, found, (start, stop))
    measured = frames.columns(sizes)
    metric = {name: column for name, column in measured.items() if name.endswith(("_um", "_um2"))}
    pixels = {name: column for name, column in measured.items() if name not in metric}
    return columns | pixels | plain | metric | values | frames.columns(weighted)


def _classes(known: Known, record: Record, start: int, stop: int) -> Columns:
    if known.classes is None:
        return {}
    classes = known.classes[start:stop]
    present = {int(number): record.name(int(number)) for number in np.unique(classes)}
    columns: Columns = {
        "class": classes.astype(np.int64),
        "class_name": np.array([present[int(number)] for number in classes], dtype=object),
    }
    if known.shares is not None:
        columns["class_share"] = known.shares[start:stop]
    if known.mask_ids is not None:
        columns["mask_id"] = known.mask_ids[start:stop].astype(np.int64)
    return columns


def _add_shape(
    sizes: dict[str, tuple[str, NDArray[Any]]],
    plain: Columns,
    found: Measurements,
    shapes: Shapes,
    nearest: NDArray[np.float64] | None,
) -> None:
    """Add what is known of shapes to figures in px, and to plain numbers."""
    area = found.area.astype(np.float64)
    sizes |= {
        "filled_area": ("area", shapes.filled),
        "convex_area": ("area", shapes.convex),
        "major_axis": ("length", found.major),
        "minor_axis": ("length", found.minor),
        "equivalent_diameter": ("length", np.sqrt(4 * area / math.pi)),
        "feret_max": ("length", shapes.feret_max),
        "feret_min": ("length", shapes.feret_min),
    }
    if nearest is not None:
        sizes["nearest"] = ("length", nearest)
    height, width = found.box[:, 2] - found.box[:, 0], found.box[:, 3] - found.box[:, 1]
    plain |= {
        "orientation_rad": found.orientation,
        "solidity": area / shapes.convex,
        "extent": area / (height * width),
        "circularity": 4 * math.pi * area / found.perimeter**2,
    }


def _add_channels(
    weighted: dict[str, tuple[str, NDArray[Any]]],
    columns: Columns,
    channels: Channels,
    found: Measurements,
    part: tuple[int, int],
) -> None:
    """Add the figures of channels to plain columns, and their centroids to figures in px."""
    if isinstance(channels.values, Totals):
        means = channels.values.means(*part, found.area)
        columns |= {f"mean_{name}": means[:, k] for k, name in enumerate(channels.names)}
        return
    values = channels.values.intensities(*part, channels.percentiles or ())
    for k, name in enumerate(channels.names):
        columns[f"mean_{name}"] = values.mean[:, k]
        if channels.percentiles is None:
            continue
        columns |= {
            f"sd_{name}": values.sd[:, k],
            f"min_{name}": values.smallest[:, k],
            f"max_{name}": values.largest[:, k],
            f"median_{name}": values.median[:, k],
            **{f"p{q:g}_{name}": values.percentiles[:, k, n] for n, q in enumerate(channels.percentiles)},
            f"sum_{name}": values.total[:, k],
        }
        weighted[f"weighted_centroid_{name}_y"] = ("y", values.centroid_y[:, k])
        weighted[f"weighted_centroid_{name}_x"] = ("x", values.centroid_x[:, k])
