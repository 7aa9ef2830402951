"""docs/benchmarks.md says what benchmarks/results says, whoever is ahead, and what was not measured."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


@pytest.fixture
def maker(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(DOCS))
    return importlib.import_module("make_benchmarks")


def figure(value: float) -> dict[str, float]:
    return dict.fromkeys(("median", "lowest", "highest"), value)


def way(name: str, time: float, mib: float) -> dict[str, Any]:
    return {
        "way": name,
        "network": "valid",
        "precision": "fp32",
        "time_over_ours": figure(2 * time),
        "time_over_ours_same_precision": figure(time),
        "peak_mib": figure(mib),
        "largest_difference": 0.25,
        "changed_share": 0.01,
    }


def test_the_page_and_its_plots_are_made_of_the_results() -> None:
    done = subprocess.run([sys.executable, DOCS / "make_benchmarks.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_result_has_its_place_on_the_page(maker: Any) -> None:
    marked = re.findall(r"<!-- made: (\w+) -->", (DOCS / "benchmarks.md").read_text("utf-8"))
    assert sorted(marked) == sorted(maker.TABLES)
    assert {path.stem for path in maker.RESULTS.glob("*.json")} <= set(marked)


def test_what_was_not_measured_is_said_and_whoever_is_ahead_is_named(maker: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before <!-- made: peers -->\nold\n<!-- end --> after", "utf-8")
    made = maker.make(page, tmp_path)
    assert made[page] == "before <!-- made: peers -->\nNot measured yet.\n<!-- end --> after"
    assert made[tmp_path / "benchmarks-peers.svg"] is None
    result = {
        "machine": {"processor": "a processor", "threads": 2},
        "case": {"edge": 900, "compared_edge": 600, "rounds": 1, "model": "a model"},
        "rows": [way("unettile", 1, 400), way("hare", 0.5, 800), way("snail", 3, 200)],
    }
    (tmp_path / "peers.json").write_text(json.dumps(result), "utf-8")
    made = maker.make(page, tmp_path)
    assert "less time than ours in the same precision: hare (valid, fp32: 0.50)." in made[page]
    assert "less memory than ours in the same precision: snail (valid, fp32: 0.50)." in made[page]
    assert "snail (valid, fp32)" in made[tmp_path / "benchmarks-peers.svg"]
