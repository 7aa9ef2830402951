"""The house: who may import whom, read from the source itself. Imports point up this list, never down or sideways."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import unettile

PACKAGE = Path(unettile.__file__).parent

ORDER = (
    "errors",
    "wording",
    "duration",
    "changes",
    "limits",
    "typed",
    "regular",
    "box",
    "compiled",
    "geometry",
    "probing",
    "tiling",
    "labels",
    "weightmap",
    "atomic",
    "images",
    "drawn",
    "protection",
    "metrics",
    "objectsize",
    "objects",
    "weighting",
    "evaluation",
    "networks",
    "identity",
    "header",
    "checkpoint",
    "exchange",
    "program",
    "export",
    "devices",
    "models",
    "ensemble",
    "inference",
    "training",
    "segmentation",
    "report",
    "face",
    "commands",
    "cli",
    "__main__",
)
STRANGERS = {
    ("training", "segmentation"),
    ("segmentation", "training"),
    ("inference", "training"),
    ("segmentation", "metrics"),
}
TORCH = {"torch", "lightning", "lightning_fabric", "safetensors"}
HEAVY = {
    "torch",
    "lightning",
    "lightning_fabric",
    "safetensors",
    "numba",
    "zarr",
    "skimage",
    "scipy",
    "tifffile",
    "imagecodecs",
    "matplotlib",
    "numpy",
    "cc3d",
    "pyarrow",
}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def part_of(path: Path) -> str:
    """Return the name in ORDER that a file belongs to."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports(path: Path, *, anywhere: bool) -> set[str]:
    """Return the dotted names of the modules that a file imports; not those for type checkers alone.

    anywhere: inside functions, too.
    """
    found: set[str] = set()
    todo: list[ast.AST] = [ast.parse(path.read_text("utf-8"))]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            todo.extend(node.orelse)
            continue
        if not anywhere and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
            found.update(f"{node.module}.{alias.name}" for alias in node.names if node.module == "unettile")
        todo.extend(ast.iter_child_nodes(node))
    return found


def roots(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_up(path: Path) -> None:
    part = part_of(path)
    assert part in ORDER, f"{part} has no place in the order: give it one"
    for name in imports(path, anywhere=True):
        pieces = name.split(".")
        if pieces[0] != "unettile" or len(pieces) == 1 or pieces[1] == "__version__":
            continue
        assert ORDER.index(pieces[1]) <= ORDER.index(part), f"{part} imports {name}, which is below it"
        assert (part, pieces[1]) not in STRANGERS, f"{part} imports {name}: a checkpoint is their only meeting point"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_libraries_keep_to_their_floor(path: Path) -> None:
    part = part_of(path)
    libraries = roots(imports(path, anywhere=True))
    if ORDER.index(part) < ORDER.index("networks"):
        assert not libraries & TORCH
    if part not in ("commands", "cli"):
        assert not libraries & {"typer", "rich"}
    if part in ("commands", "cli", "__main__"):
        assert not roots(imports(path, anywhere=False)) & HEAVY
    else:
        calls = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]
        assert not {ast.unparse(call.func) for call in calls} & {"print", "exit", "quit", "sys.exit", "os._exit"}


def test_no_drawer_for_odds_and_ends() -> None:
    assert not [path for path in MODULES if path.stem in ("utils", "helpers", "common", "misc")]


def test_the_map_of_the_house_shows_every_room_in_its_order() -> None:
    page = (PACKAGE.parent / "CONTRIBUTING.md").read_text("utf-8")
    table = page[page.index("| room |") : page.index("Three walks")]
    shown = [
        room for row in table.splitlines()[2:] for room in re.findall(r"`(\w+)`", row.split("|")[1] if row else "")
    ]
    assert shown == [part for part in ORDER if not part.startswith("_")]
