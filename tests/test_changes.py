"""KEY=VALUE: what --set takes."""

from __future__ import annotations

import doctest
from typing import Any

import pytest

from unettile import changes
from unettile.changes import parse_change
from unettile.errors import UsageError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("1e-3", 1e-3),
        (".5", 0.5),
        ("2.", 2.0),
        ("true", True),
        ("[1, 2]", [1, 2]),
        ('"3"', "3"),
        ("unet++", "unet++"),
        ("weights/resnet34.pth", "weights/resnet34.pth"),
        ("", ""),
    ],
)
def test_values_are_toml_s_or_bare_words(text: str, value: Any) -> None:
    key, parsed = parse_change(f" run.thing = {text}", "")
    assert (key, parsed, type(parsed)) == ("run.thing", value, type(value))


@pytest.mark.parametrize("change", ["", "epochs", "=3"])
def test_what_is_no_change_is_refused(change: str) -> None:
    with pytest.raises(UsageError, match="need epochs=3"):
        parse_change(change, "epochs=3")


def test_the_examples_are_true() -> None:
    tested = doctest.testmod(changes)
    assert tested.attempted == 2 and not tested.failed
