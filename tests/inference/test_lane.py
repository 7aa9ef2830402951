"""A lane as far as a CPU can tell: how a graph is captured and replayed, which kernels it may take, whose memory ends.

A stand-in takes the place of torch's graph; what it demands is what torch demands, says the test that uses it.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.backends import cudnn

from unettile.box import Box
from unettile.inference.cuda import lane as lane_file
from unettile.inference.cuda.kernels import steady_kernels
from unettile.inference.cuda.lane import Lane, WindowKind
from unettile.inference.cuda.lanes import Lanes
from unettile.inference.cuda.memory import memory_errors, times_ended
from unettile.inference.cuda.staging import Stager, Stream

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
KIND = WindowKind(8, 1, np.dtype(np.uint8), ("classes",), 8)
NEW = getattr(cudnn, "conv", None) is not None  # torch from 2.9 on


class Graph:
    """A graph as torch before 2.12 has it: `seed` is one tensor for all of a process, and each replay writes to it."""

    seed: Tensor | None = None

    def begin(self) -> None:
        Graph.seed = torch.empty(1) if Graph.seed is None else Graph.seed
        Graph.seed.fill_(0)

    def replay(self) -> None:
        assert Graph.seed is not None
        Graph.seed.fill_(1)


class Capture:
    """What `torch.cuda.graph` is."""

    def __init__(self, graph: Graph, *, stream: object, capture_error_mode: str) -> None:
        assert capture_error_mode == "thread_local"  # readers pin memory meanwhile
        self.graph = graph

    def __enter__(self) -> None:
        self.graph.begin()

    def __exit__(self, *error: object) -> None:
        pass


@pytest.fixture
def captured(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Any], Lane]]:
    """Capture what computes a window, as on a GPU."""
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", Capture)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(lane_file, "no_waiting", nullcontext)
    monkeypatch.setattr(Graph, "seed", None)

    def capture(compute: Any) -> Lane:
        lane = Lane(compute, KIND, CPU, nullcontext)
        monkeypatch.setattr(lane._stream, "stream", object())
        lane._capture()
        return lane

    yield capture


def classes(pixels: Tensor) -> tuple[Tensor, Tensor]:
    return pixels.permute(2, 0, 1).clone(), torch.tensor(True)


def test_a_graph_can_be_replayed_and_so_can_those_of_others(captured: Callable[[Any], Lane]) -> None:
    """Torch refuses to write to a tensor that was made in inference mode outside of it (its issue 166792)."""
    for _ in range(2):
        lane = captured(classes)
        assert lane.is_graph
        lane._run()
    other = Graph()  # of the user's own, before or after
    other.begin()
    other.replay()
    with torch.inference_mode():
        monkey = torch.empty(1)
    Graph.seed = monkey  # somebody else began in inference mode
    lane._run()


def test_nothing_is_collected_during_a_capture(captured: Callable[[Any], Lane]) -> None:
    """A dead graph among it could not be given back then."""
    seen: list[bool] = []

    def compute(pixels: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(gc.isenabled())
        return classes(pixels)

    captured(compute)
    assert seen == [True, False] and gc.isenabled()


@pytest.mark.parametrize("step", ["_never_waits", "_capture"])
def test_the_reason_why_there_is_no_graph_holds_no_memory(captured: Callable[[Any], Lane], step: str) -> None:
    maps: list[weakref.ref[Tensor]] = []

    def compute(pixels: Tensor) -> tuple[Tensor, Tensor]:
        features = torch.ones(4)
        maps.append(weakref.ref(features))
        if len(maps) > 1:
            raise RuntimeError("operation not permitted when stream is capturing")
        return classes(pixels)

    if step == "_capture":
        lane = captured(compute)
    else:
        lane = Lane(compute, KIND, CPU, nullcontext)
        assert not lane._never_waits()
    assert not lane.is_graph and "not permitted" in str(lane.error)
    assert all(one() is None for one in maps)


def test_a_want_of_memory_is_one_error_whoever_meets_it(captured: Callable[[Any], Lane]) -> None:
    calls: list[int] = []

    def compute(pixels: Tensor) -> tuple[Tensor, Tensor]:
        calls.append(1)
        if len(calls) > 1:
            raise RuntimeError("GET was unable to find an engine to execute this computation")
        return classes(pixels)

    with pytest.raises(torch.OutOfMemoryError), memory_errors():
        captured(compute)
    with pytest.raises(RuntimeError, match="assert") as found, memory_errors():
        raise RuntimeError("CUDA error: device-side assert triggered")
    assert not isinstance(found.value, torch.OutOfMemoryError)


def test_a_lane_of_other_kernels_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch passes over a kernel that finds no memory to work in, and counts that alone."""
    ended = [0]
    monkeypatch.setattr(torch.cuda, "memory_stats", lambda device: {"num_ooms": ended[0]})
    assert times_ended(CPU) == 0
    ended[0] = 3
    assert times_ended(GPU) == 3
    monkeypatch.setattr(lane_file, "times_ended", lambda device: ended[0])
    short_from, made = 2, list[int]()

    def compute(pixels: Tensor) -> tuple[Tensor, Tensor]:
        made.append(1)
        ended[0] += len(made) >= short_from
        return classes(pixels)

    lanes = Lanes(lambda: Lane(compute, KIND, CPU, nullcontext), 3)
    assert (len(lanes), lanes.is_short, len(made)) == (1, False, 2)
    lanes.grow(3)  # whoever is made now would have the other kernels without a sign
    assert (len(lanes), len(made)) == (1, 2)
    short_from = 0
    assert Lanes(lambda: Lane(compute, KIND, CPU, nullcontext), 1).is_short


@pytest.mark.parametrize("tf32", [False, True])
@pytest.mark.parametrize("mixed", [False, pytest.param(True, marks=pytest.mark.skipif(not NEW, reason="old torch"))])
def test_kernels_are_steady_and_left_as_they_were(monkeypatch: pytest.MonkeyPatch, tf32: bool, mixed: bool) -> None:
    """Also where a user has set what float32 is in the newer way, after which torch refuses to tell it in the older."""
    parts: list[Any] = [getattr(cudnn, name) for name in ("conv", "rnn")] if NEW else []

    def said() -> list[Any]:
        try:
            older: Any = cudnn.allow_tf32
        except RuntimeError:
            older = "mixed"
        return [older, *(part.fp32_precision for part in parts)]

    monkeypatch.setattr(cudnn, "benchmark", True)
    before = [part.fp32_precision for part in parts]
    try:
        if mixed:
            parts[0].fp32_precision = "ieee"
        given = said()
        assert (given[0] == "mixed") is mixed
        with steady_kernels(tf32=tf32):
            assert (cudnn.enabled, cudnn.benchmark, cudnn.deterministic) == (True, False, True)
            assert said() == [tf32, *["tf32" if tf32 else "ieee"] * len(parts)]
        assert cudnn.benchmark and said() == given
    finally:
        for part, was in zip(parts, before, strict=True):
            part.fp32_precision = was


def test_a_lane_waits_for_what_its_maker_has_queued(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parameters are brought to a GPU, and turned into its layout, on another queue than that of the lane."""
    events: list[str] = []
    monkeypatch.setattr(Stream, "wait_for_caller", lambda self: events.append("wait"))

    def compute(pixels: Tensor) -> tuple[Tensor, Tensor]:
        events.append("compute")
        return classes(pixels)

    Lane(compute, KIND, CPU, nullcontext)
    assert events == ["wait", "compute"]


def test_pixels_never_travel_on_the_queue_of_a_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch gives out the same streams again and again, to each image of another size its own."""
    monkeypatch.setattr(torch.cuda, "Stream", lambda device, priority: priority)
    assert Stager(GPU)._upload.stream != Stream(GPU).stream


def test_a_thread_stays_on_its_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's stream alone turns back to the device before, the first one in a new thread, and takes memory there."""
    events: list[str] = []

    def noted(name: str) -> Any:
        @contextmanager
        def enter(what: object) -> Iterator[None]:
            events.append(f"{name} {what}")
            yield
            events.append(f"no {name}")

        return enter

    monkeypatch.setattr(torch.cuda, "device", noted("device"))
    monkeypatch.setattr(torch.cuda, "stream", noted("stream"))
    stream = Stream(CPU)
    stream.device, stream.stream = torch.device("cuda", 1), "of it"  # type: ignore[assignment]
    with stream.current():
        pass
    assert events == ["device cuda:1", "stream of it", "no stream", "no device"]


def test_a_window_is_what_was_staged() -> None:
    """On a CPU, where a stream is nothing, in order."""
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8, 1)
    box = Box(0, 0, 8, 8)
    planes, finite = Lane(classes, KIND, CPU, nullcontext).submit(Stager(CPU).stage(pixels), box, box, (8, 8)).wait()
    assert finite and (planes[0] == pixels[..., 0]).all()
