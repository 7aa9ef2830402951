"""Draw docs/models.png: what the default model finds in the two sample images, where it is good and where it is not.

python docs/make_models_picture.py
"""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import imageio.v3
import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import find_boundaries

import unettile

HERE = Path(__file__).parent
SAMPLES = HERE.parent / "sample_data"
GAP = 8
PANELS = (("nuclei.tif", np.s_[180:628, 460:908]), ("tissue.png", np.s_[64:512, 64:512]))
"""File, and what is shown of it."""
YELLOW, BLACK = (1.0, 1.0, 0.3), (0.0, 0.0, 0.0)


def panel(pixels: NDArray[np.uint8], ids: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Return a picture of an image with the outlines of its objects: yellow on dark ground, black on bright."""
    shown = pixels / max(1, pixels.max())
    shown[find_boundaries(ids)] = YELLOW if pixels.mean() < 100 else BLACK
    picture: NDArray[np.uint8] = (shown.clip(0, 1) * 255).round().astype(np.uint8)
    return picture


def main() -> None:
    """Segment whole images, and write the picture of parts."""
    model = unettile.load("nuclei", device="cpu", precision="fp32")
    row = []
    for name, part in PANELS:
        pixels = imageio.v3.imread(SAMPLES / name)
        ids = model.segment(pixels, write="instances")
        colours = np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels
        row.append(np.pad(panel(colours[part], ids[part]), ((0, 0), (0, GAP), (0, 0)), constant_values=255))
    (HERE / "models.png").write_bytes(imagecodecs.png_encode(np.hstack(row)[:, :-GAP], level=9))


if __name__ == "__main__":
    main()
