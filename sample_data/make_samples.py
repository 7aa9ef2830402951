"""Make the files in this folder from the two packages that they come from.

    pip download --no-deps mahotas==1.4.19 scikit-image==0.26.0
    python make_samples.py mahotas-1.4.19-*.whl scikit_image-0.26.0-*.whl

A wheel is a zip file, so nothing is installed. The same wheels give the same files, byte for byte.

The reference labels are made without any network, in four passes:

1. Smooth the image (Gaussian, 2 px), subtract the background level (the mode) and take the logarithm, which brings dim
   and very bright nuclei together.
2. Keep pixels above Otsu's threshold that are also brighter than their surroundings (Gaussian mean, 40 px), which
   cuts the halo of the bright nuclei; fill holes; open by a disk of 5 px; drop regions under 300 px.
3. Smooth the distance to the background (Gaussian, 4 px); each of its peaks at least 20 px from a higher one is a seed.
4. Watershed of the negative distance from the seeds, within the threshold.
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import imageio.v3
import numpy as np
import tifffile
from numpy.typing import NDArray
from scipy import ndimage
from skimage.feature import peak_local_max
from skimage.filters import threshold_otsu
from skimage.morphology import disk, remove_small_objects
from skimage.segmentation import relabel_sequential, watershed

HERE = Path(__file__).parent
CROP = (512, 448)  # two rows of three: 1024 x 1344 px


def main(mahotas_wheel: Path, skimage_wheel: Path) -> None:
    """Write nuclei.tif, tissue.png and the crops with their labels."""
    with zipfile.ZipFile(mahotas_wheel) as wheel, wheel.open("mahotas/demos/data/nuclear.png") as file:
        nuclei = imageio.v3.imread(file.read())[..., 0]  # stored as RGB with three equal channels
    with zipfile.ZipFile(skimage_wheel) as wheel:
        (HERE / "tissue.png").write_bytes(wheel.read("skimage/data/ihc.png"))
    write_tiff(HERE / "nuclei.tif", nuclei)
    labels = label_nuclei(nuclei)
    for kind, array in (("images", nuclei), ("labels", labels)):
        (HERE / "nuclei" / kind).mkdir(parents=True, exist_ok=True)
        for y in range(0, nuclei.shape[0], CROP[0]):
            for x in range(0, nuclei.shape[1], CROP[1]):
                path = HERE / "nuclei" / kind / f"nuclei_y{y:05d}_x{x:05d}.tif"
                write_tiff(path, array[y : y + CROP[0], x : x + CROP[1]])


def label_nuclei(image: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Outline the nuclei: (H, W) grey values to (H, W) ids, 0 is background."""
    smooth = ndimage.gaussian_filter(image.astype(float), 2)
    background = float(np.bincount(image.ravel()).argmax())
    bright = np.log(np.maximum(smooth - background, 1))
    inside = (bright > threshold_otsu(bright)) & (bright > ndimage.gaussian_filter(bright, 40))
    inside = ndimage.binary_opening(ndimage.binary_fill_holes(inside), disk(5))
    inside = remove_small_objects(inside, max_size=299)
    depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(inside), 4)
    seeds = np.zeros(image.shape, int)
    peaks = peak_local_max(depth, min_distance=20, labels=inside.astype(int), exclude_border=False)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels = watershed(-depth, seeds, mask=inside)
    return relabel_sequential(labels)[0].astype(np.uint16)


def write_tiff(path: Path, array: NDArray[np.integer]) -> None:
    tifffile.imwrite(
        path,
        array,
        tile=(256, 256),
        compression="zlib",
        predictor=True,
        photometric="minisblack",
        metadata=None,
        software=False,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
