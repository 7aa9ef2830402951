"""One lane: a graph gives the bits of its kernels one by one; what is not arithmetic gives the bits of a CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.inference.test_scale import SCALING
from tests.inference.test_scale import make_pixels as make_typed
from tests.narrow import make_checkpoint, make_pixels
from unettile.box import Box
from unettile.images.normalize import Scaling
from unettile.inference.cuda.lane import Lane, WindowKind
from unettile.inference.cuda.lanes import Lanes
from unettile.inference.cuda.scale import DeviceScale, carry
from unettile.inference.cuda.staging import Stager
from unettile.inference.predict import Predictor
from unettile.inference.softmax import first_largest, softmax, to_levels

pytestmark = pytest.mark.gpu

CUDA = torch.device("cuda", 0)
PRECISIONS = ["fp32", "tf32", "bf16", "fp16"]
U8 = np.dtype(np.uint8)


def make_lane(predictor: Predictor, kind: WindowKind, *, graphs: bool) -> Lane:
    scale = DeviceScale(Scaling((10.0,) * kind.channels, (240.0,) * kind.channels), kind.dtype, CUDA)

    def compute(pixels: Tensor) -> tuple[Tensor, Tensor]:
        return predictor.window_planes(scale(pixels), kind.write, kind.write_edge)

    return Lane(compute, kind, CUDA, predictor.arithmetic, graphs=graphs)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("write", [("classes",), ("probabilities", "classes")])
def test_a_graph_gives_the_bits_of_its_kernels(precision: str, write: tuple[str, ...]) -> None:
    """In two lanes at the same time, with windows that look past the image, again and again."""
    predictor = Predictor(make_checkpoint(3, 3, (16, 32, 64)), "cuda", precision)
    geometry = predictor.geometry
    edge = geometry.smallest_output_edge(250)
    kind = WindowKind(geometry.input_edge(edge), 3, U8, write, geometry.write_edge(edge))
    plain, *graphs = (make_lane(predictor, kind, graphs=which) for which in (False, True, True))
    assert not plain.is_graph and all(lane.is_graph for lane in graphs)
    pixels = make_pixels(500, 600, 3)
    staged, region = Stager(CUDA).stage(pixels), Box(0, 0, 500, 600)
    windows = [Box(y, x, y + kind.edge, x + kind.edge) for y in (-40, 40, 300) for x in (-40, 100, 400)]
    expected = [plain.submit(staged, region, window, (500, 600)).wait()[0].copy() for window in windows]
    tickets = [graphs[n % 2].submit(staged, region, window, (500, 600)) for n, window in enumerate(windows)]
    for ticket, planes in zip(tickets, expected, strict=True):
        found, finite = ticket.wait()
        assert finite
        np.testing.assert_array_equal(found, planes)
    assert len(np.unique(expected[0])) > 1


def test_what_no_graph_can_hold_is_computed_without() -> None:
    """The reason is kept, and memory is given back as before."""

    def compute(pixels: Tensor) -> tuple[Tensor, Tensor]:
        return (pixels[..., 0] > pixels.float().mean().item()).to(torch.uint8), torch.tensor(True, device=CUDA)

    kind = WindowKind(64, 1, U8, ("classes",), 64)
    lanes = Lanes(lambda: Lane(compute, kind, CUDA, torch.no_grad), 2)
    assert lanes.error is not None
    pixels = make_pixels(64, 64)[..., None]
    staged = Stager(CUDA).stage(pixels)
    for _ in range(5):
        found, _ = lanes.submit(staged, Box(0, 0, 64, 64), Box(0, 0, 64, 64), (64, 64)).wait()
        np.testing.assert_array_equal(found, pixels[..., 0] > pixels.mean())
    torch.cuda.synchronize()
    torch.cuda.empty_cache()  # refused while the allocator believes in a capture
    before = torch.cuda.memory_allocated()
    for _ in range(20):
        big = Stager(CUDA).stage(np.zeros((2048, 2048, 1), np.uint8))
        big.ready.wait()
        del big
    assert torch.cuda.memory_allocated() <= before + 2**22


@pytest.mark.parametrize("name", ["bool", "u1", "i1", "u2", "i2", "u4", "f2", "f4", "f8"])
def test_scaling_gives_the_bits_of_a_cpu(name: str) -> None:
    pixels = make_typed(np.dtype(name))
    found = DeviceScale(SCALING, pixels.dtype, CUDA)(carry(pixels).to(CUDA)).cpu().numpy()
    np.testing.assert_array_equal(found.view(np.uint32), SCALING.apply(pixels).view(np.uint32))


@pytest.mark.parametrize("finish", [first_largest, softmax, lambda logits: to_levels(softmax(logits))])
def test_softmax_and_classes_give_the_bits_of_a_cpu(finish: Callable[[Tensor], Tensor]) -> None:
    """No operation is fused with another, so that all round alike."""
    logits = torch.randn(1, 4, 300, 301, generator=torch.Generator().manual_seed(0)) * 8
    assert torch.equal(finish(logits.to(CUDA)).cpu(), finish(logits))


def test_staging_from_many_threads_gives_each_its_pixels() -> None:
    from concurrent.futures import ThreadPoolExecutor

    stager = Stager(CUDA)

    def there_and_back(seed: int) -> bool:
        pixels: Any = make_pixels(700, 800, 3, seed)
        staged = stager.stage(pixels)
        expected = pixels.copy()
        pixels[:] = 0  # may be let go, or used again, at once
        staged.ready.wait()
        return bool(np.array_equal(staged.pixels.cpu().numpy(), expected))

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(there_and_back, range(64)))
