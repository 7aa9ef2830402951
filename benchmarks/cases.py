"""What benches work on: an image of any size that is not the same anywhere, and U-Nets of any width."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
import torch
from numpy.typing import NDArray

from unettile.checkpoint import Checkpoint, ClassInfo, load_checkpoint, save_checkpoint
from unettile.images.normalize import Normalization
from unettile.networks import build_network, config_values
from unettile.networks.unet import UNetConfig

SAMPLE = Path(__file__).parent.parent / "sample_data" / "nuclei.tif"
LEVELS = 5


def mosaic(edge: int) -> NDArray[np.uint8]:
    """Return the sample image of nuclei, repeated to edge × edge px, each time shifted by another odd number of pixels.

    So no window of it comes twice: computing equal windows once is no help here.
    """
    sample: NDArray[np.uint8] = tifffile.imread(SAMPLE)
    height, width = sample.shape
    filled = np.empty((edge, edge), np.uint8)
    for row, y in enumerate(range(0, edge, height)):
        for column, x in enumerate(range(0, edge, width)):
            place = filled[y : y + height, x : x + width]
            shifted = np.roll(sample, (-53 * column, -101 * row), (0, 1))
            place[...] = shifted[: place.shape[0], : place.shape[1]]
    return filled


def write_mosaic(path: Path, edge: int) -> None:
    """Write the mosaic as a tiled, compressed TIFF."""
    tifffile.imwrite(path, mosaic(edge), tile=(512, 512), compression="zlib")


def random_unet(width: int, path: Path, padding: str = "valid") -> Checkpoint:
    """Write a U-Net of five levels, so wide at the top, of random parameters, whose two classes share the mosaic.

    Args:
        padding: of its convolutions; networks of one width have the same parameters, whatever their padding.
    """
    config = UNetConfig(widths=tuple(width << level for level in range(LEVELS)), padding=padding)
    torch.manual_seed(0)
    network = build_network("unet", config_values(config)).eval()
    normalization = Normalization()
    window = normalization.measure_array(mosaic(572)[..., None]).apply(mosaic(572)[..., None])
    with torch.inference_mode():
        logits = network(torch.from_numpy(window).permute(2, 0, 1)[None])[0]
    parameters = {name: tensor.detach() for name, tensor in network.state_dict().items()}
    parameters["head.bias"] = parameters["head.bias"] + torch.tensor([float((logits[1] - logits[0]).median()), 0.0])
    checkpoint = Checkpoint(
        network="unet",
        config=config_values(config),
        geometry=config.geometry,
        normalization=normalization,
        classes=(ClassInfo("background", (0, 0, 0)), ClassInfo("nucleus", (255, 220, 51))),
        parameters=parameters,
    )
    save_checkpoint(checkpoint, path)
    return load_checkpoint(path)
