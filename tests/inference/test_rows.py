"""By rows = in one pass, bit by bit: whatever the network, the precision, the window and the pieces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tests.narrow import make_checkpoint
from unettile.inference.predict import Predictor
from unettile.inference.rows import ByRows, RowRun
from unettile.inference.steady import steady
from unettile.networks import build_network
from unettile.networks.folding import fold_batch_norm
from unettile.networks.footprint import footprint
from unettile.networks.graph import RowMap
from unettile.networks.record import NotByRows, record, rows_of, shapes_of

CONFIGS = {
    "valid": {"widths": [4, 6, 8, 10, 12]},
    "valid, nearest, 3x3 head": {"widths": [4, 6, 8, 10], "up": "nearest", "head_kernel": 3, "one_logit": True},
    "padded, batch norm": {"widths": [4, 6, 8], "padding": "same", "batch_norm": True, "up_norm": True},
    "padded, strided, leaky": {
        "widths": [4, 6, 8], "padding": "same", "down": "strided", "up": "nearest-conv", "activation": "leaky_relu",
    },
}  # fmt: skip


@pytest.mark.parametrize("piece", [32, 80, 128])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_by_rows_equals_one_pass(config: dict[str, object], dtype: torch.dtype, piece: int) -> None:
    torch.manual_seed(2)
    network = build_network("unet", {"in_channels": 2, "classes": 2, **config}).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean)
    network = fold_batch_norm(network).to(dtype=dtype, memory_format=torch.channels_last)
    shapes, geometry = shapes_of(network), network.geometry
    shape = [geometry.input_edge(geometry.smallest_output_edge(edge)) for edge in (300, 200)]
    x = torch.randn(1, 2, *shape).to(dtype).contiguous(memory_format=torch.channels_last)
    network = steady(network, dtype)
    by_rows = in_pieces(shapes, network, 2, shape[1], piece)
    with torch.inference_mode():
        whole = network(x)
        pieces = fed(by_rows, x, [piece] * 20)
        uneven = fed(by_rows, x, [1, 50, piece, 7, 200, 16, 300])
    assert max(rows.shape[2] for rows in pieces) <= piece  # never more than what came in
    # a network that pads goes on where one pass meets the border of its window
    known = whole.shape[2] - (geometry.margin if by_rows.recording.graph.lost == 0 else 0)
    for rows in (torch.cat(pieces, dim=2), torch.cat(uneven, dim=2)):
        assert rows.shape[2] >= known and torch.equal(rows[:, :, :known], whole[:, :, :known])


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
@pytest.mark.parametrize("piece", [32, 112])
def test_the_footprint_holds_what_waits(config: dict[str, object], piece: int) -> None:
    network = build_network("unet", {"in_channels": 2, "classes": 2, **config}).eval()
    network = fold_batch_norm(network).to(memory_format=torch.channels_last)
    geometry, shapes = network.geometry, shapes_of(network)
    width = geometry.input_edge(geometry.smallest_output_edge(300))
    by_rows = in_pieces(shapes, steady(network, torch.float32), 2, width, piece)
    run, most = by_rows.begin(0), 0
    with torch.inference_mode():
        for _ in range(900 // piece):
            run.feed(torch.rand(1, 2, piece, width).contiguous(memory_format=torch.channels_last))
            waiting = {rows.data_ptr(): rows for queue in run.waiting for _, rows in queue.parts(0, 10**6)}
            most = max(most, sum(rows.nbytes for rows in waiting.values()))
    assert 0.5 * most < footprint(by_rows.recording.graph) < 4 * most


def in_pieces(shapes: nn.Module, network: nn.Module, channels: int, width: int, piece: int) -> ByRows:
    """Return a network that is fed so many rows at once."""
    recording = record(shapes, (channels, width, width))
    recording = replace(recording, graph=replace(recording.graph, fed=piece))
    return ByRows(recording, network, 0, torch.float32, lambda logits: logits)


def fed(by_rows: ByRows, x: Tensor, pieces: list[int]) -> list[Tensor]:
    """Return what comes out where a window is fed in pieces, the last one as long as need be."""
    run, y0, out = RowRun(by_rows, 0), 0, []
    for rows in pieces:
        if y0 < x.shape[2]:
            out.append(run.feed(x[:, :, y0 : min(y0 + rows, x.shape[2])]))
            y0 += rows
    return [rows for rows in out if rows is not None]


class Residual(nn.Module):
    """A network with what the U-Nets lack: sums, dilation, overlapping pools and taps, one map read three times."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 7, stride=2, padding=3)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.wide = nn.Conv2d(4, 4, 3, padding=4, dilation=4)
        self.up = nn.ConvTranspose2d(4, 4, 3, stride=2, padding=1, output_padding=1)
        self.more = nn.ConvTranspose2d(4, 4, 4, stride=2, padding=1)
        self.smooth = nn.Upsample(scale_factor=2, mode="bilinear")
        self.head = nn.Conv2d(8, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.stem(x))  # (N, 4, H/4, W/4)
        y = self.relu(x) + self.wide(x)
        y += x
        y = self.up(y)  # (N, 4, H/2, W/2)
        return self.head(torch.cat([self.more(y), self.smooth(y)], dim=1))


@pytest.fixture
def threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("piece", [16, 48, 200])
@pytest.mark.parametrize("threads", [1, 2, 3], indirect=True)
def test_sums_dilation_and_overlapping_taps(piece: int, threads: None) -> None:
    torch.manual_seed(5)
    height, reach = 200, 40
    network = Residual().eval().to(memory_format=torch.channels_last)
    x = torch.randn(1, 1, height, 96).contiguous(memory_format=torch.channels_last)
    shapes = shapes_of(network)
    with torch.inference_mode():
        whole = network(x)
        network = steady(network, torch.float32)
        steadily = network(x)
        rows = torch.cat(fed(in_pieces(shapes, network, 1, 96, piece), x, [piece] * 20), dim=2)
    assert rows.shape[2] >= height - reach
    assert torch.equal(rows[:, :, : height - reach], steadily[:, :, : height - reach])
    assert torch.allclose(steadily, whole, atol=1e-5)


def test_what_cannot_be_done_by_rows_is_said() -> None:
    class Global(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x - x.mean(dim=(2, 3), keepdim=True)

    class Flipped(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flip(2)

    for network in (Global(), Flipped(), nn.Conv2d(1, 1, 3, padding="same")):
        with pytest.raises(NotByRows):
            record(network, (1, 16, 16))


def test_row_maps_say_what_layers_need() -> None:
    conv = rows_of(nn.Conv2d(1, 1, 3, stride=2, padding=1))
    assert (conv.first(0), conv.last(0), conv.first(5), conv.last(5)) == (-1, 1, 9, 11)
    assert [conv.ready(rows) for rows in (0, 1, 2, 3, 4, 12)] == [0, 0, 1, 1, 2, 6]
    up = rows_of(nn.ConvTranspose2d(1, 1, 3, stride=2, padding=1))
    assert [(up.first(row), up.last(row)) for row in (0, 1, 2, 3)] == [(0, 0), (0, 1), (1, 1), (1, 2)]
    assert up.ready(2) == 3 and RowMap().ready(7) == 7
    crop = RowMap(before=-4, after=4)
    assert (crop.first(0), crop.last(0), crop.ready(4), crop.ready(6)) == (4, 4, 0, 2)


@pytest.mark.parametrize("write", [("classes",), ("probabilities",), ("probabilities", "classes")])
def test_a_predictor_gives_the_same_by_rows(write: tuple[str, ...]) -> None:
    predictor = Predictor(make_checkpoint(widths=(3, 4, 5)), "cpu", "fp32")
    geometry = predictor.geometry
    shape = tuple(geometry.input_edge(geometry.smallest_output_edge(edge)) for edge in (400, 220))
    window = np.random.default_rng(4).random((*shape, predictor.checkpoint.in_channels), np.float32)
    compute = predictor.by_rows(write, shape[1])
    assert compute is not None
    run = compute.begin(-geometry.margin)

    def read(y0: int, y1: int) -> NDArray[np.float32]:
        return window[y0 + geometry.margin : y1 + geometry.margin]

    places, rows = zip(
        *[out for y1 in (300, 300, shape[0] - geometry.margin) for out in run.run(read, y1)], strict=True
    )
    assert list(places) == np.cumsum([0, *(part.shape[-2] for part in rows)])[:-1].tolist()
    assert np.array_equal(np.concatenate(rows, axis=-2), predictor.planes(write, window[None])[0])
    inexact = Predictor(replace(predictor.checkpoint, geometry=replace(geometry, exact=False)), "cpu", "fp32")
    assert inexact.by_rows(write, shape[1]) is None
