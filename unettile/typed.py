"""Typed: what comes from outside, read as JSON or plain values into types with bounds, or refused in one line.

A type is a frozen dataclass; bounds stand in its annotations, `Annotated[int, Meta(ge=0)]`, or in its own checks.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from unettile.errors import UnettileError

T = TypeVar("T")

Edge = Annotated[int, Meta(ge=1, le=2**31 - 1)]
"""A length of an image, px."""
Shape = tuple[Edge, Edge]
"""Height and width, px."""
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Byte = Annotated[int, Meta(ge=0, le=255)]
Positive = Annotated[float, Meta(gt=0, le=1e12)]
Finite = Annotated[float, Meta(ge=-1e300, le=1e300)]
Name = Annotated[str, Meta(max_length=1000)]
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]

_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "object": "a table of keys",
    "array": "a list",
    "null": "null",
}
_SHOWN = 60  # letters of what was got


class Unfit(ValueError):
    """What was read does not fit its type; the message names the key, what was got and what is needed."""


def from_json(text: str | bytes, kind: type[T]) -> T:
    """Return a JSON text as a value of a type.

    Raises:
        Unfit: no JSON, a missing key, another type, or a value out of its bounds.

    >>> from_json('{"height": 3}', dict[str, Edge])
    {'height': 3}
    """
    return from_plain(plain_json(text), kind)


def plain_json(text: str | bytes) -> Any:
    """Return a JSON text as plain values: no NaN, infinity, lone surrogate or number of thousands of digits.

    Raises:
        Unfit: no JSON of this kind.
    """
    try:
        return msgspec.json.decode(text.encode() if isinstance(text, str) else text)
    except RecursionError as error:
        raise Unfit("it nests too deeply: need plain JSON") from error
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise Unfit(f"it is no JSON ({error})") from error


def from_plain(values: Any, kind: type[T]) -> T:
    """Return plain values, of JSON or TOML, as a value of a type; whole numbers serve for fractions, nothing else does.

    Raises:
        Unfit: a missing key, another type, or a value out of its bounds.
    """
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise Unfit(_explained(str(error), values)) from error
    except UnettileError as error:  # a type's own check
        raise Unfit(str(error)) from error
    except RecursionError as error:
        raise Unfit("it nests too deeply: need plain values") from error
    except UnicodeEncodeError as error:  # a lone surrogate in the place of a number
        raise Unfit(f"it holds {error.object[error.start : error.end]!a}, which is no text") from error


def said(value: Any) -> str:
    """Return a value as a message shows it: short, on one line.

    >>> said([1, 2]), said("x" * 99)[-5:]
    ('[1, 2]', 'xxx …')
    """
    try:
        text = json.dumps(value, ensure_ascii=True, default=str)
    except (ValueError, RecursionError):  # a number of thousands of digits, brackets in brackets
        return f"{type(value).__name__} of absurd size"
    return text if len(text) <= _SHOWN else text[:_SHOWN] + " …"


def _explained(message: str, values: Any) -> str:
    """Return a message of the library in the words of ours: key, got, needed."""
    text, _, path = message.partition(" - at `")
    key = path.rstrip("`").removeprefix("$").removeprefix(".")
    missing = re.fullmatch(r"Object missing required field `(.*)`", text)
    if missing:
        return f"{f'{key}.' if key else ''}{missing[1]} is missing"
    found, got = _find(values, key)
    if text.startswith("Invalid enum value"):
        return f"{key or 'it'} = {said(got)} is not known"
    need = re.sub(r", got (`.*`|\d+)$", "", text).removeprefix("Expected ").replace("matching regex", "like")
    need = re.sub(r"`(\w+)((?: \| \w+)*)`", _in_words, need)
    need = re.sub(r"(>|<)(=?) (-?\d[\d.]*(?:e[+-]?\d+)?)", _as_bound, need)
    if not text.startswith("Expected "):
        return f"{key}: {text[:1].lower()}{text[1:]}" if key else text
    return f"{key or 'it'} = {said(got)}, need {need}" if found else f"{key}: need {need}"


def _in_words(found: re.Match[str]) -> str:
    names = found[0].strip("`").split(" | ")
    return " or ".join(_WORDS.get(name, name) for name in names)


def _as_bound(found: re.Match[str]) -> str:
    limit = f"{float(found[3]):.6g}" if "." in found[3] or "e" in found[3] else found[3]
    words = {">=": "of at least", ">": "above", "<=": "of at most", "<": "below"}
    return f"{words[found[1] + found[2]]} {limit}"


def _find(values: Any, path: str) -> tuple[bool, Any]:
    """Return what lies at a path such as `a.b[2]`, if it is there."""
    for name, index in re.findall(r"([^.\[\]]+)|\[(\d+|\.\.\.)\]", path):
        if name and isinstance(values, dict) and name in values:
            values = values[name]
        elif index.isdigit() and isinstance(values, list | tuple) and int(index) < len(values):
            values = values[int(index)]
        else:
            return False, None
    return True, values
