"""Recipe file: a recipe as TOML, and the KEY=VALUE changes to it, read into a `Recipe` or refused by key."""

from __future__ import annotations

import math
import tomllib
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from unettile.changes import parse_change
from unettile.errors import InputError, UsageError
from unettile.networks import NETWORKS
from unettile.networks.config import did_you_mean
from unettile.regular import read_regular
from unettile.training.parts import SourcePart
from unettile.training.recipe import NetworkPart, Recipe
from unettile.typed import said

SHIPPED = ("nuclei", "nuclei-valid", "semantic", "adam", "paper")

_MOST_BYTES = 2**24


def read_recipe(name: str, changes: tuple[str, ...] = ()) -> Recipe:
    """Read a shipped recipe by name, or a TOML file, and apply `KEY=VALUE` changes such as `run.epochs=20`.

    A key without a table is the network's: `prune=2`. Another `network.name` or `network.preset` leaves behind what
    the recipe says of its own network, so give other keys of the network after these.

    Raises:
        InputError: no such recipe, not TOML, an unknown key (the nearest known one is named) or a wrong value.
        UsageError: a change that is not KEY=VALUE.
    """
    path = Path(__file__).parent / "recipes" / f"{name}.toml" if name in SHIPPED else Path(name)
    if not path.is_file():
        raise InputError(f"no recipe {name!r}: need one of {', '.join(SHIPPED)}, or the path of a TOML file")
    try:
        values = tomllib.loads(read_regular(path, _MOST_BYTES).decode("utf-8"))
    except (ValueError, OSError, RecursionError) as error:  # numbers of thousands of digits, brackets in brackets
        raise InputError(f"{path} is not a TOML file: {str(error)[:200]}") from error
    if any(change.partition("=")[0].strip() == "sources" for change in changes):
        values.pop("card", None)  # its words are about other images
    return recipe_from_dict(with_changes(values, changes))


def with_changes(values: dict[str, Any], changes: tuple[str, ...]) -> dict[str, Any]:
    """Return a recipe's plain values, changed in place.

    Raises:
        UsageError: a change that is not KEY=VALUE.
    """
    for change in changes:
        _apply(values, change)
    return values


def recipe_from_dict(values: dict[str, Any]) -> Recipe:
    """Return the recipe of nested plain values; raises InputError as `read_recipe` does."""
    parts: dict[str, Any] = {}
    known = get_type_hints(Recipe)
    for name, table in values.items():
        if name not in known:
            raise InputError(f"recipe: unknown table [{name[:60]}]{did_you_mean(name[:60], known)}")
        if not isinstance(table, dict):
            raise InputError(f"recipe: {name} must be a table of keys")
        if name == "network":
            parts[name] = NetworkPart.from_table(table)
        elif name == "sources":
            parts[name] = {source: _part(SourcePart, f"sources.{source}", keys) for source, keys in table.items()}
        else:
            parts[name] = _part(known[name], name, table)
    return Recipe(**parts)


def _part(kind: Any, part: str, table: dict[str, Any]) -> Any:
    hints = get_type_hints(kind)
    values = {}
    if not isinstance(table, dict):
        raise InputError(f"recipe: {part} must be a table of keys")
    for missing in [entry.name for entry in fields(kind) if entry.default is MISSING and not _has_factory(entry)]:
        if missing not in table:
            raise InputError(f"recipe: {part}.{missing} is missing")
    for key, value in table.items():
        if key not in hints:
            raise InputError(f"recipe: unknown key {part}.{key[:60]}{did_you_mean(key[:60], hints)}")
        values[key] = _convert(f"{part}.{key}", value, hints[key])
    try:
        return kind(**values)
    except UsageError as error:
        raise InputError(f"recipe: [{part}] {error}") from error


def _has_factory(entry: Field[Any]) -> bool:
    return entry.default_factory is not MISSING


def _convert(key: str, value: Any, kind: Any) -> Any:
    """Return `value` as the type of the key; whole numbers serve for fractions, nothing else does."""
    parts = get_args(kind)
    if kind == float | str:
        return value if isinstance(value, str) else _convert(key, value, float)
    if get_origin(kind) is tuple and isinstance(value, list | tuple):
        if parts[-1] is ... or len(value) == len(parts):
            return tuple(_convert(key, item, parts[0]) for item in value)
    elif get_origin(kind) is dict and isinstance(value, dict):
        return {str(name): _convert(f"{key}.{name}", item, parts[1]) for name, item in value.items()}
    elif kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        if abs(value) < 2**63 or (isinstance(value, float) and math.isfinite(value)):
            return float(value)
    elif type(value) is kind:
        return value
    raise InputError(f"recipe: {key} = {said(value)} has the wrong type; need {_described(kind)}")


def _described(kind: Any) -> str:
    simple = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    if kind in simple:
        return simple[kind]
    parts = get_args(kind)
    if get_origin(kind) is dict:
        return f"a table of {_described(parts[1])} each"
    return f"a list, each {_described(parts[0])}" if parts[-1] is ... else f"a list of {len(parts)}"


def _apply(values: dict[str, Any], change: str) -> None:
    example = "TABLE.KEY=VALUE, such as run.epochs=20"
    key, value = parse_change(change, example)
    part, dot, name = key.rpartition(".")
    if not dot and name == "sources":  # sources={}: images and labels of one's own
        values[name] = value
        return
    if not dot:
        _check_network_key(name, change)
        part = "network"  # prune=2, encoder_parameters=FILE
    if not (part and name):
        raise UsageError(f"--set {change!r} is not understood: need {example}")
    table = values
    for step in part.split("."):  # sources.NAME.weight=2
        table = table.setdefault(step, {}) if isinstance(table, dict) else {}
    if isinstance(table, dict):
        if part == "network" and name in ("name", "preset") and table.get(name) != value:
            for old in [key for key in table if key != "name"]:  # the config of another network
                del table[old]
        table[name] = value


def _check_network_key(name: str, change: str) -> None:
    """Refuse a key without its table that no network has and another table has: epochs=3 is run.epochs=3.

    Raises:
        UsageError: names the key with its table.
    """
    of_networks = {entry.name for network in NETWORKS for entry in fields(network.default)}
    parts = {part: kind for part, kind in get_type_hints(Recipe).items() if is_dataclass(kind) and part != "network"}
    homes = [f"{part}.{name}" for part, kind in parts.items() if name in get_type_hints(kind)]
    if homes and name not in of_networks:
        raise UsageError(f"--set {change!r}: a network has no key {name}; did you mean {' or '.join(homes)}?")
