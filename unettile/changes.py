"""Changes: KEY=VALUE, as `--set` takes them."""

from __future__ import annotations

from typing import Any

from unettile.errors import UsageError


def parse_change(change: str, example: str) -> tuple[str, Any]:
    """Return the key and the value of KEY=VALUE.

    Values are those of TOML; besides, numbers may begin or end with their point, and a bare word is a text.

    Args:
        example: of what is needed, for the message.

    Raises:
        UsageError: not KEY=VALUE.

    >>> parse_change("min_size=30", "min_size=30"), parse_change("threshold=.5", ""), parse_change("name=unet++", "")
    (('min_size', 30), ('threshold', 0.5), ('name', 'unet++'))
    """
    import tomllib

    key, equals, text = (part.strip() for part in change.partition("="))
    if not equals or not key:
        raise UsageError(f"--set {change!r} is not understood: need {example}")
    try:
        return key, tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):  # no TOML, numbers of thousands of digits, brackets in brackets
        try:
            return key, float(text)
        except ValueError:
            return key, text


def parse_changes(changes: list[str], prefix: str = "") -> dict[str, Any]:
    """Return the values of several changes by their keys, which may have a prefix.

    Raises:
        UsageError: not KEY=VALUE.

    >>> parse_changes(["min_size=30", "objects.split=true"], "objects.")
    {'min_size': 30, 'split': True}
    """
    parsed = [parse_change(change, "KEY=VALUE, such as prune=2 or min_size=30") for change in changes]
    return {key.removeprefix(prefix): value for key, value in parsed}
