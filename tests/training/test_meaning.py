"""What label images mean is told from their numbers, or asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from unettile.errors import InputError
from unettile.images.arrays import ArrayImage
from unettile.training.meaning import find_meaning, settle_values
from unettile.training.pairs import Pair
from unettile.training.parts import LabelPart
from unettile.training.recipefile import recipe_from_dict
from unettile.training.targets import read_ids


def pairs_of(labels: Sequence[NDArray[np.uint8]]) -> list[Pair]:
    image = ArrayImage(np.zeros(labels[0].shape[:2], np.uint8))
    return [Pair(image, ArrayImage(array, name=f"label {number}")) for number, array in enumerate(labels)]


def squares(numbers: Sequence[int], copies: int = 1) -> NDArray[np.uint8]:
    """A label image with so many separate squares of each number."""
    labels = np.zeros((40, 12 * len(numbers) * copies), np.uint8)
    for place, number in enumerate(number for number in numbers for _ in range(copies)):
        labels[10:20, 12 * place : 12 * place + 8] = number
    return labels


MASK = [squares([255], 3), squares([255])]
IDS = [squares([1, 2, 3]), squares([1, 2, 3, 4, 5, 6])]
CLASSES = [squares([1, 2, 5], 3), squares([1, 5], 2)]


@pytest.mark.parametrize("number", [1, 255])
def test_a_mask_is_two_classes(number: int) -> None:
    meaning = find_meaning(pairs_of([squares([number], 3), squares([number])]), LabelPart())
    part = meaning.part
    assert (part.kind, part.names) == ("classes", ("background", "foreground"))
    assert part.values == (() if number == 1 else (0, 255)) and meaning.found == f"masks of 0 and {number}"
    pixels = np.array([[[number], [0]]], np.uint8)
    assert read_ids(pixels, part, "x").tolist() == [[1, 0]]


def test_ids_are_objects_and_numbers_of_many_parts_are_classes() -> None:
    assert find_meaning(pairs_of(IDS), LabelPart(gap=3)).part == LabelPart(gap=3)
    part = find_meaning(pairs_of(CLASSES), LabelPart()).part
    assert part.kind == "classes" and part.values == (0, 1, 2, 5)
    assert part.names == ("background", "class 1", "class 2", "class 5")
    assert read_ids(np.array([[[5], [2]]], np.uint8), part, "x").tolist() == [[3, 2]]
    with pytest.raises(InputError, match="the number 4, which stands for no class"):
        read_ids(np.array([[[4]]], np.uint8), part, "x")


def test_pictures_are_classes_by_colour() -> None:
    picture = np.zeros((20, 20, 3), np.uint8)
    picture[:4], picture[10:12] = (255, 0, 0), (0, 0, 255)
    part = find_meaning(pairs_of([picture]), LabelPart()).part
    assert part.colors == ((0, 0, 0), (0, 0, 255), (255, 0, 0))
    assert part.names == ("background", "class #0000ff", "class #ff0000")
    part = find_meaning(pairs_of([picture[:6]]), LabelPart()).part
    assert part.names == ("background", "foreground")
    white = np.full((20, 20, 3), 255, np.uint8)
    white[:2] = 0, 128, 0
    assert find_meaning(pairs_of([white]), LabelPart()).part.colors == ((255, 255, 255), (0, 128, 0))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([squares([1, 2]), squares([1, 2])], "may be ids of objects or classes: give --set labels.kind=instances, or"),
        ([np.zeros((9, 9), np.uint8)], "are background only"),
        ([np.random.default_rng(0).integers(0, 256, (60, 60)).astype(np.uint8)], "as intensities do, or masks after a"),
        ([np.random.default_rng(0).integers(0, 256, (60, 60, 3)).astype(np.uint8)], "more than 32 colours"),
        ([squares([1]), np.zeros((40, 12, 3), np.uint8)], "others are pictures"),
    ],
)
def test_what_can_be_read_in_two_ways_or_none_is_asked(labels: list[NDArray[np.uint8]], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        find_meaning(pairs_of(labels), LabelPart())
    assert "\n" not in str(error.value)


def test_what_the_user_says_is_not_asked() -> None:
    both = pairs_of([squares([1, 2]), squares([1, 2])])
    assert find_meaning(both, LabelPart(), "instances").part.kind == "instances"
    part = find_meaning(both, LabelPart(), "classes").part
    assert part.names == ("background", "class 1", "class 2") and part.values == ()
    assert find_meaning(both, LabelPart(ignore=2), "classes").part.names == ("background", "foreground")
    named = LabelPart(names=("a", "b", "c"))
    assert find_meaning(both, named, "classes").part == replace(named, kind="classes")


def test_a_mask_of_0_and_255_fits_a_recipe_of_two_classes() -> None:
    two = LabelPart(kind="classes")
    part, note = settle_values(pairs_of(MASK), two)
    assert part.values == (0, 255) and note == "label images hold 0 and 255: 255 is taken for object"
    for other in (
        LabelPart(),
        replace(two, names=("a", "b", "c")),
        replace(two, values=(0, 7)),
        replace(two, ignore=255),
    ):
        assert settle_values(pairs_of(MASK), other) == (other, None)
    assert settle_values(pairs_of([squares([1])]), two) == (two, None)


@pytest.mark.parametrize(
    "table", [{"values": [0, 1]}, {"kind": "classes", "values": [0]}, {"kind": "classes", "values": [7, 7]}]
)
def test_values_that_fit_no_names_are_refused(table: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"labels\.values"):
        recipe_from_dict({"labels": table})
