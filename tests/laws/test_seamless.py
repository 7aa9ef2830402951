"""Tiled = whole: what decides a pixel is the image and the model.

Demanded is equality of every byte, in float32 and in bfloat16, of classes and of probabilities, whatever the windows,
the batch, the blocks, the shards and the number of threads; and the contrary for windows off the network's stride.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray

import unettile.inference.cpu
import unettile.tiling
from tests.narrow import NARROW, make_checkpoint, make_pixels
from unettile.box import Box
from unettile.checkpoint import Checkpoint, load_checkpoint
from unettile.images.mirror import reflect_indices
from unettile.inference.predict import Predictor
from unettile.models import MODELS, find_model
from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.segment import segment_image, segment_shard
from unettile.segmentation.stitch import stitch_run
from unettile.tiling import Shard

EDGES = (196, 388, 580, 772)
BATCHES = (1, 2, 4)


@pytest.fixture(params=["fp32", "bf16"])
def precision(request: pytest.FixtureRequest) -> str:
    if request.param == "bf16" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("oneDNN has no bfloat16 on this processor")
    return str(request.param)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor(make_checkpoint(), "cpu", "fp32")


@pytest.fixture
def threads() -> Iterator[int]:
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


def segmented(
    predictor: Predictor, pixels: NDArray[np.uint8], place: Path, options: SegmentOptions
) -> NDArray[np.uint8]:
    """Return the mask of pixels (H, W) or (H, W, C), through files."""
    tifffile.imwrite(place / "image.tif", pixels)
    segment_image(place / "image.tif", place / "mask.tif", predictor, options, overwrite=True)
    mask: NDArray[np.uint8] = tifffile.imread(place / "mask.tif")
    return mask


def whole_edge(shape: tuple[int, ...], checkpoint: Checkpoint) -> int:
    return checkpoint.geometry.smallest_output_edge(max(shape[:2]))


def assert_seamless(
    checkpoint: Checkpoint,
    precision: str,
    pixels: NDArray[np.uint8],
    place: Path,
    cases: list[tuple[int, int]],
    write: str = "classes",
) -> None:
    """Every (output edge, batch) gives what one window over the whole image gives."""
    predictor = Predictor(checkpoint, "cpu", precision)
    edge = whole_edge(pixels.shape, checkpoint)
    whole = segmented(predictor, pixels, place, SegmentOptions((write,), edge))
    if pixels.size > 1000:
        assert len(np.unique(whole)) > 1, "a mask of one class shows nothing"
    for output_edge, batch in cases:
        tiled = segmented(predictor, pixels, place, SegmentOptions((write,), output_edge, batch))
        np.testing.assert_array_equal(tiled, whole, err_msg=f"edge {output_edge}, batch {batch}, whole {edge}")


@pytest.mark.parametrize("write", ["classes", "probabilities"])
def test_windows_and_batches_change_no_pixel(tmp_path: Path, precision: str, write: str) -> None:
    cases = [(196, 1), (196, 2), (196, 4), (388, 1), (388, 2), (580, 1), (772, 1)]
    assert_seamless(make_checkpoint(), precision, make_pixels(401, 523), tmp_path, cases, write)


@pytest.mark.parametrize("shape", [(1, 1), (1, 389), (193, 2), (97, 211)])
def test_awkward_shapes(tmp_path: Path, precision: str, shape: tuple[int, int]) -> None:
    checkpoint = make_checkpoint(channels=3, classes=3)
    pixels = make_pixels(*shape, channels=3)
    assert_seamless(checkpoint, precision, pixels, tmp_path, [(20, 1), (196, 1), (196, 3), (388, 2)], "probabilities")


def test_sixty_four_channels(tmp_path: Path, precision: str) -> None:
    checkpoint = make_checkpoint(widths=(64, 128, 256, 512, 1024))
    assert_seamless(checkpoint, precision, make_pixels(30, 41), tmp_path, [(20, 1), (196, 2), (260, 1)])


@pytest.mark.parametrize("model", MODELS)
def test_the_shipped_models(tmp_path: Path, precision: str, model: str) -> None:
    checkpoint = load_checkpoint(find_model(model))
    pixels = make_pixels(131, 403, channels=checkpoint.in_channels)
    base = checkpoint.geometry.base
    cases = [(base + 192, 1), (base + 192, 2), (base + 384, 1)]
    assert_seamless(checkpoint, precision, pixels, tmp_path, cases, "probabilities")


@pytest.mark.slow
@pytest.mark.parametrize("write", ["classes", "probabilities"])
@pytest.mark.parametrize("widths", [(64, 128, 256, 512, 1024), (16, 32, 64, 128, 256), NARROW])
def test_all_edges_and_batches(tmp_path: Path, precision: str, widths: tuple[int, ...], write: str) -> None:
    cases = [(edge, batch) for edge in EDGES for batch in BATCHES]
    assert_seamless(make_checkpoint(widths=widths), precision, make_pixels(797, 401), tmp_path, cases, write)


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_the_shipped_models_at_all_edges(tmp_path: Path, precision: str, model: str) -> None:
    checkpoint = load_checkpoint(find_model(model))
    pixels = make_pixels(797, 401, channels=checkpoint.in_channels)
    base = checkpoint.geometry.base
    cases = [(edge - EDGES[0] % 16 + base, batch) for edge in EDGES for batch in BATCHES]
    assert_seamless(checkpoint, precision, pixels, tmp_path, cases, "probabilities")


def test_threads_change_no_pixel(tmp_path: Path, precision: str, threads: int) -> None:
    predictor = Predictor(make_checkpoint(), "cpu", precision)
    masks = []
    for count in (1, 2, 3):
        torch.set_num_threads(count)
        masks.append(segmented(predictor, make_pixels(97, 211), tmp_path, SegmentOptions(("probabilities",), 196)))
    assert all(np.array_equal(mask, masks[0]) for mask in masks[1:])


@pytest.mark.parametrize("output_edge", [100, 196])
def test_blocks_and_columns_change_no_pixel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, predictor: Predictor, output_edge: int
) -> None:
    masks = []
    options = SegmentOptions(("probabilities",), output_edge)
    for edge, width in ((192, 192), (192, 384), (192, 9216), (384, 384), (3072, 3072)):
        monkeypatch.setattr(unettile.tiling, "BLOCK_EDGE", edge)
        monkeypatch.setattr(unettile.inference.cpu, "COLUMN_WIDTH", width)
        masks.append(segmented(predictor, make_pixels(401, 523), tmp_path, options))
    assert all(np.array_equal(mask, masks[0]) for mask in masks[1:])


@pytest.mark.parametrize("write", ["classes", "probabilities"])
@pytest.mark.parametrize("count", [1, 2, 3, 11])
def test_shards_give_the_bytes_of_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, predictor: Predictor, count: int, write: str
) -> None:
    """Also where a shard begins or ends in the middle of a column of two blocks."""
    monkeypatch.setattr(unettile.tiling, "BLOCK_EDGE", 192)
    monkeypatch.setattr(unettile.inference.cpu, "COLUMN_WIDTH", 384)
    image, options = tmp_path / "image.tif", SegmentOptions((write,), 100)
    segmented(predictor, make_pixels(389, 401), tmp_path, options)
    for index in reversed(range(count)):  # 11 shards of 9 blocks: some have none
        segment_shard(image, tmp_path / "run", Shard(index, count), predictor, options)
    stitch_run(tmp_path / "run", tmp_path / "joined.tif")
    assert (tmp_path / "joined.tif").read_bytes() == (tmp_path / "mask.tif").read_bytes()


def test_steps_of_388_differ(precision: str) -> None:
    """Why 384 of the 388 px are written: the next window would lie off the stride, in another phase of the poolings."""
    predictor = Predictor(make_checkpoint(), "cpu", precision)
    pixels = make_pixels(600, 400).astype(np.float32) / 255

    def window(y: int) -> NDArray[np.float32]:
        box = Box(y, 0, y + 388, 388).expand(92)
        rows, columns = reflect_indices(box.y0, box.y1, 600), reflect_indices(box.x0, box.x1, 400)
        return predictor.probabilities(pixels[np.ix_(rows, columns)][None, ..., None])[0]

    first, on_stride, off_stride = window(0), window(192), window(194)  # the phase of 388 is that of 4, not of 0
    np.testing.assert_array_equal(first[:, 192:], on_stride[:, :196])
    assert np.abs(first[:, 194:] - off_stride[:, :194]).max() > 0.01
    step_of_388 = window(388)
    step_of_384 = window(384)
    assert np.abs(step_of_384[:, 4:] - step_of_388[:, :384]).max() > 0.01
    assert (step_of_384[:, 4:].argmax(0) != step_of_388[:, :384].argmax(0)).any()
