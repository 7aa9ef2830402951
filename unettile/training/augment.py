"""Augmentation: one coordinate map for all that moves pixels, then changes of grey values.

What touches every pixel is compiled: a loader that makes samples on the cores that train has little time for each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from unettile.images.normalize import HIGHEST, LOWEST, Scaling
from unettile.training import kernels
from unettile.training.parts import AugmentPart
from unettile.training.smooth import draw_field
from unettile.training.stains import as_brown, as_tissue, vary_stains

COLOURED = 0.02  # channels that differ by less are grey, stored as a picture
FLUORESCENT = 0.4  # a grey image with a lower mean is nuclei that shine on a dark ground
COMPILED = (np.uint8, np.uint16, np.float32)  # types of images that are resampled without a conversion


@dataclass(frozen=True)
class Warp:
    """Where each pixel of a sample comes from.

    Args:
        y, x: (n, n) float32 coordinates in the image, which may lie outside it: reflect them.
    """

    y: NDArray[np.float32]
    x: NDArray[np.float32]

    def centre(self, edge: int) -> Warp:
        """Return the middle `edge` × `edge` of the map."""
        cut = (self.y.shape[0] - edge) // 2
        inside = slice(cut, cut + edge)
        return Warp(self.y[inside, inside], self.x[inside, inside])


def draw_warp(rng: np.random.Generator, part: AugmentPart, edge: int, centre: tuple[float, float]) -> Warp:
    """Draw a flip, rotation, zoom and elastic deformation about a place (y, x) of an image, as one map.

    The elastic part is that of the U-Net paper, section 3.1: Gaussian displacements on a coarse grid, bicubic between.
    """
    angle = rng.uniform(0, 2 * np.pi) if part.rotate else 0.0
    zoom = np.exp(rng.uniform(np.log(part.zoom[0]), np.log(part.zoom[1])))
    mirror = -1.0 if part.flip and rng.random() < 0.5 else 1.0
    offset = np.arange(edge, dtype=np.float32) - np.float32((edge - 1) / 2)
    dy, dx = offset[:, None], offset[None, :] * np.float32(mirror)
    if part.elastic_std > 0:
        field = (edge, edge), part.elastic_grid, part.elastic_std
        dy = dy + draw_field(rng, *field)
        dx = dx + draw_field(rng, *field)
    cosine, sine = np.float32(np.cos(angle) / zoom), np.float32(np.sin(angle) / zoom)
    return Warp(
        cosine * dy - sine * dx + np.float32(centre[0]),
        sine * dy + cosine * dx + np.float32(centre[1]),
    )


def draw_plain_warp(rng: np.random.Generator, part: AugmentPart, edge: int, centre: tuple[float, float]) -> Warp:
    """Draw a flip and a turn by right angles about the place next to (y, x) at which pixels fall on pixels."""
    turns = int(rng.integers(4)) if part.rotate else 0
    mirror = part.flip and rng.random() < 0.5
    y0, x0 = (np.floor(place) - (edge - 1) // 2 for place in centre)
    y, x = np.meshgrid(
        np.arange(edge, dtype=np.float32) + np.float32(y0),
        np.arange(edge, dtype=np.float32) + np.float32(x0),
        indexing="ij",
    )
    y, x = (np.rot90(coordinates[:, ::-1] if mirror else coordinates, turns) for coordinates in (y, x))
    return Warp(np.ascontiguousarray(y), np.ascontiguousarray(x))


def reflect(coordinates: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """Fold coordinates (n, m) about the first and the last pixel of an axis, as often as it takes."""
    if length == 1:
        return np.zeros_like(coordinates)
    period = np.float32(2 * (length - 1))
    folded = np.abs(coordinates)
    if folded.max() > period:
        folded %= period
    return np.minimum(folded, period - folded)


def resample(
    image: NDArray[np.generic], y: NDArray[np.float32], x: NDArray[np.float32], scaling: Scaling
) -> NDArray[np.float32]:
    """Return (C, n, n) bilinear samples of an image (H, W, C), scaled, at coordinates inside it."""
    if image.dtype not in COMPILED:
        image, scaling = scaling.apply(image), Scaling((0.0,) * image.shape[2], (1.0,) * image.shape[2])
    out = np.empty((image.shape[2], *y.shape), np.float32)
    low = np.array(scaling.low, np.float32)
    spread = np.array(scaling.high, np.float32) - low
    gain = np.divide(1, spread, out=np.zeros_like(spread), where=spread > 0)
    kernels.resample(_plain(image), y, x, low, gain, np.float32(LOWEST), np.float32(HIGHEST), out)
    return out


def resample_map(values: NDArray[np.float32], y: NDArray[np.float32], x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (n, n) bilinear samples of a map (H, W) at coordinates inside it."""
    out = np.empty((1, *y.shape), np.float32)
    low, gain, bound = np.zeros(1, np.float32), np.ones(1, np.float32), np.float32(np.inf)
    kernels.resample(_plain(values[..., None]), y, x, low, gain, -bound, bound, out)
    values = out[0]
    return values


def resample_labels(labels: NDArray[np.integer], y: NDArray[np.float32], x: NDArray[np.float32]) -> NDArray[np.integer]:
    """Return the labels (H, W) nearest to the coordinates."""
    out = np.empty(y.shape, labels.dtype)
    kernels.nearest(_plain(labels), y, x, out)
    return out


def vary_values(rng: np.random.Generator, part: AugmentPart, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Change the values of a scaled image (C, n, n), whose darkest and brightest pixels are about 0 and 1."""
    if len(image) == 3 and rng.random() < part.grey:
        image = np.repeat(image.mean(axis=0, keepdims=True), 3, axis=0)
    coloured = len(image) == 3 and kernels.is_coloured(image, COLOURED)
    if part.dye > 0 and len(image) == 3 and not coloured and image.mean() < FLUORESCENT and rng.random() < part.dye:
        image, coloured = as_tissue(rng, image), True
    if coloured and image.mean() > 0.3:  # bright field, not fluorescence
        if rng.random() < part.brown:
            image = as_brown(rng, part.stain, image)
        elif part.stain > 0:
            image = vary_stains(rng, part.stain, image)
    gain, shift = np.ones(len(image)), np.zeros(len(image))  # all linear changes of a channel are one
    if rng.random() < part.invert:
        gain, shift = -gain, shift + 1
    if part.color > 0 and len(image) > 1:
        stronger = rng.uniform(1 - part.color, 1 + part.color, len(image))
        brighter = rng.uniform(-part.color / 2, part.color / 2, len(image))
        if kernels.is_coloured(image, 1e-3):  # grey images stay grey
            gain, shift = gain * stronger, shift * stronger + brighter
    if rng.random() < part.dim:
        factor = np.exp(rng.uniform(np.log(0.2), 0))
        gain, shift = gain * factor, shift * factor
    power = np.exp(rng.uniform(-part.gamma, part.gamma)) if part.gamma > 0 else 1.0
    contrast = 1 + rng.uniform(-part.contrast, part.contrast)
    brightness = rng.uniform(-part.brightness, part.brightness)
    out = np.empty(image.shape, np.float32)
    mean = kernels.bend(image, gain.astype(np.float32), shift.astype(np.float32), np.float32(power), out)
    if part.blur > 0 and rng.random() < 0.5:
        out = _blurred(out, rng.uniform(0, part.blur))
    noise = None
    if part.noise > 0 and rng.random() < 0.5:
        strength = np.float32(rng.uniform(0, part.noise))
        noise = rng.standard_normal(image.shape[1:], np.float32) * strength  # one for all channels: grey stays grey
    out *= np.float32(contrast)
    out += np.float32(mean * (1 - contrast) + brightness)
    if noise is not None:
        out += noise
    if rng.random() < part.jpeg:
        out = _compressed(out, int(rng.integers(25, 85)))
    return out


def _compressed(image: NDArray[np.float32], quality: int) -> NDArray[np.float32]:
    """Return an image (C, n, n) as it is after a compression to a JPEG of that quality; its range becomes 8 bits."""
    low, high = float(image.min()), float(image.max())
    if len(image) not in (1, 3) or high <= low:
        return image
    levels = np.rint((image - low) * (255 / (high - low))).astype(np.uint8).transpose(1, 2, 0)
    decoded = imagecodecs.jpeg8_decode(imagecodecs.jpeg8_encode(np.ascontiguousarray(levels).squeeze(), level=quality))
    values = decoded.reshape(levels.shape).transpose(2, 0, 1).astype(np.float32)
    return np.ascontiguousarray(values) * np.float32((high - low) / 255) + np.float32(low)


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array in the one layout that the kernels are compiled for."""
    return np.require(array, requirements=["C_CONTIGUOUS", "WRITEABLE"])


def _blurred(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Return a Gaussian blur of an image (C, n, n), mirrored at its edges, cut off at 3 sigma."""
    radius = min(int(np.ceil(3 * sigma)), image.shape[1] - 1, image.shape[2] - 1)
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / max(sigma, 1e-6)) ** 2).astype(np.float32)
    taps /= taps.sum()
    out = np.empty_like(image)
    kernels.blur(image, taps, out)
    return out
