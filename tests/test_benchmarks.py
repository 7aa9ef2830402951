"""Every bench runs, at a tiny size, and reports ratios with its machine."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from unettile.training.recipe import read_recipe

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"bench_{name}", BENCHMARKS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    return bench


@pytest.mark.parametrize("path", sorted(BENCHMARKS.glob("*.py")), ids=lambda path: path.stem)
def test_every_bench_is_listed(path: Path) -> None:
    assert f"`{path.name}`" in (BENCHMARKS / "README.md").read_text("utf-8")


def test_a_tiny_case_of_tiling_reports_ratios() -> None:
    result = load("tiling").measure(300, 1, "fp32")
    assert result["machine"]["threads"] >= 1 and result["machine"]["torch"]
    for name in ("file_over_network", "file_over_plain"):
        ratio = result[name]
        assert 0 < ratio["lowest"] <= ratio["median"] <= ratio["highest"]


def test_a_tiny_case_of_writing_reports_ratios_and_peaks() -> None:
    result = load("writing").measure(700, 1, (".ome.tif",))
    assert set(result["read_over"]) == {".ome.tif", "tifffile"}
    assert all(ratio["median"] > 0 for ratio in result["read_over"].values())
    assert len(result["peak_mib"]) == 2 and min(result["peak_mib"].values()) > 50


def test_a_tiny_case_of_training_reports_ratios() -> None:
    bench = load("training")
    narrow = ("network.widths=[2, 3, 4, 5, 6]", "run.batch=2", "run.output_edge=20")
    result = bench.measure(read_recipe("nuclei", narrow), bench.SAMPLE / "images", bench.SAMPLE / "labels", 1, 1)
    for name in ("loader_over_network", "cpu_network_over_all"):
        assert 0 < result[name]["lowest"] <= result[name]["highest"]
    assert 0 < result["cpu_network_over_all"]["median"] < 1


def test_a_tiny_case_of_objects_reports_its_figures(tmp_path: Path) -> None:
    bench = load("objects")
    bench.write_mask(tmp_path / "mask.tif", 300)
    result = bench.work(tmp_path / "mask.tif", tmp_path, True)
    assert result["objects"] > 100 and result["peak_mib"] > 0 and len(result["mpx_per_s"]) == 5


def test_a_tiny_case_of_weights_reports_ratios_and_errors() -> None:
    bench = load("weights")
    bench.is_here = lambda name: name not in ("edt", "monai")  # they need not be here
    result = bench.measure((64,), 1, None)
    assert result["machine"]["threads"] >= 1 and result["machine"]["numba"]
    rows = {row["way"]: row for row in result["rows"] if row["threads"] == 1}
    assert rows.keys() == {"unettile", "crops", "scipy", "stack", "brute force"}
    for way, row in rows.items():
        ratio = row["time_over_unettile"]
        assert 0 < ratio["lowest"] <= ratio["median"] <= ratio["highest"] and row["mib"] > 0
        assert row["largest_error"] < 1e-6, way


def test_a_tiny_case_of_the_ceiling_reports_its_figures() -> None:
    result = load("ceiling").measure([600], 1, 1)
    assert result["slides"]["600"]["peak_mib"] > 100 and result["without_over_with_recall"][0] > 0
