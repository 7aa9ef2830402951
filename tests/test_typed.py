"""Typed: what does not fit is refused by key, by what was got and by what is needed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from unettile.errors import UsageError
from unettile.regular import open_regular, read_regular
from unettile.typed import Byte, Edge, Name, Positive, Sha256, Unfit, from_json, from_plain, said


@dataclass(frozen=True)
class Inner:
    edge: Edge
    size: Positive | None = None

    def __post_init__(self) -> None:
        if self.edge == 7:
            raise UsageError("seven is no edge")


@dataclass(frozen=True)
class Outer:
    name: Name
    inner: Inner
    colour: tuple[Byte, Byte, Byte] = (0, 0, 0)
    sha256: Sha256 = "0" * 64


GOOD: dict[str, Any] = {"name": "a", "inner": {"edge": 3}}


def test_what_fits_is_a_value_of_the_type() -> None:
    assert from_json('{"name": "a", "inner": {"edge": 3, "size": 2}}', Outer) == Outer("a", Inner(3, 2.0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 5}, "name = 5, need a text"),
        ({"inner": {}}, "inner.edge is missing"),
        ({"inner": []}, "inner = [], need a table of keys"),
        ({"inner": {"edge": 0}}, "inner.edge = 0, need a whole number of at least 1"),
        ({"inner": {"edge": True}}, "inner.edge = true, need a whole number"),
        ({"inner": {"edge": 1.5}}, "inner.edge = 1.5, need a whole number"),
        ({"inner": {"edge": 10**400}}, "inner.edge = 1000000000000000000000000"),
        ({"inner": {"edge": 10**5000}}, "inner.edge = int of absurd size"),
        ({"inner": {"edge": 1, "size": -1}}, "inner.size = -1, need a number above 0"),
        ({"inner": {"edge": 1, "size": float("nan")}}, "inner.size = NaN, need a number above 0"),
        ({"inner": {"edge": 7}}, "seven is no edge"),
        ({"colour": [1, 2]}, "colour = [1, 2], need a list of length 3"),
        ({"colour": [1, 2, 300]}, "colour[2] = 300, need a whole number of at most 255"),
        ({"sha256": "xyz"}, 'sha256 = "xyz", need a text like'),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(Unfit) as refused:
        from_plain(GOOD | change, Outer)
    assert str(refused.value).startswith(message) and "\n" not in str(refused.value) and len(str(refused.value)) < 200


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "NaN",
        "[" * 100_000,
        '{"a":' * 100_000,
        "9" * 5000,
        '{"a": ' + "9" * 5000 + "}",
        '"\\ud800"',
        b"\xff\xfe",
    ],
)
def test_what_is_no_json_is_refused(text: str | bytes) -> None:
    for kind in (Outer, dict):
        with pytest.raises(Unfit):
            from_json(text, kind)


def test_a_value_is_shown_short_and_on_one_line() -> None:
    deep: list[Any] = []
    for _ in range(10**5):
        deep = [deep]
    for value in ("x\ny" * 100, deep, 10**5000, {"a": b"\xff"}, "\ud800"):
        assert len(said(value)) < 80 and "\n" not in said(value)


def test_only_regular_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"12345")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path, tmp_path / "none"):
        with pytest.raises(OSError):
            open_regular(path)
    assert read_regular(tmp_path / "file", 5) == b"12345"
    with pytest.raises(OSError, match="more than 4 bytes"):
        read_regular(tmp_path / "file", 4)


def test_a_text_that_is_none_is_refused_where_a_number_is_needed() -> None:
    with pytest.raises(Unfit, match=r"holds '\\ud800', which is no text"):
        from_plain({"height": "\ud800"}, dict[str, Edge])
