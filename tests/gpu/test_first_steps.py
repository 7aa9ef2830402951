"""The first steps on a GPU, each built on the one before: the first that fails says where it lies.

Run them by themselves where anything else here fails; `CUDA_LAUNCH_BLOCKING=1` then names the kernel of a step without
graphs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from tests.narrow import make_checkpoint, make_pixels
from unettile.box import Box
from unettile.images.mirror import reflect_indices
from unettile.images.normalize import Scaling
from unettile.inference.cuda.kernels import steady_kernels
from unettile.inference.cuda.lane import Lane, WindowKind
from unettile.inference.cuda.lanes import Lanes
from unettile.inference.cuda.memory import times_ended
from unettile.inference.cuda.scale import DeviceScale, carry
from unettile.inference.cuda.staging import Stager
from unettile.inference.predict import Predictor

pytestmark = pytest.mark.gpu

CUDA = torch.device("cuda", 0)
SHAPE = (300, 340)
SCALING = Scaling((10.0,), (240.0,))


@dataclass(frozen=True)
class Rung:
    """How windows are computed.

    Args:
        lanes: at once.
        graphs: replayed; else kernels are launched one by one.
        waits: for each window before the next is queued.
    """

    name: str
    lanes: int = 1
    graphs: bool = False
    waits: bool = False


RUNGS = (
    Rung("kernels, one window after the other", waits=True),
    Rung("kernels, queued"),
    Rung("kernels in two lanes", lanes=2),
    Rung("a graph, one window after the other", graphs=True, waits=True),
    Rung("a graph, queued", graphs=True),
    Rung("graphs in two lanes", lanes=2, graphs=True),
    Rung("graphs in four lanes", lanes=4, graphs=True),
)


@pytest.fixture
def predictor() -> Predictor:
    return Predictor(make_checkpoint(1, 3, (8, 16, 32)), "cuda", "fp32")


@pytest.fixture
def kind(predictor: Predictor) -> WindowKind:
    geometry = predictor.geometry
    edge = geometry.smallest_output_edge(100)
    return WindowKind(geometry.input_edge(edge), 1, np.dtype(np.uint8), ("classes",), geometry.write_edge(edge))


@pytest.fixture
def windows(kind: WindowKind) -> list[Box]:
    """Windows inside an image and past its edges."""
    return [Box(y, x, y + kind.edge, x + kind.edge) for y in (-40, 60, 200) for x in (-40, 80, 240)]


def whole_image() -> NDArray[np.uint8]:
    return make_pixels(*SHAPE)[..., None]


def lane_of(predictor: Predictor, kind: WindowKind, *, graphs: bool = True) -> Lane:
    scale = DeviceScale(SCALING, kind.dtype, CUDA)

    def compute(pixels: Tensor) -> tuple[Tensor, Tensor]:
        return predictor.window_planes(scale(pixels), kind.write, kind.write_edge)

    return Lane(compute, kind, CUDA, predictor.arithmetic, graphs=graphs)


def planes_one_by_one(predictor: Predictor, kind: WindowKind, windows: list[Box]) -> list[NDArray[np.uint8]]:
    """Compute windows that were cut and mirrored on the CPU, on torch's own stream, waiting after each."""
    pixels, scale, found = whole_image(), DeviceScale(SCALING, kind.dtype, CUDA), []
    for window in windows:
        rows = reflect_indices(window.y0, window.y1, SHAPE[0])
        columns = reflect_indices(window.x0, window.x1, SHAPE[1])
        cut = carry(pixels[rows][:, columns]).to(CUDA)
        with torch.inference_mode(), predictor.arithmetic():
            planes, finite = predictor.window_planes(scale(cut), kind.write, kind.write_edge)
        torch.cuda.synchronize()
        assert bool(finite)
        found.append(planes.cpu().numpy())
    return found


def test_1_pinned_memory_is_copied_there_and_back() -> None:
    staged = Stager(CUDA).stage(whole_image())
    staged.ready.wait()
    np.testing.assert_array_equal(staged.pixels.cpu().numpy(), whole_image())


def test_2_a_convolution_gives_the_same_bits_twice_and_those_of_a_cpu_nearly() -> None:
    """In the layout and by the kernels that windows are computed with."""
    torch.manual_seed(0)
    layer, x = torch.nn.Conv2d(8, 16, 3), torch.rand(1, 8, 64, 64)
    with torch.inference_mode(), steady_kernels(tf32=False):
        there = layer.to(CUDA, memory_format=torch.channels_last)  # type: ignore[call-overload]
        given = x.to(CUDA).contiguous(memory_format=torch.channels_last)
        first, second = there(given), there(given)
        assert torch.equal(first, second) and first.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(first.cpu(), layer.to("cpu")(x), rtol=1e-5, atol=1e-5)


def test_3_a_window_is_that_of_a_cpu_up_to_rounding(predictor: Predictor, kind: WindowKind, windows: list[Box]) -> None:
    here = Predictor(predictor.checkpoint, "cpu", "fp32")
    scaled = [here.see(whole_image(), SCALING)[: kind.edge, : kind.edge]]
    expected = here.planes(kind.write, np.stack(scaled))[0, :, : kind.write_edge, : kind.write_edge]
    (found,) = planes_one_by_one(predictor, kind, [Box(0, 0, kind.edge, kind.edge)])
    assert (found != expected).mean() < 1e-3 and len(np.unique(found)) > 1


@pytest.mark.parametrize("rung", RUNGS, ids=lambda rung: rung.name)
def test_4_windows_have_the_same_bits_on_each_rung(
    predictor: Predictor, kind: WindowKind, windows: list[Box], rung: Rung
) -> None:
    expected = planes_one_by_one(predictor, kind, windows)
    ended = times_ended(CUDA)
    lanes = Lanes(lambda: lane_of(predictor, kind, graphs=rung.graphs), rung.lanes)
    assert lanes.error is None and len(lanes) == rung.lanes and times_ended(CUDA) == ended
    staged, tickets = Stager(CUDA).stage(whole_image()), []
    for window in windows * 3:
        ticket = lanes.submit(staged, Box.of_shape(SHAPE), window, SHAPE)
        if rung.waits:
            ticket.wait()
        tickets.append(ticket)
    for ticket, planes in zip(tickets, expected * 3, strict=True):
        found, finite = ticket.wait()
        assert finite
        np.testing.assert_array_equal(found, planes)


def test_5_graphs_of_a_user_go_on_beside_ours(predictor: Predictor, kind: WindowKind, windows: list[Box]) -> None:
    """Torch before 2.12 keeps one seed for all graphs of a process: neither may spoil it for the other."""
    x, lane = torch.ones(4, device=CUDA), lane_of(predictor, kind)
    assert lane.is_graph
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        doubled = x * 2
    graph.replay()
    staged = Stager(CUDA).stage(whole_image())
    lane.submit(staged, Box.of_shape(SHAPE), windows[0], SHAPE).wait()
    graph.replay()
    torch.cuda.synchronize()
    assert doubled.tolist() == [2.0] * 4
