"""Every bench runs, at a tiny size, and reports ratios with its machine."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.mark.parametrize("path", sorted(BENCHMARKS.glob("*.py")), ids=lambda path: path.stem)
def test_a_tiny_case_runs_and_reports_ratios(path: Path) -> None:
    spec = importlib.util.spec_from_file_location(f"bench_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    result = bench.measure(300, 1, "fp32")
    assert result["machine"]["threads"] >= 1 and result["machine"]["torch"]
    for name in ("file_over_network", "file_over_plain"):
        ratio = result[name]
        assert 0 < ratio["lowest"] <= ratio["median"] <= ratio["highest"]
    assert f"`{path.name}`" in (BENCHMARKS / "README.md").read_text("utf-8")
