"""Every bench runs, at a tiny size, and reports ratios with its machine."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from skimage.io import imread

from unettile.training.job import find_sources
from unettile.training.recipefile import read_recipe

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


DOCS = BENCHMARKS.parent / "docs"


def load(name: str) -> Any:
    return importlib.import_module(f"benchmarks.{name}")


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Any]:
    """Return what makes a table, and a plot, of a result and gives it back."""
    monkeypatch.syspath_prepend(str(DOCS))
    tables, plots = importlib.import_module("benchmark_tables").TABLES, importlib.import_module("benchmark_plots").PLOTS

    def show(result: Any) -> Any:
        name = result["bench"]
        assert "| --- |" in tables[name](result)
        assert name not in plots or plots[name](result).startswith("<svg")
        return result

    return show


SHARED = ("__init__.py", "measure.py", "cases.py", "contenders.py")
BENCHES = sorted(path for path in BENCHMARKS.glob("*.py") if path.name not in SHARED)


@pytest.mark.parametrize("path", BENCHES, ids=lambda path: path.stem)
def test_every_bench_is_listed(path: Path) -> None:
    assert f"`{path.name}`" in (BENCHMARKS / "README.md").read_text("utf-8")


def test_all_takes_what_is_asked_for_and_fits() -> None:
    bench = load("all")
    minutes = {one.name: one.minutes for one in bench.BENCHES}
    assert minutes.keys() == {path.stem for path in BENCHES} - {"all", "gpu"}
    assert [one.name for one in bench.choose(("peers", "startup"), minutes["peers"])] == ["peers"]
    assert sum(one.minutes for one in bench.choose((), 40)) <= 40


def test_a_tiny_case_of_tiling_reports_ratios(shown: Callable[[Any], Any]) -> None:
    result = shown(load("tiling").measure(300, 1, "fp32"))
    assert result["machine"]["threads"] >= 1 and result["machine"]["torch"]
    for name in ("file_over_network", "file_over_plain"):
        ratio = result[name]
        assert 0 < ratio["lowest"] <= ratio["median"] <= ratio["highest"]


def test_a_tiny_case_of_rows_reports_ratios(shown: Callable[[Any], Any]) -> None:
    result = shown(load("rows").measure({"nuclei-valid": 800}, ("fp32",), 1))
    (figure,) = result["figures"]
    assert figure["network"] == "nuclei-valid" and figure["rows_over_tiles"]["median"] > 0


def test_a_tiny_case_of_writing_reports_ratios_and_peaks(shown: Callable[[Any], Any]) -> None:
    result = shown(load("writing").measure(700, 1, (".ome.tif",)))
    assert set(result["read_over"]) == {".ome.tif", "tifffile"}
    assert all(ratio["median"] > 0 for ratio in result["read_over"].values())
    assert len(result["peak_mib"]) == 2 and min(result["peak_mib"].values()) > 50


def test_a_tiny_case_of_training_reports_ratios(shown: Callable[[Any], Any]) -> None:
    bench = load("training")
    narrow = ("network.widths=[2, 3, 4, 5, 6]", "run.batch=2", "run.output_edge=20")
    recipe = read_recipe("nuclei-valid", narrow)
    result = shown(bench.measure(recipe, bench.SAMPLE / "images", bench.SAMPLE / "labels", 1, 1))
    for name in ("loader_over_network", "cpu_network_over_all"):
        assert 0 < result[name]["lowest"] <= result[name]["highest"]
    assert 0 < result["cpu_network_over_all"]["median"] < 1


def test_a_tiny_case_of_objects_reports_its_figures(tmp_path: Path) -> None:
    bench = load("objects")
    bench.write_mask(tmp_path / "mask.tif", 300)
    result = bench.work(tmp_path / "mask.tif", tmp_path, True)
    assert result["objects"] > 100 and len(result["mpx_per_s"]) == 3 and result["processor_s"] > 0


def test_a_tiny_case_of_weights_reports_ratios_and_errors(shown: Callable[[Any], Any]) -> None:
    bench = load("weights")
    bench.is_here = lambda name: name not in ("edt", "monai")  # they need not be here
    result = shown(bench.measure((64,), 1, None))
    assert result["machine"]["threads"] >= 1 and result["machine"]["numba"]
    rows = {row["way"]: row for row in result["rows"] if row["threads"] == 1}
    assert rows.keys() == {"unettile", "crops", "scipy", "stack", "brute force"}
    for way, row in rows.items():
        ratio = row["time_over_unettile"]
        assert 0 < ratio["lowest"] <= ratio["median"] <= ratio["highest"] and row["mib"] > 0
        assert row["largest_error"] < 1e-6, way


def test_a_tiny_case_of_memory_reports_its_figures(shown: Callable[[Any], Any]) -> None:
    result = shown(load("memory").measure([600], 1, 1))
    assert result["slides"]["600"]["peak_mib"] > 100 and result["without_over_with_recall"]["median"] > 0


def test_a_tiny_case_of_the_ceiling_reports_parts_of_it(shown: Callable[[Any], Any]) -> None:
    (row,) = shown(load("ceiling").measure([2], ["fp32"], 300, 1))["rows"]
    assert 0 < row["of_ceiling"]["lowest"] <= row["of_ceiling"]["highest"] < 1
    assert set(row["gflop_per_s"]) == {"convolution", "matrix product"}


def test_a_tiny_case_of_the_gpu_reports_parts_of_its_ceiling(shown: Callable[[Any], Any]) -> None:
    """On the CPU, which is not to be called busy."""
    (row,) = shown(load("gpu").measure([2], ["fp32"], 200, 1, "cpu", ("kernels",)))["rows"]
    assert 0 < row["of_ceiling"]["lowest"] < 1 and 0 < row["network_alone_of_ceiling"]["kernels"] < 1
    assert row["gpu_busy"] is None and row["parts_of_a_round"]["main, compute"] > 0


def test_the_gpu_s_figures_are_there_as_soon_as_they_are_measured(
    shown: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first round of each network, before anything is repeated; what fails to compile costs nothing else."""
    bench, alone = load("gpu"), list[str]()

    def make_lane(predictor: Any, kind: Any, way: str) -> Any:
        alone.append(way)
        raise OSError("no compiler")

    monkeypatch.setattr(bench, "make_lane", make_lane)
    monkeypatch.setattr(bench, "run_profiled", lambda image, mask, predictor: 0.5)
    monkeypatch.setattr("benchmarks.ceiling.MATRIX", {"cpu": 64})  # quick, and no ceiling
    found = list(bench.results([2, 3], ["fp32"], 200, 2, "cpu", ("compiled",)))
    assert [[row["rounds"] for row in result["rows"]] for result in map(shown, found)] == [
        [1], [1, 1], [2, 1], [2, 2], *[[2, 2]] * 4
    ]  # fmt: skip
    assert [row["gpu_busy"] for row in found[-3]["rows"]] == [0.5, 0.5]
    assert found[-1]["rows"][0]["network_alone_of_ceiling"] == {"compiled": None} and alone == ["compiled"] * 2


def test_busy_is_what_any_kernel_covers() -> None:
    busy_share = load("gpu").busy_share
    assert busy_share([(0, 4), (1, 2), (6, 8), (7, 10)]) == 0.8
    assert busy_share([]) is None


def test_the_ceiling_counts_no_margin(tmp_path: Path) -> None:
    """By hand: products of all convolutions on the way down, of those up and after joining, and of the last, twice."""
    w = [2 << level for level in range(5)]
    down = 9 * w[0] + sum(9 * w[level - 1] * w[level] / 4**level for level in range(1, 5))
    down += sum(9 * w[level] ** 2 / 4**level for level in range(5))
    up = sum((4 * w[level + 1] * w[level] / 4 + 27 * w[level] ** 2) / 4**level for level in range(4))
    checkpoint = load("cases").random_unet(2, tmp_path / "model.safetensors")
    assert load("ceiling").flops_per_pixel(checkpoint) == 2 * (down + up + 2 * w[0])


def test_the_ceiling_counts_every_product_of_a_convolution(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = load("ceiling")
    monkeypatch.setattr(bench, "timed", lambda work, device: 1.0)  # s, so that a rate is a count
    checkpoint = load("cases").random_unet(2, tmp_path / "model.safetensors")
    rates = bench.convolution_rates(checkpoint, torch.device("cpu"), torch.float32)
    counts = {name: rate() for name, rate in rates}
    assert counts["down.0.0 on 572 × 572 px"] == 2 * 570**2 * 9 * 1 * 2
    assert counts["down.0.2 on 570 × 570 px"] == 2 * 568**2 * 9 * 2 * 2


def test_a_tiny_case_of_startup_reports_ratios(shown: Callable[[Any], Any]) -> None:
    result = shown(load("startup").measure(200, 1))["over_import_torch"]
    assert 0 < result["--help"]["median"] < result["segment"]["median"]


def test_a_tiny_case_of_scaling_reports_ratios_and_peaks(
    monkeypatch: pytest.MonkeyPatch, shown: Callable[[Any], Any]
) -> None:
    bench = load("scaling")
    asked: list[tuple[object, ...]] = []

    def segment(image: Path, output: Path, threads: int, *options: object) -> tuple[float, int]:
        asked.append((image.stem, threads, *options))
        if "--shard" in options:
            output.mkdir(exist_ok=True)
        return (5.0 if "--shard" in options else int(image.stem) ** 2 / 1e3), 300

    monkeypatch.setattr(bench, "segment", segment)  # whole processes are what test_memory measures
    result = shown(bench.measure([100, 200], 100, [2], 1))
    assert [row["time_per_pixel_over_first"]["median"] for row in result["sizes"]] == [1, 1]
    assert result["shards"] == [
        {
            "count": 2,
            "sum_over_whole": {"median": 1.0, "lowest": 1.0, "highest": 1.0},
            "longest_over_whole": {"median": 0.5, "lowest": 0.5, "highest": 0.5},
        }
    ]
    assert next(one for one in asked if "--shard" in one)[2:] == ("--shard", "0/2")


def test_peers_are_compared_with_the_untiled_answer(tmp_path: Path) -> None:
    """Ours is it; tiles out of phase, and blended windows of a padded network, are not."""
    bench, cases = load("peers"), load("cases")
    cases.random_unet(4, tmp_path / "model.safetensors")
    cases.write_mosaic(tmp_path / "image.tif", 800)
    ways = {(one.name, one.network, one.precision): number for number, one in enumerate(bench.CONTENDERS)}
    files = (tmp_path, tmp_path / "image.tif", tmp_path / "model.safetensors")
    for network in ("valid", "padded"):
        ours = bench.compare_one(ways["unettile", network, "fp32"], *files)
        assert ours == {"largest_difference": 0, "changed_share": 0}
    for way in (("plain PyTorch loop", "valid", "fp32"), ("nnU-Net's scheme", "padded", "fp32")):
        assert bench.compare_one(ways[way], *files)["largest_difference"] > 1e-5


def test_a_tiny_case_of_peers_reports_time_and_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = load("peers")
    monkeypatch.setattr(bench, "SLOW", 0)  # so all are, and run once
    chosen = [number for number, one in enumerate(bench.CONTENDERS) if one.package is None and one.network == "padded"]
    (ours, other) = bench.measure(600, 600, 2, 2, chosen[-2:])["rows"]
    assert ours["time_over_ours_same_precision"]["median"] == 1 and ours["largest_difference"] == 0
    assert ours["rounds"] == other["rounds"] == 1
    assert other["time_over_ours_same_precision"]["median"] > 0 and other["peak_mib"]["median"] > 100


def test_held_out_images_are_those_that_the_recipe_never_trains_on(shared_data: Path) -> None:
    sources = {name: read_recipe("nuclei").sources[name] for name in ("kromp", "cervical")}
    trained = {pair.image for pair in find_sources(shared_data, shared_data, sources).training}
    groups = load("held").held_out(list(sources), shared_data)
    held = {pair.image: group for group, pair in groups}
    every = {path for part in sources.values() for path in (shared_data / part.images).iterdir()}
    assert not trained & held.keys() and trained | held.keys() == every
    assert set(held.values()) == {
        "kromp: tissue section", "kromp: cellline cytospin", "kromp: Tumor touch imprint", "cervical"
    }  # fmt: skip


def test_held_out_images_are_scored_at_the_size_of_their_objects(shared_data: Path) -> None:
    bench = load("held")
    group = [pair for _, pair in bench.held_out(["kromp"], shared_data)][:2]
    told: list[float] = []

    class Knowing:
        """A model that knows the truth, but for one object of each image."""

        def segment(self, image: Any, *, write: str, diameter: str) -> Any:
            told.append(float(diameter.removesuffix("px")))
            labels = imread(group[len(told) - 1].labels)
            return np.where(labels == labels.max(), 0, labels)

    scores = bench.judge(Knowing(), group, estimate=False)
    assert 0.9 < scores["ap_50"] < 1 and scores["dice_1"] > 0.9
    assert all(10 < diameter < 200 for diameter in told)
