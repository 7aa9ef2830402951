"""What looks wrong with a set is said before the first step, and nothing is said of a good one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.training.runs import RECIPE
from unettile.images.arrays import ArrayImage
from unettile.training.job import Data
from unettile.training.pairs import Pair
from unettile.training.parts import LabelPart
from unettile.training.words import CHANGES, early_words

Arrays = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def cells(seed: int, radius: int = 9, noise: float = 12.0) -> Arrays:
    """An image of bright discs, and their ids."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:120, :120]
    labels = np.zeros((120, 120), np.uint8)
    for number, (cy, cx) in enumerate(rng.uniform(0, 120, (12, 2)), start=1):
        labels[(y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = number
    image = 60 + 90.0 * (labels > 0) + rng.normal(0, noise, labels.shape)
    return image.clip(0, 255).astype(np.uint8), labels


def pairs_of(arrays: list[Arrays], name: str = "image {}") -> tuple[Pair, ...]:
    return tuple(
        Pair(ArrayImage(image, name=name.format(n)), ArrayImage(labels, name=f"labels {n}"))
        for n, (image, labels) in enumerate(arrays)
    )


GOOD = [cells(seed) for seed in range(6)]
OTHERS = pairs_of([cells(90), cells(91)], "other {}")


def test_nothing_is_said_of_a_good_set() -> None:
    assert early_words(Data(pairs_of(GOOD), OTHERS), RECIPE) == ()
    few = pairs_of(GOOD[:2])
    assert early_words(Data(few, few), RECIPE) == (), "scored on what is trained on"


@pytest.mark.parametrize("name", CHANGES)
def test_labels_that_are_turned_or_moved(name: str) -> None:
    wrong = [(image, CHANGES[name](labels > 0).astype(np.uint8) * 7) for image, labels in GOOD]
    (line,) = early_words(Data(pairs_of(wrong), OTHERS), RECIPE)
    opposite = {"higher": "lower", "lower": "higher", "right": "left", "left": "right"}
    last = name.split()[-1]
    expected = name.replace(last, opposite[last]) if "px" in name else name
    assert line.startswith(f"labels {expected} would fit") and "\n" not in line


def test_labels_of_other_images() -> None:
    wrong = [(image, GOOD[(n - 1) % 6][1]) for n, (image, _) in enumerate(GOOD)]
    (line,) = early_words(Data(pairs_of(wrong), OTHERS), RECIPE)
    assert line.startswith("labels of the next image would fit 100% of the images better") and "paired wrongly" in line


def test_the_same_pixels_on_both_sides() -> None:
    twice = pairs_of([GOOD[2]], "copy {}")
    (line,) = early_words(Data(pairs_of(GOOD), (*OTHERS, *twice)), RECIPE)
    assert line.startswith("1 held-out images have the pixels of one that is trained on, copy 0 those of image 2:")


def test_crops_of_one_image_on_both_sides() -> None:
    training, validating = pairs_of(GOOD, "slide7_y{}_x00512"), pairs_of([cells(90)], "slide7_y9{}_x00512")
    (line,) = early_words(Data(training, validating), RECIPE)
    assert line.startswith("crops of slide7 are trained on and validated on")
    assert early_words(Data(training, pairs_of([cells(90)], "slide8_y{}_x00512")), RECIPE) == ()


def test_classes_that_never_occur_and_objects_that_are_tiny() -> None:
    three = replace(RECIPE, labels=LabelPart(kind="classes", names=("ground", "cell", "debris", "ink")))
    masks = [(image, (labels > 0).astype(np.uint8)) for image, labels in GOOD]
    (line,) = early_words(Data(pairs_of(masks), OTHERS), three)
    assert line == "no training image has debris or ink: the network cannot learn it; check labels.names"
    (line,) = early_words(Data(pairs_of([cells(seed, 1, 3.0) for seed in range(4)]), OTHERS), RECIPE)
    assert line.startswith("objects are 2.0 px across") and "labels.diameter" in line
