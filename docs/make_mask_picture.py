"""Put an image and its mask side by side: docs/nuclei-mask.png.

    unettile segment sample_data/nuclei.tif -o mask.tif
    python docs/make_mask_picture.py sample_data/nuclei.tif mask.tif docs/nuclei-mask.png

The image is brightened for the eye; the network saw it as it is.
"""

from __future__ import annotations

import sys
from pathlib import Path

import imageio.v3
import numpy as np
import tifffile
from numpy.typing import NDArray


def main(image_path: Path, mask_path: Path, picture_path: Path) -> None:
    """Write the picture at half the image's size, the outline of the mask drawn into neither half."""
    image = brighten(imageio.v3.imread(image_path))
    mask = tifffile.imread(mask_path) > 0
    shown = np.where(mask, 245, 25).astype(np.uint8)
    halves = [half[: image.shape[0] // 2 * 2 : 2, : image.shape[1] // 2 * 2 : 2] for half in (image, shown)]
    gutter = np.full((halves[0].shape[0], 8), 255, np.uint8)
    imageio.v3.imwrite(picture_path, np.hstack([halves[0], gutter, halves[1]]), optimize=True)


def brighten(image: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Stretch the dim part of a fluorescence image: (H, W) to uint8."""
    low, high = np.percentile(image, (1, 98))
    scaled = np.clip((image - low) / (high - low), 0, 1)
    return (255 * scaled**0.7).astype(np.uint8)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
