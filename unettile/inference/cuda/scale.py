"""Scaling on the device: the numbers of `Scaling.apply`, bit by bit, from raw pixels that travelled as they are.

Eight bits a pixel cross the bus instead of the thirty-two of a scaled one. Only correctly rounded operations are used,
each by itself, so that a GPU rounds as numpy does.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unettile.images.normalize import HIGHEST, LOWEST, Scaling

_CARRIERS: dict[str, torch.dtype] = {
    "bool": torch.uint8,
    "uint8": torch.uint8,
    "int8": torch.int8,
    "uint16": torch.int16,  # the same bits: torch computes little with unsigned numbers of 16
    "int16": torch.int16,
    "float16": torch.float16,
    "float32": torch.float32,
}
_VIEWS: dict[str, str] = {"bool": "uint8", "uint16": "int16"}


def carrier_of(dtype: np.dtype[Any]) -> torch.dtype:
    """Return the type in which pixels of a slide travel; float64 for all that float32 does not hold."""
    return _CARRIERS.get(dtype.name, torch.float64)


def carry(pixels: NDArray[Any]) -> Tensor:
    """Return pixels as a tensor of `carrier_of` their type on the CPU, without a copy where none is needed."""
    carried = np.ascontiguousarray(pixels.astype(pixels.dtype.newbyteorder("="), copy=False))
    name = carried.dtype.name
    if name in _VIEWS:
        carried = carried.view(_VIEWS[name])
    elif name not in _CARRIERS:
        carried = carried.astype(np.float64)
    if not carried.flags.writeable:
        carried = carried.copy()  # torch warns of tensors over memory that must not be written
    return torch.from_numpy(carried)


class DeviceScale:
    """Scales pixels (…, C) on a device, float32.

    Args:
        scaling: of an image; `load` takes that of another one, in the same memory.
        dtype: of the slide's pixels, which come as `carry` makes them.
        device: where they are.
    """

    def __init__(self, scaling: Scaling, dtype: np.dtype[Any], device: torch.device) -> None:
        self._unsigned = dtype.name == "uint16"
        self._dtype = torch.float64 if carrier_of(dtype) == torch.float64 else torch.float32
        channels = len(scaling.low)
        self._low, self._spread = (torch.empty(channels, dtype=self._dtype, device=device) for _ in range(2))
        self._constant = torch.empty(channels, dtype=torch.bool, device=device)
        self.load(scaling)

    def load(self, scaling: Scaling) -> None:
        """Scale as another image with as many channels from now on."""
        low = torch.tensor(scaling.low, dtype=self._dtype)  # rounded before the difference, as `Scaling.apply` does
        spread = torch.tensor(scaling.high, dtype=self._dtype) - low
        constant = spread <= 0
        self._low.copy_(low)
        self._spread.copy_(torch.where(constant, torch.ones_like(spread), spread))
        self._constant.copy_(constant)

    def __call__(self, pixels: Tensor) -> Tensor:
        """Return (pixels - low) / (high - low), clipped, float32."""
        if self._unsigned:
            pixels = pixels.to(torch.int32) & 0xFFFF
        scaled = pixels.to(self._dtype) - self._low
        scaled = scaled.div_(self._spread).masked_fill_(self._constant, 0).clamp_(LOWEST, HIGHEST)
        return scaled.to(torch.float32)
