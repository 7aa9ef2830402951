"""Draw docs/weights.png: labels, d1, d2 and weight maps of a few cells, and what goes wrong with boundary pixels.

python docs/make_weights_pictures.py
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import pyplot
from numpy.typing import NDArray
from scipy import ndimage

from unettile.weightmap import weight_map

PAGE = Path(__file__).parent / "weights.png"
CELL = "#466482"
CELLS = ((34, 32, 17), (34, 70, 17), (72, 48, 16), (74, 88, 15), (30, 108, 12))  # y, x, radius, px


def main() -> None:
    labels = cells()
    d1, d2 = np.sort([ndimage.distance_transform_edt(labels != cell) for cell in np.unique(labels)[1:]], axis=0)[:2]
    blank = labels > 0
    panels = [
        ("labels", np.where(blank, labels, np.nan), "tab10", None),
        ("d1, px", d1, "viridis", 40),
        ("d2, px", d2, "viridis", 40),
        ("boundary pixels, not cells", by_boundary_pixels(labels), "magma", 11),
        ("w, sigma 2.5", weight_map(labels, 10, 2.5), "magma", 11),
        ("w, sigma 5", weight_map(labels, 10, 5), "magma", 11),
        ("w, sigma 10", weight_map(labels, 10, 10), "magma", 11),
        ("w, sigma 5, w0 5", weight_map(labels, 5, 5), "magma", 11),
    ]
    matplotlib.use("Agg")
    figure, axes = pyplot.subplots(2, 4, figsize=(10, 4.6), layout="constrained")
    for (title, values, colours, top), axis in zip(panels, axes.flat, strict=True):
        shown = values if top is None else np.where(blank, np.nan, values)
        cmap = matplotlib.colormaps[colours].with_extremes(bad="white" if top is None else CELL)
        picture = axis.imshow(shown, cmap=cmap, vmin=None if top is None else 0, vmax=top, interpolation="nearest")
        axis.set_title(title, fontsize=9)
        axis.set_axis_off()
        if top is not None:
            figure.colorbar(picture, ax=axis, shrink=0.75).ax.tick_params(labelsize=7)
    figure.savefig(PAGE, dpi=90, metadata={"Software": None})


def cells() -> NDArray[np.uint8]:
    """Return a map of touching, close and distant cells."""
    y, x = np.indices((104, 128))
    labels = np.zeros(y.shape, np.uint8)
    for cell, (cy, cx, radius) in enumerate(CELLS, start=1):
        labels[((y - cy) ** 2 + (x - cx) ** 2 <= radius**2) & (labels == 0)] = cell
    return labels


def by_boundary_pixels(labels: NDArray[Any]) -> NDArray[np.float64]:
    """Return the map that the two nearest boundary pixels give, whichever cells they belong to: the mistake."""
    boundary = (labels > 0) & ~ndimage.binary_erosion(labels > 0)
    points = np.argwhere(boundary)
    y, x = np.indices(labels.shape)
    squares = (y[..., None] - points[:, 0]) ** 2 + (x[..., None] - points[:, 1]) ** 2
    nearest = np.sqrt(np.partition(squares, 1, axis=-1)[..., :2]).sum(axis=-1)
    return 1 + np.where(labels == 0, 10 * np.exp(-(nearest**2) / 50), 0)


if __name__ == "__main__":
    main()
