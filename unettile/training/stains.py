"""Stains: how a picture of stained tissue would look had its stains been others.

Light that passes a stain loses a share of each colour that grows with its amount: in optical density, -log of what
passes, stains add up. A picture is unmixed into hematoxylin, eosin and DAB there, and mixed again with other vectors.
Vectors: Ruifrok, Johnston, "Quantification of histochemical staining by color deconvolution", 2001.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unettile.training import kernels
from unettile.training.smooth import draw_field

HEMATOXYLIN, EOSIN, DAB = (0.65, 0.70, 0.29), (0.07, 0.99, 0.11), (0.27, 0.57, 0.78)
STAINS = np.array([HEMATOXYLIN, EOSIN, DAB])  # (stain, r g b), nearly of length 1
UNMIXED = np.linalg.inv(STAINS).astype(np.float32)
SMOOTHING = np.array([1, 4, 6, 4, 1], np.float32) / 16
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
    """Return a picture (3, n, n) of H&E as one of immunohistochemistry.

    Brown are all nuclei, or the nuclei of some places, or what lies about the nuclei of some places, which stay blue:
    membranes and cytoplasm. What hematoxylin the ground has is taken away, and eosin becomes pale blue.
    """
    blue, red, _ = _without_specks(_unmixed(image).reshape(image.shape))
    blue = np.maximum(0, blue - np.float32(rng.uniform(0.5, 1.0)) * max(np.float32(0), np.median(blue)))
    ground = np.float32(rng.uniform(0.05, 0.4)) * red
    where = rng.random()
    share = np.float32(1) if where < 0.25 else _places(rng, image.shape[1:])
    if where < 0.5:
        densities = blue * (1 - share) + ground, blue * share
    else:
        outside = 1 - np.clip(blue / max(np.float32(0.1), np.quantile(blue, 0.98)), 0, 1) * rng.uniform(0.5, 1)
        brown = np.float32(rng.uniform(0.3, 1.5)) * outside * _web(rng, image.shape[1:])
        tissue = np.clip(4 * np.maximum(red, blue), 0, 1)  # glass stays white
        densities = np.float32(rng.uniform(0.4, 1.2)) * blue + ground, share * tissue * brown
    vectors = np.maximum(0.0, STAINS + rng.normal(0, 0.15 * strength, (3, 3))) * rng.uniform(0.7, 2.0)
    return _mixed(np.stack(densities).reshape(2, -1), vectors[[0, 2]], image.shape)


def as_tissue(rng: np.random.Generator, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a picture (3, n, n) of nuclei that shine on a dark ground as one of H&E.

    What shines becomes hematoxylin, and the ground fibres and plasma of eosin, with holes of glass.
    """
    light = np.clip(image.mean(axis=0), 0, 1) ** np.float32(rng.uniform(0.6, 1.4))
    ground = _web(rng, light.shape) * (1 - light)
    if rng.random() < 0.5:
        ground = ground * _places(rng, light.shape)
    blue = np.float32(rng.uniform(0.5, 1.4)) * light + np.float32(rng.uniform(0, 0.15)) * ground
    red = np.float32(rng.uniform(0.05, 0.6)) * ground + np.float32(rng.uniform(0, 0.2)) * light
    return _mixed(np.stack([blue, red]).reshape(2, -1), STAINS[:2], image.shape)


def _places(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Draw a map (H, W), 0 … 1, nearly 1 in some places and nearly 0 in the others."""
    height, width = shape
    field = draw_field(rng, (height, width), int(rng.integers(2, 6)), 3.0) + np.float32(rng.normal(0, 2))
    places: NDArray[np.float32] = 1 / (1 + np.exp(-field))
    return places


def _web(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Draw a map (H, W), 0 … 1, of lines that part cells, as membranes and fibres do, with plasma between."""
    height, width = shape
    field = draw_field(rng, (height, width), int(rng.integers(5, 28)), 1.0)
    between = np.float32(rng.uniform(0, 0.7))
    lines: NDArray[np.float32] = np.exp(-((field / np.float32(rng.uniform(0.1, 0.5))) ** 2))
    return between + (1 - between) * lines


def _without_specks(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return maps (K, H, W) blurred a little: unmixing makes more of what a lossy compression left of colours."""
    out = np.empty_like(maps)
    kernels.blur(maps, SMOOTHING, out)
    return out


def _unmixed(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the density of each stain, (3, pixels)."""
    density = -np.log(np.clip(image, DARKEST, 1.0)).reshape(3, -1)
    stains: NDArray[np.float32] = UNMIXED.T @ density
    return stains


def _mixed(stains: NDArray[np.float32], vectors: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float32]:
    light: NDArray[np.float32] = np.exp(-np.maximum(0, vectors.T.astype(np.float32) @ stains))
    return light.reshape(shape).astype(np.float32, copy=False)
