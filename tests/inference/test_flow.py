"""The way of windows through a GPU, run on the CPU: the same mask, the right order, and what happens without memory.

What needs a GPU itself, graphs and streams, is in tests/gpu.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

import unettile.inference.cuda.engine
import unettile.inference.cuda.staging
import unettile.inference.engines
from tests.narrow import make_checkpoint, make_pixels
from unettile.box import Box
from unettile.errors import InputError, Interrupted
from unettile.images.mirror import read_mirrored
from unettile.images.slide import open_slide
from unettile.inference.cpu import CpuEngine
from unettile.inference.cuda.engine import GRAPH_FROM, CudaEngine
from unettile.inference.cuda.flow import Flow
from unettile.inference.cuda.lane import Lane, Ticket, WindowKind
from unettile.inference.cuda.lanes import Lanes
from unettile.inference.cuda.staging import Mark, Staged, Stager
from unettile.inference.engine import Strip
from unettile.inference.predict import Predictor
from unettile.inference.whole import compute_box
from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.planning import make_plan
from unettile.segmentation.run.watch import Watch
from unettile.segmentation.segment import run_directory_for, segment_image
from unettile.tiling import Shard

CPU = torch.device("cpu")
OPTIONS = SegmentOptions(output_edge=34)
PLENTY = 2**36


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the CPU be computed on as if it were a GPU of 64 GiB."""
    engines: dict[int, CudaEngine] = {}

    def engine(self: Predictor) -> CudaEngine:
        if id(self) not in engines:
            engines[id(self)] = CudaEngine(self)
        return engines[id(self)]

    monkeypatch.setattr(Predictor, "engine", property(engine))
    plenty(monkeypatch)


def plenty(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("free_device_memory", "spare_device_memory", "device_memory"):
        monkeypatch.setattr(unettile.inference.cuda.engine, name, lambda device: PLENTY)


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> list[Box]:
    """The windows that a lane was given."""
    windows: list[Box] = []
    submit = Lane.submit

    def note(self: Lane, staged: Staged, region: Box, window: Box, shape: tuple[int, int]) -> Ticket:
        windows.append(window)
        return submit(self, staged, region, window, shape)

    monkeypatch.setattr(Lane, "submit", note)
    return windows


def segment(image: Path, out: Path, predictor: Predictor, options: SegmentOptions = OPTIONS, **more: Any) -> bytes:
    segment_image(image, out, predictor, options, **more)
    return out.read_bytes()


@pytest.mark.parametrize("write", [("classes",), ("probabilities",), ("classes", "probabilities")])
@pytest.mark.parametrize(("channels", "dtype"), [(1, "u1"), (3, "u2")])
def test_the_mask_is_that_of_the_cpu(
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    write: Any,
    channels: int,
    dtype: str,
) -> None:
    """In float32, to the bit: layers, scaling and mirror are the same; blocks of 64 px, so that many meet."""
    monkeypatch.setattr(unettile.tiling, "BLOCK_EDGE", 64)
    image, options = tmp_path / "image.tif", SegmentOptions(write, 34, 3)
    tifffile.imwrite(image, make_pixels(130, 211, channels).astype(dtype) * (200 if dtype == "u2" else 1))
    predictor = Predictor(make_checkpoint(channels, 3, (2, 3)), "cpu", "fp32")
    ending = "ome.tif" if len(write) > 1 else "tif"
    expected = segment(image, tmp_path / f"cpu.{ending}", predictor, options)
    request.getfixturevalue("gpu")
    monkeypatch.setattr(unettile.inference.cuda.engine, "count_threads", lambda: 3)
    assert segment(image, tmp_path / f"lanes.{ending}", predictor, options) == expected


@pytest.mark.usefixtures("gpu")
def test_a_stopped_run_goes_on(tmp_path: Path, image: Path, predictor: Predictor, submitted: list[Box]) -> None:
    expected = segment(image, tmp_path / "whole.tif", predictor)
    submitted.clear()
    asked = iter([None] * 9)
    with pytest.raises(Interrupted):
        segment(image, tmp_path / "mask.tif", predictor, watch=Watch(should_stop=lambda: next(asked, 15)))
    ahead = len(submitted) - 10
    assert 0 <= ahead <= 4  # what was queued beyond the last answer
    assert segment(image, tmp_path / "mask.tif", predictor) == expected
    assert len(submitted) == 70 + ahead


def test_a_mirror_by_index(tmp_path: Path) -> None:
    """Windows of an image smaller than the margin, too."""
    pixels = make_pixels(13, 21, 2)
    tifffile.imwrite(tmp_path / "image.tif", pixels, planarconfig="contig")
    kind = WindowKind(40, 2, np.dtype(np.uint8), ("classes",), 40)
    lane = Lane(lambda window: (window.permute(2, 0, 1).clone(), torch.tensor(True)), kind, CPU, torch.no_grad)
    staged = Stager(CPU).stage(pixels)
    with open_slide(tmp_path / "image.tif") as slide:
        for y, x in ((-30, -30), (-5, 3), (0, 0), (12, 20), (-90, 70)):
            window = Box(y, x, y + 40, x + 40)
            planes, _ = lane.submit(staged, Box(0, 0, 13, 21), window, (13, 21)).wait()
            np.testing.assert_array_equal(planes, read_mirrored(slide, window).transpose(2, 0, 1))


class Recorder:
    """Lanes that note what is queued and fetched."""

    depth = 3

    def __init__(self) -> None:
        self.events: list[tuple[str, int]] = []

    def submit(self, staged: Staged, region: Box, window: Box, shape: tuple[int, int]) -> Any:
        number = sum(kind == "queue" for kind, _ in self.events)
        self.events.append(("queue", number))
        events = self.events

        class Noted(Ticket):
            def wait(self) -> Any:
                events.append(("fetch", number))
                return np.full((1, 40, 40), number, np.uint8), True

        return Noted(torch.zeros(0), torch.tensor(True), Mark(None))


class Strips:
    """A supply of strips that are all there."""

    def __init__(self, strips: list[Strip]) -> None:
        self.left = strips

    def take(self, *, wait: bool = True) -> Strip | None:
        return self.left.pop(0) if self.left else None


def test_the_next_strip_is_queued_before_this_one_is_fetched(image: Path, predictor: Predictor) -> None:
    """The device has something to do until the last window, and no more is queued than the lanes take."""
    with open_slide(image) as slide:
        task = make_plan(slide, predictor, OPTIONS).task
        pixels = slide.read(Box.of_shape(slide.shape))
    whole = Box.of_shape(task.shape)
    tiles = list(task.tiles)
    strips = [Strip(whole, part, whole, pixels) for part in (tiles[:5], tiles[5:7], tiles[7:15])]
    lanes = Recorder()
    flow = Flow(task, lanes, Stager(CPU), "overflows", lambda line: None)  # type: ignore[arg-type]
    patches = list(flow.run(Strips(list(strips))))
    assert [id(patch.strip) for patch in patches] == [id(strip) for strip in strips for _ in strip.tiles]
    assert [patch.done for patch in patches] == [
        number for strip in strips for number in range(1, len(strip.tiles) + 1)
    ]
    assert [patch.box for patch in patches] == [tile.write for tile in tiles[:15]]
    assert all((patch.planes == number).all() for number, patch in enumerate(patches))
    queued = fetched = 0
    for kind, number in lanes.events:
        if kind == "queue":
            queued += 1
        else:
            assert number == fetched and (queued - fetched > 1 or queued == 15)
            fetched += 1
        assert queued - fetched <= lanes.depth
    assert (queued, fetched) == (15, 15)


def out_of_memory(*arguments: Any, **options: Any) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory")


@pytest.mark.usefixtures("gpu")
def test_out_of_memory_fewer_windows_at_once_and_the_same_mask(
    tmp_path: Path, image: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = segment(image, tmp_path / "whole.tif", predictor)
    submit, calls, lines = Lane.submit, [], []

    def sometimes(self: Lane, *arguments: Any) -> Ticket:
        calls.append(1)
        return out_of_memory() if len(calls) in (7, 30) else submit(self, *arguments)

    monkeypatch.setattr(Lane, "submit", sometimes)
    watch = Watch(on_advice=lines.append)
    options = SegmentOptions(output_edge=34, batch=3)
    assert segment(image, tmp_path / "mask.tif", predictor, options, watch=watch) == expected
    assert [line[:45] for line in lines] == [
        "the GPU's memory is full: 2 windows at once; ",
        "the GPU's memory is full: 1 window at once; t",
    ]
    monkeypatch.setattr(Lane, "submit", out_of_memory)
    with pytest.raises(InputError, match=r"does not hold a tile of 34 px: .* smaller --tile, such as"):
        segment(image, tmp_path / "none.tif", predictor)


@pytest.mark.usefixtures("gpu")
def test_pinned_memory_may_end_too(
    tmp_path: Path, image: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA says so in words of its own: while strips are read ahead they are sent later, and there is an end to it."""
    expected, ended = segment(image, tmp_path / "whole.tif", predictor), [True] * 3

    def sometimes(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
        if ended and ended.pop():
            raise RuntimeError("CUDA error: out of memory")
        return tensor

    monkeypatch.setattr(unettile.inference.cuda.staging, "send", sometimes)
    options = SegmentOptions(output_edge=34, batch=6)
    assert segment(image, tmp_path / "mask.tif", predictor, options) == expected and not ended


def lanes_that_fit(monkeypatch: pytest.MonkeyPatch, fits: Callable[[WindowKind, int], bool]) -> None:
    """Let there be memory for so many lanes of a kind of window."""
    made: list[WindowKind] = []
    init = Lane.__init__

    def limited(self: Lane, compute: Any, kind: WindowKind, *arguments: Any, **more: Any) -> None:
        if not fits(kind, sum(one == kind for one in made) + 1):
            out_of_memory()
        made.append(kind)
        init(self, compute, kind, *arguments, **more)

    monkeypatch.setattr(Lane, "__init__", limited)


@pytest.mark.usefixtures("gpu")
def test_out_of_memory_before_the_first_block_smaller_tiles(
    tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless the user chose the edge, or the run was begun with another."""
    checkpoint, lines = make_checkpoint(widths=(2, 3)), list[str]()
    large = tmp_path / "large.tif"
    tifffile.imwrite(large, make_pixels(60, 900))
    lanes_that_fit(monkeypatch, lambda kind, number: kind.edge < 500)
    result = segment_image(
        large,
        tmp_path / "mask.tif",
        Predictor(checkpoint, "cpu", "fp32"),
        SegmentOptions(),
        Watch(on_advice=lines.append),
    )
    edges = [900, 768, 384]
    assert result.plan.tiles.write_edge == edges[-1]
    assert len(lines) == 2 and "does not hold tiles of" in lines[0]
    with pytest.raises(InputError, match=r"does not hold a tile of .* smaller --tile"):
        segment_image(large, tmp_path / "no.tif", Predictor(checkpoint, "cpu", "fp32"), SegmentOptions(output_edge=768))
    assert not (tmp_path / "no.tif").exists() and not run_directory_for(tmp_path / "no.tif").exists()


@pytest.mark.usefixtures("gpu")
def test_a_run_keeps_the_tile_edge_that_it_was_begun_with(
    tmp_path: Path, image: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unettile.segmentation.segment import segment_shard

    run = tmp_path / "mask.run"
    first = segment_shard(image, run, Shard(0, 2), predictor, SegmentOptions(output_edge=100))
    again = segment_shard(image, run, Shard(1, 2), predictor, SegmentOptions())
    assert first.plan == again.plan
    lanes_that_fit(monkeypatch, lambda kind, number: kind.edge < 100)
    with pytest.raises(InputError, match="does not hold a tile of 100 px"):
        segment_shard(image, run, Shard(0, 2), Predictor(predictor.checkpoint, "cpu", "fp32"), SegmentOptions())


@pytest.mark.usefixtures("gpu")
def test_fewer_lanes_than_wanted_are_told(
    tmp_path: Path, image: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    lanes_that_fit(monkeypatch, lambda kind, number: number <= 2)
    fresh = Predictor(predictor.checkpoint, "cpu", "fp32")
    segment_image(
        image, tmp_path / "a.tif", fresh, SegmentOptions(output_edge=34, batch=5), Watch(on_advice=lines.append)
    )
    assert lines == ["the GPU's memory is full: 2 windows at once; the mask stays the same"]


@pytest.mark.usefixtures("gpu")
def test_a_graph_is_captured_where_windows_are_many(
    image: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A capture lets the GPU stand still: it is not worth it for an image of validation, or a sample of sizes."""
    made: list[bool] = []
    init = Lane.__init__

    def note(self: Lane, *arguments: Any, graphs: bool) -> None:
        made.append(graphs)
        init(self, *arguments, graphs=graphs)

    monkeypatch.setattr(Lane, "__init__", note)
    fresh = Predictor(predictor.checkpoint, "cpu", "fp32")
    with open_slide(image) as slide:
        many, few = (make_plan(slide, fresh, SegmentOptions(output_edge=edge)).task for edge in (34, 100))
    assert len(many.tiles) >= GRAPH_FROM > len(few.tiles)
    for task, batch in ((few, 1), (few, 2), (few, 1), (many, 1)):
        fresh.engine.prepare(task, batch, lambda line: None)
    # two at once are kept by their graphs, which hold their memory; who has graphs needs no lane without
    assert made == [False, True, True, True]


def test_a_model_that_rests_gives_its_memory_back_at_once(
    image: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training goes on with it, and Python may collect nothing for long."""
    monkeypatch.setattr(unettile.inference.engines, "ENGINES", (("cpu", CudaEngine),))
    plenty(monkeypatch)
    fresh = Predictor(predictor.checkpoint, "cpu", "fp32")
    with open_slide(image) as slide:
        scaling = make_plan(slide, predictor, OPTIONS).scaling
        compute_box(slide, Box(0, 0, 60, 60), fresh, scaling, ("logits",))
    assert isinstance(fresh.engine, CudaEngine) and fresh.engine._kept is not None
    lanes = weakref.ref(fresh.engine._kept[3])
    gc.disable()
    try:
        fresh.rest()
        assert lanes() is None
    finally:
        gc.enable()


@pytest.mark.usefixtures("gpu")
def test_a_model_that_is_gone_makes_room(image: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before memory ends, or tiles would get smaller for its sake."""
    with open_slide(image) as slide:
        tasks = [make_plan(slide, predictor, SegmentOptions(output_edge=edge)).task for edge in (34, 100)]
    gone = Predictor(predictor.checkpoint, "cpu", "fp32")
    engine = CudaEngine(gone)
    vars(gone)["engine"] = engine  # as a predictor keeps it
    engine.prepare(tasks[0], 1, lambda line: None)
    lane = weakref.ref(engine._kept[3]) if engine._kept else None
    assert lane is not None and lane() is not None
    del gone, engine
    other = Predictor(predictor.checkpoint, "cpu", "fp32").engine
    other.prepare(tasks[0], 1, lambda line: None)
    monkeypatch.setattr(unettile.inference.cuda.engine, "spare_device_memory", lambda device: 0)
    other.prepare(tasks[1], 1, lambda line: None)
    assert lane() is None


@pytest.mark.usefixtures("gpu")
def test_kernels_taken_for_want_of_memory_are_told(
    image: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(Lanes, "is_short", True)
    with open_slide(image) as slide:
        task = make_plan(slide, predictor, OPTIONS).task
    Predictor(predictor.checkpoint, "cpu", "fp32").engine.prepare(task, 1, lines.append)
    assert lines == ["the GPU's memory is short: kernels were taken that need less, and may round in another way"]


@pytest.mark.usefixtures("gpu")
def test_windows_of_one_colour_are_computed_once(
    tmp_path: Path, predictor: Predictor, submitted: list[Box], request: pytest.FixtureRequest
) -> None:
    pixels = np.full((400, 600), 200, np.uint8)
    pixels[100:180, 150:300] = make_pixels(80, 150)
    tifffile.imwrite(tmp_path / "image.tif", pixels)
    mask = segment(tmp_path / "image.tif", tmp_path / "lanes.tif", predictor)
    assert len(submitted) < 110  # of 12 × 18 tiles; those that look past the edge are computed
    request.getfixturevalue("monkeypatch").setattr(Predictor, "engine", property(CpuEngine))
    assert segment(tmp_path / "image.tif", tmp_path / "cpu.tif", predictor) == mask


@pytest.mark.usefixtures("gpu")
def test_a_model_that_overflows_is_refused(tmp_path: Path, image: Path) -> None:
    checkpoint = make_checkpoint(widths=(2, 3))
    checkpoint.parameters["head.bias"] += float("inf")
    with pytest.raises(InputError, match="overflows in fp32"):
        segment(image, tmp_path / "mask.tif", Predictor(checkpoint, "cpu", "fp32"))


@pytest.mark.usefixtures("gpu")
def test_the_next_image_takes_the_lanes_of_the_last(
    tmp_path: Path, image: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its own scaling."""
    fresh, other = Predictor(predictor.checkpoint, "cpu", "fp32"), tmp_path / "other.tif"
    tifffile.imwrite(other, make_pixels(100, 120, seed=3) // 3)
    expected = segment(other, tmp_path / "alone.tif", fresh)
    segment(image, tmp_path / "first.tif", fresh)
    monkeypatch.setattr(Lane, "__init__", out_of_memory)
    assert segment(other, tmp_path / "second.tif", fresh) == expected
