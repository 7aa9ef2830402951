"""Values: any JSON in the place of any key of what is read from outside becomes a value, or is refused in a line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from tests.fuzz.test_files import POLYGONS
from unettile.drawn.geojson import read_geojson
from unettile.errors import UnettileError
from unettile.header import Header
from unettile.segmentation.plan import Plan
from unettile.training.recipefile import read_recipe, recipe_from_dict
from unettile.typed import Unfit

pytestmark = pytest.mark.fuzz

NUMBERS = st.integers() | st.floats() | st.sampled_from([0, -1, 2**31, 2**63, 10**400, 1e300, -0.0])
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
SEARCH = settings(max_examples=400, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all keys and items of a value, its own first."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, item in inner for found in places(item, (*path, key)))]


def with_another(value: Any, path: tuple[Any, ...], other: Any) -> Any:
    """Return a value with what lies at a path replaced."""
    if not path:
        return other
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = with_another(value[path[0]], path[1:], other)
    return copy


def check(read: Callable[[str], object], valid: Any, data: st.DataObject) -> None:
    """Read a valid value with one or two of its places replaced by anything."""
    for _ in range(data.draw(st.integers(1, 2))):
        inner = [path for path in places(valid) if path]
        valid = with_another(valid, data.draw(st.sampled_from(inner)), data.draw(JSON)) if inner else {}
    try:
        read(json.dumps(valid))
    except (UnettileError, Unfit) as error:
        assert "\n" not in str(error) and len(str(error)) < 1000


@given(data=st.data())
@SEARCH
def test_headers(model: Path, data: st.DataObject) -> None:
    with safe_open(model, "pt") as file:
        header = json.loads(file.metadata()["unettile"])
    check(lambda text: Header.from_json(text).rules, header, data)


@given(data=st.data())
@SEARCH
def test_plans(run_directory: Path, data: st.DataObject) -> None:
    check(Plan.from_json, json.loads((run_directory / "plan.json").read_text("utf-8")), data)


@given(data=st.data())
@SEARCH
def test_polygons(tmp_path: Path, data: st.DataObject) -> None:
    def read(text: str) -> object:
        (tmp_path / "drawn.geojson").write_text(text)
        return read_geojson(tmp_path / "drawn.geojson")

    check(read, POLYGONS, data)


@given(data=st.data())
@SEARCH
def test_recipes(data: st.DataObject) -> None:
    check(lambda text: recipe_from_dict(json.loads(text)), read_recipe("nuclei").to_dict(), data)
