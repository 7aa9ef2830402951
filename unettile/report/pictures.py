"""Pictures of a validation image: itself, truth, prediction, error and weight map, small enough to stand in a page."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.images.colours import Colour
from unettile.training.reader import OpenPair
from unettile.training.recipe import Recipe
from unettile.training.survey import Source
from unettile.training.targets import target_of
from unettile.training.validate import Judge

EDGE = 320  # px; of a larger image the middle is shown
INVENTED, MISSED, CONFUSED = (255, 140, 0), (60, 150, 255), (230, 60, 200)
HEAT = np.array([(0, 0, 4), (81, 18, 124), (183, 55, 121), (252, 137, 97), (252, 253, 191)], np.float64)


@dataclass(frozen=True)
class Panels:
    """Data URIs of the five pictures, and the largest weight."""

    image: str
    truth: str
    prediction: str
    error: str
    weights: str
    largest_weight: float


def draw_panels(source: Source, judge: Judge, recipe: Recipe, colours: tuple[Colour, ...]) -> Panels:
    """Return the pictures of the middle of an image."""
    predicted = judge.predict(source)
    shown = _middle(predicted.box)
    with OpenPair(source.pair, recipe.labels) as opened:
        pixels = source.scaling.apply(opened.image.read(shown))
        target = target_of(opened.ids(shown), recipe.labels, str(source.pair.labels), recipe.loss.sigma)
    if recipe.images.signed:
        pixels = pixels * np.float32(0.5) + np.float32(0.5)
    picture = _picture(pixels)
    found = predicted.classes[shown.relative_to(predicted.box).slices]
    table = np.array(colours, np.uint8)
    weights = target.weights(recipe.loss.w0, recipe.loss.sigma)
    return Panels(
        image=_jpeg(picture),
        truth=_png(table[target.classes]),
        prediction=_png(table[found]),
        error=_png(_error(picture, target.classes, found, target.counted)),
        weights=_png(_heat(weights, max(1 + recipe.loss.w0, float(weights.max())))),  # alike on all images
        largest_weight=float(weights.max()),
    )


def _middle(box: Box) -> Box:
    height, width = min(EDGE, box.height), min(EDGE, box.width)
    y, x = box.y0 + (box.height - height) // 2, box.x0 + (box.width - width) // 2
    return Box(y, x, y + height, x + width)


def _picture(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return (h, w, 3) of scaled values (h, w, C): grey for one channel or two, the first three as colours of more."""
    values = pixels[..., :3] if pixels.shape[2] >= 3 else np.repeat(pixels[..., :1], 3, axis=2)
    picture: NDArray[np.uint8] = (values.clip(0, 1) * 255).astype(np.uint8)
    return picture


def _error(
    picture: NDArray[np.uint8],
    truth: NDArray[np.int64],
    found: NDArray[np.uint8],
    counted: NDArray[np.bool_] | None,
) -> NDArray[np.uint8]:
    """Return the picture, grey and dim, with what is wrong in colour."""
    drawn = np.repeat((picture.mean(axis=2, keepdims=True) * 0.45).astype(np.uint8), 3, axis=2)
    wrong = truth != found if counted is None else (truth != found) & counted
    drawn[wrong & (truth == 0)] = INVENTED
    drawn[wrong & (found == 0)] = MISSED
    drawn[wrong & (truth != 0) & (found != 0)] = CONFUSED
    return drawn


def _heat(weights: NDArray[np.float32], top: float) -> NDArray[np.uint8]:
    """Return the weights in colours from 0, black, to `top`, pale yellow."""
    place = weights / np.float32(top) * (len(HEAT) - 1)
    below = np.minimum(place.astype(np.intp), len(HEAT) - 2)
    share = (place - below)[..., None]
    mixed: NDArray[np.uint8] = (HEAT[below] * (1 - share) + HEAT[below + 1] * share).astype(np.uint8)
    return mixed


def _png(pixels: NDArray[np.uint8]) -> str:
    return "data:image/png;base64," + base64.b64encode(imagecodecs.png_encode(pixels)).decode()


def _jpeg(pixels: NDArray[np.uint8]) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(imagecodecs.jpeg_encode(pixels, level=88)).decode()
