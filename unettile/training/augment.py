"""Augmentation: one coordinate map for all that moves pixels, then changes of grey values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn import functional as F

from unettile.training.recipe import AugmentPart


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


def draw_warp(rng: np.random.Generator, part: AugmentPart, edge: int, shape: tuple[int, int]) -> Warp:
    """Draw a place in an image of `shape`, and a flip, rotation, zoom and elastic deformation, as one map.

    The elastic part is that of the U-Net paper, section 3.1: Gaussian displacements on a coarse grid, bicubic between.
    """
    centre = rng.uniform((0, 0), (shape[0] - 1, shape[1] - 1))
    angle = rng.uniform(0, 2 * np.pi) if part.rotate else 0.0
    zoom = np.exp(rng.uniform(np.log(part.zoom[0]), np.log(part.zoom[1])))
    mirror = -1.0 if part.flip and rng.random() < 0.5 else 1.0
    offset = np.arange(edge, dtype=np.float32) - (edge - 1) / 2
    dy, dx = offset[:, None], offset[None, :] * mirror
    if part.elastic_std > 0:
        coarse = rng.normal(0, part.elastic_std, (1, 2, part.elastic_grid, part.elastic_grid)).astype(np.float32)
        fine = F.interpolate(torch.from_numpy(coarse), size=(edge, edge), mode="bicubic", align_corners=True)
        dy, dx = dy + fine[0, 0].numpy(), dx + fine[0, 1].numpy()
    cosine, sine = np.float32(np.cos(angle) / zoom), np.float32(np.sin(angle) / zoom)
    return Warp(
        (cosine * dy - sine * dx + np.float32(centre[0])).astype(np.float32),
        (sine * dy + cosine * dx + np.float32(centre[1])).astype(np.float32),
    )


def reflect(coordinates: NDArray[np.float32], length: int) -> NDArray[np.float32]:
    """Reflect coordinates about the centres of the first and last pixel, as often as needed, into 0 … length - 1."""
    if length == 1:
        return np.zeros_like(coordinates)
    period = np.float32(2 * (length - 1))
    folded = np.mod(coordinates, period)
    return np.minimum(folded, period - folded)


def resample(image: NDArray[np.float32], y: NDArray[np.float32], x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (C, n, n) bilinear samples of `image` (H, W, C) at coordinates inside it."""
    height, width = image.shape[:2]
    grid = np.stack([2 * x / max(width - 1, 1) - 1, 2 * y / max(height - 1, 1) - 1], axis=-1)
    source = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
    samples = F.grid_sample(source, torch.from_numpy(grid)[None], padding_mode="border", align_corners=True)
    result: NDArray[np.float32] = samples[0].numpy()
    return result


def resample_labels(labels: NDArray[np.integer], y: NDArray[np.float32], x: NDArray[np.float32]) -> NDArray[np.integer]:
    """Return the labels (H, W) nearest to the coordinates."""
    return labels[np.rint(y).astype(np.intp), np.rint(x).astype(np.intp)]


def vary_values(rng: np.random.Generator, part: AugmentPart, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Change the values of a scaled image (C, n, n), whose darkest and brightest pixels are about 0 and 1."""
    if len(image) == 3 and rng.random() < part.grey:
        image = np.repeat(image.mean(axis=0, keepdims=True), 3, axis=0)
    if rng.random() < part.invert:
        image = 1 - image
    if part.color > 0 and len(image) > 1 and np.ptp(image, axis=0).max() > 1e-3:  # grey images stay grey
        image = image * rng.uniform(1 - part.color, 1 + part.color, (len(image), 1, 1)).astype(np.float32)
        image = image + rng.uniform(-part.color / 2, part.color / 2, (len(image), 1, 1)).astype(np.float32)
    if rng.random() < part.dim:
        image = image * np.float32(np.exp(rng.uniform(np.log(0.2), 0)))
    if part.gamma > 0:
        power = np.float32(np.exp(rng.uniform(-part.gamma, part.gamma)))
        image = np.sign(image) * np.abs(image) ** power
    gain = np.float32(1 + rng.uniform(-part.contrast, part.contrast))
    image = (image - image.mean()) * gain + image.mean() + np.float32(rng.uniform(-part.brightness, part.brightness))
    if part.blur > 0 and rng.random() < 0.5:
        sigma = rng.uniform(0, part.blur)
        image = np.stack([ndimage.gaussian_filter(channel, sigma) for channel in image])
    if part.noise > 0 and rng.random() < 0.5:
        noise = rng.normal(0, rng.uniform(0, part.noise), image.shape[1:])
        image = image + noise.astype(np.float32)  # the same on all channels, so that grey stays grey
    return image.astype(np.float32)
