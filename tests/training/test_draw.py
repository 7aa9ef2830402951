"""Drawing: images and places come as often as the recipe says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.training.runs import RECIPE
from unettile.errors import InputError
from unettile.images.normalize import Scaling
from unettile.training.draw import Draw, image_odds
from unettile.training.pairs import Pair, find_pairs
from unettile.training.parts import LabelPart, SamplePart
from unettile.training.survey import Source, survey


def source(name: str, shape: tuple[int, int] = (100, 100), channels: int = 1, rare: int = 0) -> Source:
    """A looked-at image of two classes, with `rare` pixels of the second in its first row."""
    places = (np.array([[50, 50]], np.int32), np.array([[0, x] for x in range(rare)], np.int32).reshape(-1, 2))
    counts = (shape[0] * shape[1] - rare, rare)
    scaling = Scaling((0.0,) * channels, (1.0,) * channels)
    return Source(Pair(Path(f"{name}.png"), Path(f"{name}.png")), shape, channels, scaling, counts, places)


def test_odds_follow_sizes_kinds_and_patterns() -> None:
    small, large = source("small"), source("large", (200, 200))
    assert image_odds([small, large], SamplePart(area=0.0)).tolist() == [0.5, 0.5]
    assert image_odds([small, large], SamplePart(area=1.0)).tolist() == [0.2, 0.8]
    set_of = [*(source(f"grey{i}") for i in range(9)), source("colour", channels=3)]
    assert image_odds(set_of, SamplePart())[-1] == pytest.approx(0.1)
    assert image_odds(set_of, SamplePart(kinds=1.0))[-1] == pytest.approx(0.5)
    assert image_odds(set_of, SamplePart(kinds=0.5))[-1] == pytest.approx(0.25)  # √0.1 : √0.9
    assert image_odds(set_of, SamplePart(weights={"grey*": 2.0, "grey0": 3.0}))[0] == pytest.approx(6 / 23)
    with pytest.raises(InputError, match=r"no training image is called 'gray\*'"):
        image_odds(set_of, SamplePart(weights={"gray*": 2.0}))


def test_balanced_samples_centre_on_each_class_alike_however_rare_it_is() -> None:
    sources = [source(f"empty{i}") for i in range(20)] + [source("rare", rare=3)]
    rng, draw = np.random.default_rng(0), Draw(sources, SamplePart(balance="classes"), spread=5.0)
    drawn = [draw(rng) for _ in range(2000)]
    rare = [centre for found, centre in drawn if found.pair.name == "rare" and centre[0] < 10]
    assert len(rare) == pytest.approx(1000, abs=100)
    assert max(abs(y) for y, _ in rare) <= 5 and max(x for _, x in rare) <= 2 + 5


def test_without_balance_places_are_drawn_from_the_whole_image() -> None:
    rng, draw = np.random.default_rng(0), Draw([replace(source("a", (50, 80)), places=())], SamplePart(), spread=5.0)
    centres = np.array([draw(rng)[1] for _ in range(500)])
    assert centres.min() >= 0 and (centres.max(axis=0) <= (49, 79)).all() and (centres.max(axis=0) > (45, 72)).all()


def test_samples_of_partial_labels_are_where_labels_are(tmp_path: Path) -> None:
    """All over the part that counts, whichever class its pixels have; of an image that counts whole, everywhere."""
    labels = np.full((300, 400), 255, np.uint8)
    labels[100:200, 300:380], labels[100:200, 300:304] = 0, 1
    for name, pixels in (("a", labels), ("b", np.eye(300, dtype=np.uint8))):
        for folder in ("images", "labels"):
            (tmp_path / folder).mkdir(exist_ok=True)
            tifffile.imwrite(tmp_path / folder / f"{name}.tif", pixels)
    recipe = replace(RECIPE, labels=LabelPart("classes", ignore=255))
    partial, whole = survey(find_pairs(tmp_path / "images", tmp_path / "labels"), recipe)
    assert not whole.places
    rng, draw = np.random.default_rng(0), Draw([partial], SamplePart(), spread=5.0)
    centres = np.array([draw(rng)[1] for _ in range(500)])
    assert (centres.min(axis=0) >= (95, 295)).all() and (centres.max(axis=0) <= (205, 385)).all()
    assert (centres.min(axis=0) < (110, 310)).all() and (centres.max(axis=0) > (190, 370)).all()
    assert (centres[:, 1] > 310).mean() > 0.8
