"""The work: nothing is computed twice, not by the next process and not for equal windows; parts are never believed."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray
from torch import Tensor

import unettile.inference.columns
import unettile.inference.cpu
import unettile.networks.graph
import unettile.segmentation.compute.loop
import unettile.segmentation.compute.pixels
import unettile.tiling
from tests.narrow import make_pixels
from unettile.box import Box
from unettile.errors import Incomplete, InputError, Interrupted
from unettile.images.slide import Slide
from unettile.inference.cpu import CpuEngine
from unettile.inference.predict import Predictor
from unettile.inference.recall import RECALL_BYTES, Recall
from unettile.inference.rows import RowRun
from unettile.segmentation.compute.loop import Loop
from unettile.segmentation.compute.pixels import PixelReader
from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.planning import make_plan, open_image
from unettile.segmentation.run.directory import RunDirectory
from unettile.segmentation.run.watch import Watch
from unettile.segmentation.segment import run_directory_for, segment_image
from unettile.segmentation.stitch import stitch_run
from unettile.tiling import Tile

OPTIONS = SegmentOptions(output_edge=34)  # one block of 7 × 10 tiles
TILES = 70


@pytest.fixture
def whole(tmp_path_factory: pytest.TempPathFactory, image: Path, predictor: Predictor) -> bytes:
    out = tmp_path_factory.mktemp("whole") / "mask.tif"
    segment_image(image, out, predictor, OPTIONS)
    return out.read_bytes()


def stop_after(windows: int) -> Watch:
    asked = iter([None] * (windows - 1))
    return Watch(should_stop=lambda: next(asked, 15))


def test_a_signal_costs_no_window(
    tmp_path: Path, image: Path, predictor: Predictor, whole: bytes, counted: list[int]
) -> None:
    out = tmp_path / "mask.tif"
    for windows in (5, 30):
        with pytest.raises(Interrupted):
            segment_image(image, out, predictor, OPTIONS, stop_after(windows))
    assert len(counted) == 35
    segment_image(image, out, predictor, OPTIONS)
    assert len(counted) == TILES and out.read_bytes() == whole


def test_a_second_signal_or_a_defect_costs_the_window_in_work(
    tmp_path: Path, image: Path, predictor: Predictor, whole: bytes, counted: list[int]
) -> None:
    def unwind() -> int | None:
        if len(counted) == 12:
            raise KeyboardInterrupt
        return None

    with pytest.raises(KeyboardInterrupt):
        segment_image(image, tmp_path / "mask.tif", predictor, OPTIONS, Watch(should_stop=unwind))
    counted.clear()
    segment_image(image, tmp_path / "mask.tif", predictor, OPTIONS)
    assert len(counted) == TILES - 12 and (tmp_path / "mask.tif").read_bytes() == whole


def test_parts_are_stored_while_a_block_is_in_work(
    tmp_path: Path, image: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unettile.segmentation.compute.loop, "PART_S", 0.0)
    out, seen = tmp_path / "mask.tif", []
    parts = run_directory_for(out) / "parts"
    watch = Watch(lambda done, total: seen.append(len(list(parts.glob("*")))))
    segment_image(image, out, predictor, OPTIONS, watch)
    assert max(seen) == 1


@pytest.mark.parametrize("damage", ["flipped", "short", "empty", "foreign"])
def test_a_damaged_part_is_computed_again(
    tmp_path: Path, image: Path, predictor: Predictor, whole: bytes, counted: list[int], damage: str
) -> None:
    out = tmp_path / "mask.tif"
    with pytest.raises(Interrupted):
        segment_image(image, out, predictor, OPTIONS, stop_after(9))
    part = run_directory_for(out) / "parts" / "000000"
    data = bytearray(part.read_bytes())
    match damage:
        case "flipped":
            data[-300] ^= 1
        case "short":
            del data[-1:]
        case "empty":
            data.clear()
        case "foreign":
            data = bytearray(bytes(data).replace(b'"plan": "', b'"plan": "0', 1))
    part.write_bytes(bytes(data))
    segment_image(image, out, predictor, OPTIONS)
    assert len(counted) == TILES + 9 and out.read_bytes() == whole


def test_out_of_time(tmp_path: Path, image: Path, predictor: Predictor, whole: bytes, counted: list[int]) -> None:
    """No window is begun that would end too late, by the longest so far; what is computed is kept."""
    out, now = tmp_path / "mask.tif", time.monotonic()
    for deadline in (now, now - 1):
        with pytest.raises(Incomplete, match="--max-time"):
            segment_image(image, out, predictor, OPTIONS, Watch(deadline=deadline))
    assert len(counted) <= 2
    segment_image(image, out, predictor, OPTIONS, Watch(deadline=now + 3600))
    assert len(counted) == TILES and out.read_bytes() == whole
    with pytest.raises(Incomplete):
        Watch(deadline=time.monotonic() + 5).check(ahead=6)
    Watch(deadline=time.monotonic() + 60).check(ahead=6)


@pytest.fixture
def columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two columns of two blocks each, three blocks high, in pieces of few rows."""
    monkeypatch.setattr(unettile.tiling, "BLOCK_EDGE", 204)
    monkeypatch.setattr(unettile.inference.cpu, "COLUMN_WIDTH", 408)
    monkeypatch.setattr(unettile.networks.graph, "PIECES", (16, 16))


@pytest.fixture
def two_lanes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A thread for each half of a column."""
    monkeypatch.setattr(unettile.inference.columns, "LANE_WIDTH", 200)
    monkeypatch.setattr(unettile.inference.columns, "LANE_MARGINS", 1)
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("write", [("classes",), ("probabilities",)])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("lanes", [1, 2])
def test_by_rows_and_by_tiles_give_the_same_file(
    tmp_path: Path,
    predictor: Predictor,
    monkeypatch: pytest.MonkeyPatch,
    columns: None,
    request: pytest.FixtureRequest,
    write: Any,
    masked: bool,
    lanes: int,
) -> None:
    """Also if stopped after any piece of rows, in the middle of a column, and where parts of it are masked out."""
    if lanes == 2:
        request.getfixturevalue("two_lanes")
    computing = set[str]()
    monkeypatch.setattr(RowRun, "feed", named_threads(computing))
    pixels = make_pixels(450, 811)
    pixels[200:, :240] = 7  # equal windows
    image, mask = tmp_path / "image.tif", tmp_path / "within.tif"
    tifffile.imwrite(image, pixels)
    inside = np.zeros((450, 811), np.uint8)
    inside[20:130, :] = inside[130:400, 250:590] = 1
    tifffile.imwrite(mask, inside)
    options = replace(OPTIONS, write=write, mask=mask if masked else None)
    narrow = Predictor(predictor.checkpoint, "cpu", "fp32")
    assert narrow.by_rows(write, narrow.smallest_window + 32) is not None
    segment_image(image, tmp_path / "rows.tif", narrow, options)
    stops = 0
    for pieces in range(1, 60):
        try:
            segment_image(image, tmp_path / "stopped.tif", narrow, options, stop_after(pieces))
        except Interrupted:
            stops += 1
        else:
            break
    assert stops >= 3 and len(computing) >= lanes and ("lane_1" in computing) == (lanes == 2)
    monkeypatch.setattr(Predictor, "by_rows", lambda *arguments: None)
    segment_image(image, tmp_path / "tiles.tif", predictor, options)
    by_tiles = (tmp_path / "tiles.tif").read_bytes()
    assert (tmp_path / "rows.tif").read_bytes() == by_tiles == (tmp_path / "stopped.tif").read_bytes()


def named_threads(names: set[str]) -> Callable[[RowRun, Tensor], Tensor | None]:
    """Return `RowRun.feed`, which adds to `names` those of the threads that call it."""
    feed = RowRun.feed

    def feeding(run: RowRun, rows: Tensor) -> Tensor | None:
        names.add(threading.current_thread().name)
        return feed(run, rows)

    return feeding


def test_what_fails_in_a_lane_ends_the_run(
    tmp_path: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch, columns: None, two_lanes: None
) -> None:
    """And no thread goes on."""
    narrow = Predictor(predictor.checkpoint, "cpu", "fp32")
    feed = RowRun.feed

    def failing(run: RowRun, rows: Tensor) -> Tensor | None:
        if threading.current_thread().name == "lane_1":
            raise InputError("overflow")
        return feed(run, rows)

    monkeypatch.setattr(RowRun, "feed", failing)
    tifffile.imwrite(tmp_path / "image.tif", make_pixels(450, 811))
    with pytest.raises(InputError, match="overflow"):
        segment_image(tmp_path / "image.tif", tmp_path / "mask.tif", narrow, OPTIONS)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("lane")]
    assert torch.get_num_threads() == 2


def test_a_column_is_computed_in_one_go(
    tmp_path: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch, columns: None
) -> None:
    """No row of a column is fed to the network twice, and none of the image read twice for it."""
    narrow, fed, read = Predictor(predictor.checkpoint, "cpu", "fp32"), Counter[int](), Counter[int]()
    feed, read_mirrored = RowRun.feed, unettile.segmentation.compute.pixels.read_mirrored

    def feeding(self: RowRun, rows: Tensor) -> Tensor | None:
        fed[rows.shape[3]] += rows.shape[2]
        return feed(self, rows)

    def reading(slide: Slide, box: Box) -> NDArray[Any]:
        read[box.width] += box.height
        return read_mirrored(slide, box)

    monkeypatch.setattr(RowRun, "feed", feeding)
    monkeypatch.setattr(unettile.segmentation.compute.pixels, "read_mirrored", reading)
    tifffile.imwrite(tmp_path / "image.tif", make_pixels(450, 511))
    segment_image(tmp_path / "image.tif", tmp_path / "mask.tif", narrow, OPTIONS)
    geometry = narrow.geometry
    height, *widths = (geometry.input_edge(geometry.smallest_output_edge(edge)) for edge in (450, 204, 307))
    assert fed == dict.fromkeys(widths, height)
    assert set(read.values()) == {14 * 34 + 2 * geometry.margin}  # rounded up to whole tiles


def mosaic() -> NDArray[np.uint8]:
    """Noise in a plain frame: equal windows, and some that differ in one pixel, off the rows that are looked up."""
    pixels = np.full((400, 600), 200, np.uint8)
    pixels[100:180, 150:300] = make_pixels(80, 150)
    pixels[250, 450] = 30
    return pixels


@pytest.mark.parametrize("write", ["classes", "probabilities"])
@pytest.mark.parametrize("batch", [1, 3])
def test_equal_windows_are_computed_once_and_change_no_pixel(
    tmp_path: Path, predictor: Predictor, counted: list[int], write: str, batch: int
) -> None:
    image, options = tmp_path / "image.tif", SegmentOptions((write,), 34, batch)
    tifffile.imwrite(image, mosaic())
    calls = Counter[int]()
    for limit in (0, RECALL_BYTES):
        with open_image(image, options) as slide:
            run = RunDirectory.join(tmp_path / f"run{limit}", make_plan(slide, predictor, options))
            loop = Loop(run, PixelReader(slide, run.plan), CpuEngine(predictor, limit), batch)
            loop.do(range(len(run.plan.blocks)), Watch())
        calls[limit] = sum(counted) - calls.total()
        stitch_run(run.path, tmp_path / f"{limit}.tif")
    assert (tmp_path / "0.tif").read_bytes() == (tmp_path / f"{RECALL_BYTES}.tif").read_bytes()
    assert calls[RECALL_BYTES] < 0.5 * calls[0]


def window(value: float, **changes: Any) -> NDArray[np.float32]:
    pixels = np.full((50, 40, 1), value, np.float32)
    for place, other in changes.items():
        pixels[int(place[1:]), 3] = other
    return pixels


def test_only_the_same_bytes_are_the_same() -> None:
    recall = Recall(100)
    first = recall.window(window(1.0))
    assert recall.window(window(1.0)) is first
    assert recall.window(window(1.0, y7=2.0)) is not first
    zero = recall.window(window(0.0))
    assert recall.window(window(0.0, y5=-0.0)) is not zero
    assert recall.window(window(1.0)).pixels[7, 3] == 1.0


def test_what_is_remembered_is_bounded() -> None:
    size = window(0).nbytes + 100
    recall = Recall(100, limit=3 * size)
    first = recall.window(window(0))
    for value in (1, 2):
        recall.window(window(value))
    assert recall.window(window(0)) is first
    recall.window(window(3))
    assert recall.window(window(0)) is first
    for value in (4, 5, 6):
        recall.window(window(value))
    assert recall.window(window(0)) is not first
    nothing = Recall(100, limit=0)
    one = nothing.window(window(0))
    one.tiles.append(Tile(0, 0, Box(0, 0, 1, 1), Box(0, 0, 1, 1)))
    assert nothing.window(window(0)) is not one
