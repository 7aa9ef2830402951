"""Pictures of a validation image: truth, prediction, error and weight map, small enough to stand in a page."""

from __future__ import annotations

import base64

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.images.colours import Colour
from unettile.training.kinds import UNKNOWN
from unettile.training.reader import OpenPair
from unettile.training.recipe import Recipe
from unettile.training.survey import Source
from unettile.training.targets import target_of
from unettile.training.validate import Judge

EDGE = 320  # px; of a larger image the part with the most errors is shown, and all of it smaller
STEP = 32  # px between the parts that are looked at
INVENTED, MISSED, CONFUSED = (255, 140, 0), (60, 150, 255), (230, 60, 200)
OF_UNKNOWN_KIND = 128, 128, 128
HEAT = np.array([(0, 0, 4), (81, 18, 124), (183, 55, 121), (252, 137, 97), (252, 253, 191)], np.float64)


def draw_panels(
    source: Source, judge: Judge, recipe: Recipe, colours: tuple[Colour, ...]
) -> tuple[tuple[str, str], ...]:
    """Return names and data URIs of pictures of an image: where most is wrong, and of a larger one all, smaller."""
    predicted = judge.predict(source)
    with OpenPair(source.pair, recipe.labels) as opened:
        picture = _picture(opened, source, predicted.box, recipe.images.signed)
        target = target_of(opened.ids(predicted.box), recipe.labels, str(source.pair.labels), kinds=opened.kinds)
        truth = _known(target.classes, predicted.classes, recipe.labels.kinds)
        shown = _worst(truth, predicted.classes, target.counted).shift(predicted.box.y0, predicted.box.x0)
        near = target_of(
            opened.ids(shown), recipe.labels, str(source.pair.labels), recipe.loss.sigma, kinds=opened.kinds
        )
        weights = near.weights(recipe.loss.w0, recipe.loss.sigma)
    part = shown.relative_to(predicted.box).slices
    table = np.array([*colours, OF_UNKNOWN_KIND], np.uint8)  # the last is where the class UNKNOWN, -1, points
    error = _error(picture, truth, predicted.classes, target.counted)
    pictures = [
        ("image", _jpeg(np.ascontiguousarray(picture[part]))),
        ("truth", _png(table[target.classes[part]])),
        ("prediction", _png(table[predicted.classes[part]])),
        ("error", _png(np.ascontiguousarray(error[part]))),
    ]
    if np.ptp(weights) > 0:
        largest = float(weights.max())
        heat = _heat(weights, max(1 + recipe.loss.w0, largest))  # alike on all images
        pictures.append((f"weights, up to {largest:.3g}", _png(heat)))
    if shown != predicted.box:
        pictures.append(("all of it, and where", _jpeg(_smaller(error, part))))
    return tuple(pictures)


def _known(truth: NDArray[np.int64], found: NDArray[np.uint8], kinds: int) -> NDArray[np.int64]:
    """Return the truth, where objects of unknown kind are of the kind that was found: any is right.

    >>> _known(np.array([UNKNOWN, UNKNOWN, UNKNOWN, 1]), np.array([2, 0, 3, 2], np.uint8), 2).tolist()
    [2, -1, -1, 1]
    """
    any_is_right = (truth == UNKNOWN) & (found >= 1) & (found <= kinds)
    return np.where(any_is_right, found, truth)


def _worst(truth: NDArray[np.int64], found: NDArray[np.uint8], counted: NDArray[np.bool_] | None) -> Box:
    """Return the part of an image with the most wrong pixels; of parts alike that with the most foreground."""
    wrong = truth != found if counted is None else (truth != found) & counted
    height, width = (min(EDGE, edge) for edge in truth.shape)
    sums = np.zeros((truth.shape[0] + 1, truth.shape[1] + 1))
    sums[1:, 1:] = (wrong + 1e-6 * (truth != 0)).cumsum(axis=0).cumsum(axis=1)
    corners = [
        (y, x)
        for y in sorted({*range(0, truth.shape[0] - height, STEP), truth.shape[0] - height})
        for x in sorted({*range(0, truth.shape[1] - width, STEP), truth.shape[1] - width})
    ]

    def inside(corner: tuple[int, int]) -> float:
        y, x = corner
        return float(sums[y + height, x + width] - sums[y, x + width] - sums[y + height, x] + sums[y, x])

    y, x = max(corners, key=inside)
    return Box(y, x, y + height, x + width)


def _smaller(error: NDArray[np.uint8], part: tuple[slice, slice]) -> NDArray[np.uint8]:
    """Return the picture of errors of a whole image so small that it stands beside the others, with a frame."""
    factor = -(-max(error.shape[:2]) // EDGE)
    rows, columns = part
    framed = error.copy()
    for inner in (
        framed[rows, columns.start : columns.start + 2 * factor],
        framed[rows, columns.stop - 2 * factor : columns.stop],
        framed[rows.start : rows.start + 2 * factor, columns],
        framed[rows.stop - 2 * factor : rows.stop, columns],
    ):
        inner[:] = 255
    height, width = (edge // factor for edge in error.shape[:2])
    tiles = framed[: height * factor, : width * factor].reshape(height, factor, width, factor, 3)
    small: NDArray[np.uint8] = tiles.mean(axis=(1, 3)).astype(np.uint8)
    return small


def _picture(opened: OpenPair, source: Source, box: Box, signed: bool) -> NDArray[np.uint8]:
    """Return a part of an image as the network sees it: grey for one channel or two, the first three as colours."""
    pixels = source.scaling.apply(opened.image.read(box))
    if signed:
        pixels = pixels * np.float32(0.5) + np.float32(0.5)
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
