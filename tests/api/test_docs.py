"""docs/python.md and the notebook tell the truth: every example runs, and prints what stands beside it."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
from pathlib import Path
from typing import Any

import pytest

import unettile

pytestmark = pytest.mark.filterwarnings("ignore::unettile.Advice")

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "python.md"
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
README = ROOT / "README.md"

SHORT_TRAINING = {"run.steps_per_epoch": 1, "run.batch": 1, "run.output_edge": 64}
"""What makes the training of an example short enough for a test."""


def blocks(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), flags=re.DOTALL)


def promised(code: str) -> list[str]:
    return re.findall(r"# → (.*)$", code, flags=re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that holds sample_data, and is the current one; trainings are short."""
    (tmp_path / "sample_data").symlink_to(ROOT / "sample_data")
    monkeypatch.chdir(tmp_path)
    train = unettile.train

    def short(*arguments: Any, **options: Any) -> Any:
        return train(*arguments, changes=SHORT_TRAINING, workers=0, **options)

    monkeypatch.setattr(unettile, "train", short)
    return tmp_path


def printed(code: str, names: dict[str, Any]) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(code, "<example>", "exec"), names)
    return out.getvalue()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", [PAGE, README], ids=lambda page: page.name)
def test_examples_run_and_print_what_they_say(folder: Path, page: Path) -> None:
    names: dict[str, Any] = {}
    found = blocks(page)
    assert found
    for code in found:
        assert printed(code, names).splitlines() == promised(code), code


def test_the_page_shows_every_function() -> None:
    code = "\n".join(blocks(PAGE))
    for name in set(unettile.__all__) - {"__version__", "Image", "Model", "InputError", "Interrupted", "Incomplete"}:
        assert f"unettile.{name}" in code or f"`unettile.{name}`" in PAGE.read_text("utf-8"), name


@pytest.mark.timeout(900)
def test_the_notebook_runs_and_stores_what_it_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    made = importlib.import_module("make_notebook").make()
    assert NOTEBOOK.read_text("utf-8") == made, "run `python docs/make_notebook.py`"
