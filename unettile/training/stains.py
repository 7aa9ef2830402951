"""Stains: how a picture of stained tissue would look had its stains been others.

Light that passes a stain loses a share of each colour that grows with its amount: in optical density, -log of what
passes, stains add up. A picture is unmixed into hematoxylin, eosin and DAB there, and mixed again with other vectors.
Vectors: Ruifrok, Johnston, "Quantification of histochemical staining by color deconvolution", 2001.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

HEMATOXYLIN, EOSIN, DAB = (0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78)
STAINS = np.array([HEMATOXYLIN, EOSIN, DAB])  # (stain, r g b), nearly of length 1
UNMIXED = np.linalg.inv(STAINS).astype(np.float32)
DARKEST = 0.02  # of the white: less light than this is noise


def vary_stains(rng: np.random.Generator, strength: float, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a picture (3, n, n), white about 1, with other amounts of its stains, and other hues.

    Args:
        strength: 0 … 1.
    """
    amounts = np.exp(rng.uniform(-strength, strength, 3))
    vectors = np.maximum(0.0, STAINS + rng.normal(0, 0.15 * strength, (3, 3))) * amounts[:, None]
    return _mixed(_unmixed(image), vectors, image.shape)


def as_brown(rng: np.random.Generator, strength: float, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a picture (3, n, n) of H&E as one of immunohistochemistry: nuclei brown, or here brown and there blue.

    What hematoxylin the ground has is taken away, and eosin becomes pale blue.
    """
    blue, red, brown = _unmixed(image)
    blue = np.maximum(0, blue - np.float32(rng.uniform(0.5, 1.0)) * max(np.float32(0), np.median(blue)))
    share = np.float32(1)
    if rng.random() < 0.5:  # of nuclei that are brown, from place to place
        down, right = (np.linspace(-1, 1, edge, dtype=np.float32) for edge in image.shape[1:])
        y, x, shift = rng.normal(0, 3, 3).astype(np.float32)
        share = (1 / (1 + np.exp(-(y * down[:, None] + x * right[None, :] + shift)))).ravel()
    densities = np.stack([blue * (1 - share) + np.float32(rng.uniform(0.05, 0.4)) * red, brown * 0, blue * share])
    vectors = np.maximum(0.0, STAINS + rng.normal(0, 0.15 * strength, (3, 3))) * rng.uniform(0.7, 2.0)
    return _mixed(densities, vectors, image.shape)


def _unmixed(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the density of each stain, (3, pixels)."""
    density = -np.log(np.clip(image, DARKEST, 1.0)).reshape(3, -1)
    stains: NDArray[np.float32] = UNMIXED.T @ density
    return stains


def _mixed(stains: NDArray[np.float32], vectors: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float32]:
    light: NDArray[np.float32] = np.exp(-np.maximum(0, vectors.T.astype(np.float32) @ stains))
    return light.reshape(shape).astype(np.float32, copy=False)
