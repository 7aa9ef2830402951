"""Recipes: what a person may write, and what is refused by name."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from typing import get_type_hints

import pytest

from unettile.errors import InputError, UsageError
from unettile.training.keys import KEYS
from unettile.training.parts import SourcePart
from unettile.training.recipe import OWN_KEYS, Recipe
from unettile.training.recipefile import SHIPPED, read_recipe, recipe_from_dict


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes_are_valid_and_survive_a_round_trip(name: str) -> None:
    recipe = read_recipe(name)
    assert recipe_from_dict(recipe.to_dict()) == recipe


@pytest.mark.parametrize("name", SHIPPED)
def test_a_recipe_as_toml_is_read_back(name: str, tmp_path: Path) -> None:
    text = "run.ema=0.99", 'samples.weights={"he_*" = 3, "a b" = 0.5}', 'card.limits="none \\"known\\" – yet"'
    recipe = read_recipe(name, text)
    (tmp_path / "again.toml").write_text(recipe.to_toml(), "utf-8")
    assert read_recipe(str(tmp_path / "again.toml")) == recipe


def test_set_changes_one_key() -> None:
    recipe = read_recipe("nuclei-valid", ("run.epochs=3", "network.widths=[2, 3]", "loss.class_weights=balanced"))
    assert (recipe.run.epochs, recipe.network_config()["widths"], recipe.loss.class_weights) == (3, [2, 3], "balanced")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("run.epoch=3", "did you mean 'epochs'"),
        ("runs.epochs=3", r"unknown table \[runs\]; did you mean 'run'"),
        ("loss.w1=3", "did you mean 'w0'"),
        ("run.epochs=many", "wrong type"),
        ("network.width=[2, 3]", "did you mean 'widths'"),
        ("network.preset=smal", "did you mean 'small'"),
        ("network.name=vnet", "'vnet' is not known"),
        ("network.widths=2", "wrong type"),
        ("network.classes=3", "labels.names says"),
        ("run.epochs=0", "at least 1"),
        ("loss.sigma=0", "more than 0"),
        ("augment.zoom=[2.0, 1.0]", "no range"),
        ("labels.kind=polygons", "instances, components, classes"),
        ("labels.colors=[[0, 0, 0]]", "1 colours for 2 classes"),
        ("labels.colors=[[0, 0, 0], [0, 0, 256]]", "at least 0 and at most 255"),
        ("loss.cross_entropy=0", "the loss has no term"),
        ("run.accumulate=4", "cannot be split"),
        ("run.ema=1.0", "less than 1"),
        ("samples.area=2", "at most 1"),
        ("samples.weights={a = 0}", "more than 0"),
        ("samples.weights={a = true}", "wrong type"),
        ("augment.zoom=[1.0]", "need a list of 2"),
        ("labels.diameter=-1", "at least 0"),
        ("labels.diameter=large", "is no size"),
        ("labels.diameter=true", "wrong type"),
        ("optimizer.encoder=0", "more than 0"),
        ("augment.brown=1.5", "at most 1"),
        ("sources.a.weight=2", r"sources\.a\.images is missing"),
        ('sources.a={images = "i", labels = "l", wieght = 2}', "did you mean 'weight'"),
        ('sources.a={images = "i", labels = "l", weight = 0}', "weight > 0"),
        ('sources.a={images = "i", labels = "l", held_out = "x"}', "wrong type; need a list"),
        ("sources=3", "must be a table"),
        ("optimizer.schedule=linear", "cosine, constant, plateau"),
        ("optimizer.learning_rate=nan", "wrong type"),
        ('labels.names=["background"]', "two names"),
        ('labels.names=["background", "Border", "b"]', "no kinds of objects"),
        ('labels.names=["background", "a", "A"]', "no kinds of objects"),
        ("run.select=mpq", "goes by kinds of objects"),
    ],
)
def test_a_wrong_key_or_value_is_refused_by_name(change: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_recipe("nuclei-valid", (change,))


ABSURD = (
    "run.epochs=1000000000",
    "run.epochs=" + "9" * 5000,
    "run.batch=1000000",
    "run.output_edge=1000000",
    "augment.zoom=[1e-300, 1e300]",
    "augment.zoom=[-1.0, 1.0]",
    "augment.elastic_grid=100000",
    "augment.brightness=-0.1",
    "augment.contrast=1e9",
    "augment.blur=1e9",
    "labels.gap=1000000",
    "labels.border=1000000",
    "labels.diameter=1e9",
    "loss.sigma=1e300",
    "loss.sigma=inf",
    "loss.w0=1e300",
    "widths=[1000000000, 1000000000]",
    "in_channels=1000000000",
    "optimizer.learning_rate=1e300",
    "images.low_percentile=-1",
    "images.low_percentile=99.9",
    "samples.weights={a = 1e300}",
    "objects.min_size=" + "9" * 18,
    "card.limits=" + "x" * 20_000,
    "card.limits=\x1b[31m",
    "card.limits=\udcff",
    'labels.names=["", "cell"]',
    'labels.names=["cell", "cell"]',
    "run.epochs=" + "[" * 10_000,
)


@pytest.mark.parametrize("change", ABSURD, ids=[change[:30] for change in ABSURD])
def test_absurd_values_are_refused_in_a_line(change: str) -> None:
    with pytest.raises((InputError, UsageError)) as refused:
        read_recipe("nuclei-valid", (change,))
    assert "\n" not in str(refused.value) and len(str(refused.value)) < 400
    assert change.partition("=")[0].rpartition(".")[2].split("_")[0] in str(refused.value)


def test_every_key_has_a_range_that_holds_its_default_and_no_other_key_has() -> None:
    hints = {name: kind for name, kind in get_type_hints(Recipe).items() if name not in ("network", "sources")}
    known = {f"{part}.{entry.name}" for part, kind in hints.items() for entry in fields(kind)}
    known |= {f"sources.NAME.{entry.name}" for entry in fields(SourcePart)}
    assert {key.name for key in KEYS} == known | {f"network.{name}" for name in OWN_KEYS}
    for key in KEYS:
        numeric = key.name in known and not key.name.startswith("sources")
        value = getattr(getattr(Recipe(), key.name.split(".")[0]), key.name.split(".")[1]) if numeric else None
        assert key.low is not None or isinstance(value, bool | str | tuple | None), f"{key.name} needs a range"


def test_the_page_of_keys_is_up_to_date() -> None:
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "docs/make_recipes.py", "--check"], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_network_is_a_preset_and_what_the_recipe_changes_of_it(tmp_path: Path) -> None:
    labels = 'kind = "classes"\nnames = ["0", "1", "2"]'
    (tmp_path / "a.toml").write_text(f'[network]\npreset = "small"\n[labels]\n{labels}\n')
    recipe = read_recipe(str(tmp_path / "a.toml"), ("dropout=0.5",))  # a key without a table is the network's
    config = recipe.network_config()
    assert (config["widths"], config["classes"], config["dropout"]) == ([32, 32, 64, 128, 256], 3, 0.5)
    assert recipe_from_dict(recipe.to_dict()) == recipe
    with pytest.raises(InputError, match="set one_logit to false"):
        read_recipe(str(tmp_path / "a.toml"), ("network.preset=bn",))
    two = read_recipe("nuclei-valid", ("network.name=fcn8s", "one_logit=true", "labels.depth=false"))
    assert two.network_config()["classes"] == 2, "the preset has 21, the labels two"


def test_another_network_leaves_the_config_of_the_recipes_own_behind() -> None:
    recipe = read_recipe("nuclei-valid", ("network.name=unet++", "prune=2"))
    assert recipe.network.config == {"prune": 2} and recipe.network.in_channels == 3
    recipe = read_recipe("nuclei-valid", ("preset=bn", "dropout=0.1", "labels.depth=false"))
    assert recipe.network.config == {"preset": "bn", "dropout": 0.1}
    assert read_recipe("nuclei-valid", ("network.name=unet",)) == read_recipe("nuclei-valid")


def test_a_depth_is_one_output_more_of_objects_alone() -> None:
    assert read_recipe("nuclei-valid").network_config()["classes"] == 3 == read_recipe("nuclei-valid").classes + 1
    with pytest.raises(InputError, match=r"labels\.depth needs an output of its own"):
        read_recipe("nuclei-valid", ("preset=bn",))
    with pytest.raises(InputError, match=r"labels\.depth is that of objects"):
        read_recipe("adam", ("labels.depth=true",))


def test_sources_are_a_table_of_tables_that_may_be_emptied() -> None:
    shipped = read_recipe("nuclei", ("sources.kromp.weight=2",))
    assert shipped.sources["kromp"].weight == 2 and shipped.sources["kromp"].held_out
    assert read_recipe("nuclei", ("sources={}",)).sources == {}


def test_a_diameter_is_a_size_or_auto_of_instances_alone() -> None:
    assert read_recipe("nuclei-valid", ("labels.diameter=28",)).labels.diameter == 28
    assert read_recipe("nuclei-valid", ("labels.diameter=auto",)).labels.diameter == "auto"
    with pytest.raises(InputError, match=r'labels\.diameter is that of objects; need labels\.kind = "instances"'):
        read_recipe("adam", ("labels.diameter=28",))


@pytest.mark.parametrize(
    ("change", "home"),
    [("epochs=3", "run.epochs"), ("learning_rate=.1", "optimizer.learning_rate"), ("w0=5", "loss.w0")],
)
def test_a_key_without_its_table_is_told_where_it_belongs(change: str, home: str) -> None:
    with pytest.raises(UsageError, match=rf"did you mean {re.escape(home)}\?"):
        read_recipe("nuclei", (change,))
    key, value = change.split("=")
    assert attrgetter(home)(read_recipe("nuclei", (f"{home}={value}",))) == float(value), key


def test_what_is_no_change_and_what_is_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"TABLE\.KEY=VALUE"):
        read_recipe("nuclei-valid", ("epochs",))
    with pytest.raises(InputError, match="no recipe 'nuclear'"):
        read_recipe("nuclear")
    (tmp_path / "a.toml").write_text("[run\n")
    with pytest.raises(InputError, match="is not a TOML file"):
        read_recipe(str(tmp_path / "a.toml"))
    (tmp_path / "b.toml").write_text("run = 3\n")
    with pytest.raises(InputError, match="must be a table"):
        read_recipe(str(tmp_path / "b.toml"))
    (tmp_path / "c.toml").write_text("")
    assert read_recipe(str(tmp_path / "c.toml")) == Recipe()
