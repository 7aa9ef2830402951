"""Scaling on the device is `Scaling.apply`, bit by bit, whatever the type in which pixels travel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from unettile.images.normalize import Scaling
from unettile.inference.cuda.scale import DeviceScale, carrier_of, carry

CPU = torch.device("cpu")
SCALING = Scaling((3.7, 20.0, -5.0), (150.3, 20.0, 7.1))  # the second channel is constant


def make_pixels(dtype: np.dtype[Any]) -> NDArray[Any]:
    rng = np.random.default_rng(0)
    if dtype.kind == "f":
        return rng.normal(50, 100, (40, 30, 3)).astype(dtype)
    if dtype.kind == "b":
        return rng.random((40, 30, 3)) > 0.5
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, (40, 30, 3), dtype, endpoint=True)


@pytest.mark.parametrize("name", ["bool", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"])
def test_bit_by_bit(name: str) -> None:
    pixels = make_pixels(np.dtype(name))
    scale = DeviceScale(Scaling((0.0,) * 3, (1.0,) * 3), pixels.dtype, CPU)
    scale.load(SCALING)  # as for the next image
    found = scale(carry(pixels)).numpy()
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found.view(np.uint32), SCALING.apply(pixels).view(np.uint32))


def test_pixels_travel_in_their_own_size() -> None:
    for name in ("bool", "u1", "i1", "u2", "i2", "f2", "f4", "f8"):
        pixels = make_pixels(np.dtype(name))
        assert carry(pixels).dtype == carrier_of(pixels.dtype)
        assert carry(pixels).element_size() == pixels.dtype.itemsize


def test_what_travels_is_not_written_to() -> None:
    pixels = make_pixels(np.dtype("f4"))
    pixels.flags.writeable = False
    before = pixels.copy()
    DeviceScale(SCALING, pixels.dtype, CPU)(carry(pixels))
    np.testing.assert_array_equal(pixels, before)
