"""Draw the shapes data set: circles, triangles and squares on flat grounds, with their classes.

    python sample_data/make_shapes.py shapes        writes shapes/images/*.png (RGB) and shapes/labels/*.png (palette)

Each picture has one to four shapes of any colour that can be told from the ground; each stands upright or turned by up
to 20°, lies wholly inside the picture and touches no other. Edges are smooth, and a little noise lies over everything.
It is an easy set, made to show that a network learns: what it is scored on is which shape, and where exactly its edge
is. The same count and seed give the same bytes.
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
RADII = (10, 26)  # px, of the circle around a shape
FREE = 3  # px between two shapes, and to the picture's edge, at least
TURN = np.radians(20)
NOISE = (0.0, 0.03)  # standard deviation, of the range from black to white
CONTRAST = 0.25  # from the ground, in one channel at least
CORNERS = {2: 3, 3: 4}


def distance(kind: int, centre: NDArray[np.float64], radius: float, turn: float) -> NDArray[np.float64]:
    """Return how far (px) each fine pixel lies outside a shape; negative inside."""
    y, x = (np.mgrid[: EDGE * FINE, : EDGE * FINE] + 0.5) / FINE - centre[:, None, None]
    if kind == 1:
        return np.hypot(y, x) - radius
    corners = CORNERS[kind]
    angles = turn + np.pi / 2 + 2 * np.pi * np.arange(corners) / corners  # the first side lies below
    inner = radius * np.cos(np.pi / corners)
    return np.max([y * np.sin(angle) + x * np.cos(angle) - inner for angle in angles], axis=0)


def places(rng: np.random.Generator) -> list[tuple[NDArray[np.float64], float]]:
    """Return the circles (centre, radius), px, that the shapes of one picture lie in; none touches another."""
    circles: list[tuple[NDArray[np.float64], float]] = []
    for _ in range(rng.integers(1, 5)):
        radius = rng.uniform(*RADII)
        centre = rng.uniform(radius + FREE, EDGE - radius - FREE, 2)
        if all(np.hypot(*(centre - other)) > radius + size + FREE for other, size in circles):
            circles.append((centre, radius))
    return circles


def draw(rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a picture (128, 128, 3) and its classes (128, 128)."""
    ground = rng.random(3)
    picture = np.tile(ground, (EDGE, EDGE, 1))
    classes = np.zeros((EDGE, EDGE), np.uint8)
    for centre, radius in places(rng):
        kind = int(rng.integers(1, 4))
        far = distance(kind, centre, radius, rng.uniform(-TURN, TURN))
        cover = (far < 0).reshape(EDGE, FINE, EDGE, FINE).mean(axis=(1, 3))
        colour = ground
        while np.abs(colour - ground).max() < CONTRAST:
            colour = np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.3, 1), rng.uniform(0.3, 1)))
        picture += cover[..., None] * (colour - ground)
        classes[cover >= 0.5] = kind
    picture += rng.normal(0, rng.uniform(*NOISE), picture.shape)
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
