"""Write docs/recipes.md from the keys of recipes: `python docs/make_recipes.py`; --check fails if it is out of date."""

from __future__ import annotations

import json
import sys
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from unettile.networks import NETWORKS
from unettile.networks.ranges import RANGES
from unettile.training.keys import KEYS, Key
from unettile.training.parts import SourcePart
from unettile.training.recipe import Recipe

PAGE = Path(__file__).parent / "recipes.md"
HEAD = """# Keys of a recipe

Made by `python docs/make_recipes.py` from the keys themselves; do not edit.

A recipe is a TOML file ([training](training.md#recipes)); `--set TABLE.KEY=VALUE` changes one key. What lies outside of
its range is refused before anything is read or allocated, and a key that is not known with the nearest one that is. The
defaults are those of a recipe that leaves the key out; `--recipe` names one that says more.

| key | unit | range | default | effect |
|---|---|---|---|---|
"""
NETWORK = """
## Keys of a network

They stand in the table `network`, and `--set` takes them without it, such as `widths=[16, 32, 64]`. A list has at most
16 figures, each in the range.

| key | range | networks that have it |
|---|---|---|
"""


def make_page() -> str:
    """Return the page as Markdown."""
    rows = [f"| `{key.name}` | {key.unit} | {_range(key)} | {_default(key)} | {key.effect} |" for key in KEYS]
    own = [f"| `{name}` | {low:g} to {high:g} | {_having(name)} |" for name, (low, high) in RANGES.items()]
    return HEAD + "\n".join(rows) + "\n" + NETWORK + "\n".join(own) + "\n"


def _range(key: Key) -> str:
    return key.need.replace(" and ", ", ") if key.low is not None else ", ".join(f"`{one}`" for one in key.choices)


def _default(key: Key) -> str:
    table, name = key.name.rsplit(".", 1)
    if table == "sources.NAME":
        [entry] = [entry for entry in fields(SourcePart) if entry.name == name]
        value: Any = "" if entry.default is MISSING else entry.default
    else:
        value = getattr(getattr(Recipe(), table), name)
    return f"`{json.dumps(value)}`" if value not in ("", (), {}) else ""


def _having(name: str) -> str:
    having = [network.name for network in NETWORKS if name in {entry.name for entry in fields(network.default)}]
    return "all" if len(having) == len(NETWORKS) else ", ".join(f"`{one}`" for one in having)


def main() -> None:
    """Write the page, or check it."""
    page = make_page()
    if "--check" in sys.argv[1:]:
        if not PAGE.is_file() or PAGE.read_text("utf-8") != page:
            sys.exit(f"{PAGE.name} is out of date: run python docs/make_recipes.py")
    else:
        PAGE.write_text(page, "utf-8")


if __name__ == "__main__":
    main()
