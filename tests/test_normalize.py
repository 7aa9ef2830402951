"""Scaling by percentiles: from a sample that the image alone decides, and the same number wherever a pixel lies."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from unettile.box import Box
from unettile.errors import InputError
from unettile.images import normalize
from unettile.images.normalize import (
    SAMPLE_BOXES,
    SAMPLE_EDGE,
    WHOLE_PIXELS,
    Normalization,
    Scaling,
    check_finite,
    sample_boxes,
)
from unettile.images.plain import PlainSlide
from unettile.images.segments import SegmentReader
from unettile.images.slide import open_slide
from unettile.images.view import View

MEMORY = Path("memory")


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "uint64", "float16", "float32", "float64"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_percentiles_become_zero_and_one(dtype: str, per_channel: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 120, (40, 50, 3)).astype(dtype)
    pixels[..., 1] = pixels[..., 1] // 2
    normalization = Normalization(10, 90, per_channel)
    scaling = normalization.measure_array(pixels)
    for channel in range(3):
        values = pixels[..., channel] if per_channel else pixels
        low, high = np.percentile(values.astype(np.float64), [10, 90])
        assert (scaling.low[channel], scaling.high[channel]) == (low, high)
    scaled = scaling.apply(pixels)
    assert scaled.dtype == np.float32 and scaled.shape == pixels.shape
    expected = (pixels.astype(np.float64) - scaling.low) / (np.array(scaling.high) - scaling.low)
    assert np.allclose(scaled, np.clip(expected, -1, 4), atol=1e-6)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    width=st.integers(1, 40),
    channels=st.integers(1, 5),
    dtype=st.sampled_from(["u1", "u2", "f2", "f4", "f8", "i4"]),
)
def test_a_pixel_is_scaled_alike_wherever_it_lies(seed: int, width: int, channels: int, dtype: str) -> None:
    """Bit for bit, for any offset, stride and order of memory: no tile may change a pixel."""
    random = np.random.default_rng(seed)
    pixels = random.normal(1000, 300, (9, width, channels)).clip(0, 2000).astype(dtype)
    low = random.uniform(-100, 900, channels)
    scaling = Scaling(tuple(low), tuple(low + random.uniform(0.1, 1500, channels)))
    whole = scaling.apply(pixels)
    assert np.array_equal(scaling.apply(np.asfortranarray(pixels)), whole)
    assert np.array_equal(scaling.apply(pixels[::-1, ::-1])[::-1, ::-1], whole)
    assert np.array_equal(scaling.apply(pixels[3:, width // 2 :]), whole[3:, width // 2 :])
    single = [scaling.apply(pixels[y, x]) for y in range(9) for x in range(width)]
    assert np.array_equal(np.array(single).reshape(whole.shape), whole)


def test_large_numbers_with_a_small_range_keep_their_contrast() -> None:
    pixels = (np.arange(100, dtype=np.uint32) + 3_000_000_000).reshape(10, 10, 1)
    scaled = Normalization(0, 100).measure_array(pixels).apply(pixels)
    assert np.allclose(scaled.ravel(), np.arange(100) / 99, atol=1e-6)


def test_a_constant_image_becomes_zero() -> None:
    pixels = np.full((8, 8, 2), 7, np.uint8)
    assert not Normalization().measure_array(pixels).apply(pixels).any()


def test_a_constant_channel_becomes_zero_beside_another() -> None:
    pixels = np.stack([np.full(100, 7), np.arange(100)], axis=-1).reshape(10, 10, 2).astype(np.uint8)
    scaled = Normalization(0, 100, per_channel=True).measure_array(pixels).apply(pixels)
    assert not scaled[..., 0].any()
    assert scaled[..., 1].max() == 1


@pytest.mark.parametrize(
    "shape", [(2048, 2048), (2049, 2048), (1, 6_000_000), (5_000_001, 1), (100, 80_000), (3001, 70_001)]
)
def test_the_sample_is_bounded_and_spread(shape: tuple[int, int]) -> None:
    boxes = list(sample_boxes(shape))
    area = sum(box.area for box in boxes)
    assert all(Box.of_shape(shape).contains(box) and not box.is_empty for box in boxes)
    assert area <= max(WHOLE_PIXELS, SAMPLE_BOXES * SAMPLE_EDGE**2)
    assert len(boxes) == len(set(boxes)) <= SAMPLE_BOXES
    for first, second in pairwise(boxes):
        assert first.intersect(second).is_empty
    if len(boxes) > 1:
        assert len(boxes) >= SAMPLE_BOXES // 2  # a long strip is not sampled at its middle only
        assert min(box.y0 for box in boxes) < shape[0] / 4 and max(box.y1 for box in boxes) > shape[0] * 3 / 4
        assert min(box.x0 for box in boxes) < shape[1] / 4 and max(box.x1 for box in boxes) > shape[1] * 3 / 4


def test_a_slide_and_an_array_give_the_same_scaling(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(normalize, "WHOLE_PIXELS", 10_000)
    monkeypatch.setattr(normalize, "SAMPLE_EDGE", 8)
    pixels = np.random.default_rng(3).integers(0, 2**12, (310, 290, 1)).astype(np.uint16)
    normalization = Normalization(2, 98)
    assert len(list(sample_boxes((310, 290)))) == SAMPLE_BOXES
    with PlainSlide(MEMORY, pixels) as slide:
        assert normalization.measure(slide) == normalization.measure_array(pixels)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_no_numbers_are_refused_by_name(bad: float) -> None:
    pixels = np.zeros((6, 7, 2), np.float32)
    pixels[4, 5, 1] = bad
    with pytest.raises(InputError, match=r"memory: the pixel at y 14, x 25 is .*; need finite numbers"):
        check_finite(pixels, Box(10, 20, 16, 27), MEMORY)
    with pytest.raises(InputError, match="y 4, x 5"):
        Normalization().measure(PlainSlide(MEMORY, pixels))
    with pytest.raises(InputError, match="finite"):
        Normalization().measure_array(pixels)
    check_finite(pixels[:4], Box(0, 0, 4, 7), MEMORY)


@pytest.mark.parametrize(("low", "high"), [(-1, 99), (1, 101), (50, 50), (99, 1), (float("nan"), 99)])
def test_impossible_percentiles_are_refused(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="need 0 ≤ low < high ≤ 100"):
        Normalization(low, high)


def test_both_survive_a_round_trip_through_json() -> None:
    normalization = Normalization(0.1, 99.9, per_channel=True)
    assert Normalization.from_dict(normalization.to_dict()) == normalization
    scaling = Scaling((0.1, 1 / 3), (2.5, 1e9))
    assert Scaling.from_dict(scaling.to_dict()) == scaling


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    count=st.integers(1, 300),
    low=st.floats(0, 60),
    high=st.floats(61, 100),
    dtype=st.sampled_from(["uint8", "uint16"]),
)
def test_percentiles_of_small_integers_are_those_in_doubles(
    seed: int, count: int, low: float, high: float, dtype: str
) -> None:
    pixels = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, (1, count, 1), endpoint=True).astype(dtype)
    normalization = Normalization(low, high)
    assert normalization.measure_array(pixels) == normalization.measure_array(pixels.astype(np.float64))


# Large slides.


def count_decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Note the number of every compressed tile that is decoded from now on."""
    decoded: list[int] = []
    original = SegmentReader._decoded

    def note(self: SegmentReader, index: int, row: int) -> object:
        decoded.append(index)
        return original(self, index, row)

    monkeypatch.setattr(SegmentReader, "_decoded", note)
    return decoded


def test_measuring_a_hundred_thousand_pixels_squared_decodes_few_tiles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """38,416 tiles, each stored; a sample of 256 boxes touches at most four tiles each."""
    path = tmp_path / "large.tif"
    edge, tile = 100_000, 512
    pixels = np.full((tile, tile), 250, np.uint8)
    pixels[::2] = 30
    encoded = imagecodecs.zlib_encode(pixels.tobytes(), 9)
    tifffile.imwrite(
        path,
        (encoded for _ in range((-(-edge // tile)) ** 2)),
        shape=(edge, edge),
        dtype=np.uint8,
        tile=(tile, tile),
        compression="zlib",
        photometric="minisblack",
        metadata=None,
    )
    decoded = count_decoded(monkeypatch)
    tracemalloc.start()
    with open_slide(path) as slide:
        scaling = Normalization(1, 99).measure(slide)
        first, peak = len(decoded), tracemalloc.get_traced_memory()[1]
        assert Normalization(1, 99).measure(slide) == scaling
    tracemalloc.stop()
    assert (scaling.low, scaling.high) == ((30.0,), (250.0,))
    assert SAMPLE_BOXES <= first <= 4 * SAMPLE_BOXES + 1
    assert peak < 2**29


def test_a_level_and_a_plane_are_measured_by_themselves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(normalize, "WHOLE_PIXELS", 10_000)
    monkeypatch.setattr(normalize, "SAMPLE_EDGE", 8)
    planes = np.random.default_rng(0).integers(0, 200, (2, 310, 290)).astype(np.uint8)
    planes[1] += 50
    tiff, directory = tmp_path / "a.ome.tif", tmp_path / "a.zarr"
    with tifffile.TiffWriter(tiff, ome=True) as file:
        file.write(planes, subifds=1, metadata={"axes": "ZYX"}, tile=(32, 32), photometric="minisblack")
        file.write(planes[:, ::2, ::2], subfiletype=1, tile=(32, 32), photometric="minisblack")
    group = zarr.open_group(directory, mode="w")
    for number in range(2):
        group.create_array(str(number), data=planes[:, :: 2**number, :: 2**number], chunks=(2, 64, 64))
    axes = [{"name": name} for name in "zyx"]
    group.attrs["ome"] = {"multiscales": [{"axes": axes, "datasets": [{"path": "0"}, {"path": "1"}]}]}
    for level, step in ((0, 1), (1, 2)):
        for z in (0, 1):
            expected = Normalization(2, 98).measure_array(planes[z, ::step, ::step, None])
            for path in (tiff, directory):
                with open_slide(path, View(level=level, z=z)) as slide:
                    assert Normalization(2, 98).measure(slide) == expected
