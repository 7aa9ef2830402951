"""Draw the shapes data set: circles, triangles and squares on noisy grounds, with their classes.

    python sample_data/make_shapes.py shapes        writes shapes/images/*.png (RGB) and shapes/labels/*.png (palette)

Each picture has one to five shapes of any colour, size, turn and order; a shape may hide a part of another. Edges are
smooth, noise and slopes of light lie over everything. The same count and seed give the same bytes.
"""

from __future__ import annotations

import argparse
import colorsys
from pathlib import Path

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from unettile.images.canvas import Canvas, Layer
from unettile.images.colours import distinct_colours
from unettile.images.write_png import write_png

CLASSES = ("background", "circle", "triangle", "square")
EDGE = 128
FINE = 4  # pixels are drawn as so many by so many, and averaged
CORNERS = {2: 3, 3: 4}


def distance(kind: int, centre: NDArray[np.float64], radius: float, turn: float) -> NDArray[np.float64]:
    """Return how far (px) each fine pixel lies outside a shape; negative inside."""
    y, x = (np.mgrid[: EDGE * FINE, : EDGE * FINE] + 0.5) / FINE - centre[:, None, None]
    if kind == 1:
        return np.hypot(y, x) - radius
    corners = CORNERS[kind]
    angles = turn + 2 * np.pi * np.arange(corners) / corners
    inner = radius * np.cos(np.pi / corners)
    return np.max([y * np.sin(angle) + x * np.cos(angle) - inner for angle in angles], axis=0)


def draw(rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a picture (128, 128, 3) and its classes (128, 128)."""
    picture = np.empty((EDGE, EDGE, 3))
    picture[:] = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0, 0.5), rng.uniform(0.2, 0.8))
    classes = np.zeros((EDGE, EDGE), np.uint8)
    for _ in range(rng.integers(1, 6)):
        kind = int(rng.integers(1, 4))
        radius = rng.uniform(10, 28)
        far = distance(kind, rng.uniform(8, EDGE - 8, 2), radius, rng.uniform(0, 2 * np.pi))
        cover = (far < 0).reshape(EDGE, FINE, EDGE, FINE).mean(axis=(1, 3))
        colour = np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.3, 1), rng.uniform(0.3, 1)))
        while np.abs(colour - picture[0, 0]).max() < 0.25:  # one that can be told from the ground
            colour = rng.random(3)
        picture += cover[..., None] * (colour - picture)
        classes[cover >= 0.5] = kind
    slope = np.linspace(-0.1, 0.1, EDGE) * rng.uniform(-1, 1)
    picture += slope[:, None, None] + rng.normal(0, rng.uniform(0.01, 0.06), picture.shape)
    return (picture.clip(0, 1) * 255).astype(np.uint8), classes


def write(folder: Path, count: int, seed: int) -> None:
    """Write so many pictures and label images."""
    rng = np.random.default_rng(seed)
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    canvas = Canvas((EDGE, EDGE), (Layer("classes", names=CLASSES, colours=distinct_colours(len(CLASSES))),))
    for index in range(count):
        picture, classes = draw(rng)
        (folder / "images" / f"{index:04}.png").write_bytes(imagecodecs.png_encode(picture))
        write_png(folder / "labels" / f"{index:04}.png", canvas, lambda box, classes=classes: classes[box.slices])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    write(given.folder, given.count, given.seed)
