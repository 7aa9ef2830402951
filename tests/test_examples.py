"""Every example in a docstring runs, and gives what it says."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import unettile

PACKAGE = Path(unettile.__file__).parent
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if ">>> " in path.read_text("utf-8"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_examples(path: Path) -> None:
    """In the module's own names; what is printed is compared letter by letter, numbers and blanks too."""
    name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    results = doctest.testmod(import_module(name))
    assert results.attempted > 0, "its examples stand where no docstring is"
    assert results.failed == 0


def test_an_example_that_is_wrong_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    module = type(doctest)("wrong", ">>> 1 + 1\n3\n")
    assert doctest.testmod(module).failed == 1
    capsys.readouterr()
