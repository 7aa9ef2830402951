"""Several sources: whole groups are held out, and each is drawn as often as its weight says."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.training.runs import RECIPE
from unettile.errors import InputError
from unettile.training.draw import image_odds
from unettile.training.job import find_sources
from unettile.training.pairs import find_pairs, hold_out
from unettile.training.parts import SourcePart
from unettile.training.samples import Samples
from unettile.training.survey import survey

ONE = SourcePart("one/images", "one/labels", weight=3.0, held_out=("[01]",))
TWO = SourcePart("two/images", "two/labels", fraction=0.34)


@pytest.fixture
def sources(data: Path) -> Path:
    """The six images of the fixture twice, in two sources."""
    for name in ("one", "two"):
        for part in ("images", "labels"):
            shutil.copytree(data / part, data / "sources" / name / part)
    return data / "sources"


def test_groups_and_fractions_are_held_out(sources: Path) -> None:
    found = find_sources(sources, sources, {"one": ONE, "two": TWO})
    _, chosen, _ = hold_out(find_pairs(sources / "two/images", sources / "two/labels"), 0.34)
    held = {"one/0", "one/1"} | {f"two/{pair.name}" for pair in chosen}
    assert {pair.full_name for pair in found.validation} == held and len(held) == 4
    assert {pair.full_name for pair in found.training} | held == {f"{s}/{n}" for s in ("one", "two") for n in range(6)}
    assert len(found.training) == 8


def test_what_does_not_validate_is_left_alone_all_the_same(sources: Path) -> None:
    found = find_sources(sources, sources, {"one": replace(ONE, validate=1), "two": replace(TWO, validate=1)})
    assert len(found.validation) == 2 and len(found.training) == 8


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (replace(ONE, held_out=("7*",)), r"sources\.one\.held_out: no image is called '7\*'"),
        (replace(ONE, held_out=()), "6 images to train and 0 to validate on"),
        (replace(ONE, held_out=("*",)), "0 images to train and 6 to validate on"),
        (replace(ONE, images="three"), "three"),
    ],
)
def test_sources_that_cannot_be_used_are_refused(sources: Path, part: SourcePart, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        find_sources(sources, sources, {"one": part})
    assert "\n" not in str(error.value)


def test_each_source_is_drawn_by_its_weight_whatever_its_number_of_images(sources: Path) -> None:
    parts = {"one": ONE, "two": TWO}
    looked_at = survey(find_sources(sources, sources, parts).training, RECIPE)
    odds = image_odds(looked_at, RECIPE.samples, {"one": 3.0, "two": 1.0})
    own = np.array([source.pair.source == "one" for source in looked_at])
    assert own.sum() == 4 == len(own) - 4
    assert odds[own].sum() == pytest.approx(0.75) and odds.sum() == pytest.approx(1)
    samples = Samples(looked_at, replace(RECIPE, sources=parts), 0, None)
    drawn = [samples._draw(np.random.default_rng(seed))[0].pair.source for seed in range(400)]
    assert drawn.count("one") == pytest.approx(300, abs=35)
