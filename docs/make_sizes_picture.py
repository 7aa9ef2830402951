"""Draw docs/sizes.png: the same nuclei at three magnifications, as they are and brought to the size the model knows.

python docs/make_sizes_picture.py
"""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from skimage.color import label2rgb
from skimage.segmentation import find_boundaries
from skimage.transform import resize

import unettile

HERE = Path(__file__).parent
PLACE = np.s_[180:480, 560:900]
MAGNIFICATIONS = (1 / 3, 1.0, 3.0)
SHOWN = 340, 300  # width and height of a panel, px
GAP = 8


def panel(pixels: NDArray[np.uint8], ids: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Return a picture of objects over their image."""
    colours = label2rgb(ids, pixels / max(1, pixels.max()), alpha=0.35, bg_label=0)
    edges = resize(find_boundaries(ids, mode="inner"), SHOWN[::-1], order=0, preserve_range=True) > 0
    shown = resize(colours, SHOWN[::-1], order=1, anti_aliasing=True)
    shown[edges] = (1, 1, 0.4)
    picture: NDArray[np.uint8] = (shown.clip(0, 1) * 255).astype(np.uint8)
    return picture


def main() -> None:
    """Segment, and write the picture."""
    sample = np.asarray(tifffile.imread(HERE.parent / "sample_data" / "nuclei.tif"))[PLACE]
    model = unettile.load("nuclei", device="cpu", precision="fp32")
    rows = []
    for diameter in ("off", "auto"):
        row = []
        for factor in MAGNIFICATIONS:
            shape = [round(edge * factor) for edge in sample.shape]
            pixels = (resize(sample, shape, order=1, anti_aliasing=factor < 1) * 255).round().astype(np.uint8)
            row += [panel(pixels, model.segment(pixels, write="instances", diameter=diameter))]
        rows.append(np.hstack([np.pad(one, ((0, GAP), (0, GAP), (0, 0)), constant_values=255) for one in row]))
    (HERE / "sizes.png").write_bytes(imagecodecs.png_encode(np.vstack(rows)[:-GAP, :-GAP], level=9))


if __name__ == "__main__":
    main()
