"""The card and the recipe in a checkpoint: what others may read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import imagecodecs
import pytest
import tifffile

from tests.training.runs import RECIPE
from unettile.models import find_model
from unettile.training.card import Seen, _portable
from unettile.training.pairs import Pair, find_pairs
from unettile.training.parts import ImagePart, LabelPart
from unettile.training.recipe import NetworkPart, Recipe
from unettile.training.recipefile import read_recipe
from unettile.training.survey import survey


def test_a_checkpoint_says_which_parameters_it_began_with_and_not_where_they_lay() -> None:
    """It is given to others; the recipe of a run, which may go on, keeps the place."""
    recipe = Recipe(network=NetworkPart(name="lite-unet", encoder_parameters="/on/this/machine/lite0.pth")).to_dict()
    assert _portable(recipe)["network"]["encoder_parameters"] == "lite0.pth"
    assert recipe["network"]["encoder_parameters"] == "/on/this/machine/lite0.pth"
    assert _portable(Recipe().to_dict()) == Recipe().to_dict()


def test_the_shipped_models_name_no_place() -> None:
    for path in Path(find_model("nuclei")).parent.glob("*.safetensors"):
        header = path.read_bytes()[: 2**16]
        assert not any(place in header for place in (b'"/', b"/home/", b"/root/", b"/tmp/")), path.name


def test_a_card_tells_what_was_seen(data: Path) -> None:
    pairs = find_pairs(data / "images", data / "labels")
    seen = Seen.of(survey(pairs, RECIPE), RECIPE)
    assert seen.size is not None and seen.pixel_size_um is None
    digest = seen.described.pop("sha256")
    assert seen.described == {
        "images": 6,
        "objects": 24,
        "channels": {"1": 6},
        "smallest": [70, 90],
        "largest": [70, 90],
    }
    fewer = Seen.of(survey(pairs[:5], RECIPE), RECIPE).described
    again = Seen.of(survey(pairs[::-1], RECIPE), RECIPE).described
    assert fewer["sha256"] != digest == again["sha256"] and fewer["images"] == 5
    parts = replace(RECIPE, labels=LabelPart(kind="components"))
    assert Seen.of(survey(pairs, parts), parts).described["objects"] < 24, "two discs touch"
    classes = replace(RECIPE, labels=LabelPart(kind="classes", names=tuple("abcde")))
    assert "objects" not in Seen.of(survey(pairs, classes), classes).described


@pytest.mark.parametrize(("sizes", "expected"), [((0.5, 0.51), 0.505), ((0.5, 0.6), None), ((0.5, None), None)])
def test_pixels_have_a_size_where_all_images_state_one(
    data: Path, sizes: tuple[float | None, ...], expected: float | None
) -> None:
    pairs = []
    for number, (pair, size) in enumerate(zip(find_pairs(data / "images", data / "labels"), sizes, strict=False)):
        image = data / f"{number}.tif"
        stated = {} if size is None else {"resolution": (1e4 / size, 1e4 / size), "resolutionunit": "CENTIMETER"}
        tifffile.imwrite(image, imagecodecs.imread(pair.image), **stated)
        pairs.append(Pair(image, pair.labels))
    seen = Seen.of(survey(pairs, RECIPE), RECIPE)
    assert seen.pixel_size_um == (None if expected is None else pytest.approx(expected, rel=1e-3))
    told = replace(RECIPE, images=ImagePart(pixel_size_um=0.25))
    assert Seen.of(survey(pairs, told), told).pixel_size_um == 0.25


def test_words_about_the_shipped_models_images_are_not_said_of_others() -> None:
    assert "BBBC038" in read_recipe("nuclei").card.data
    assert read_recipe("nuclei", ("sources={}",)).card == Recipe().card
    mine = read_recipe("nuclei", ("card.data=mine", "sources={}"))
    assert (mine.card.data, mine.card.licence) == ("mine", "")
    for name in ("nuclei-valid", "adam", "paper"):
        assert read_recipe(name).card == Recipe().card
