"""The engines, one a kind of device, as a tuple."""

from __future__ import annotations

from collections.abc import Callable

from unettile.inference.cpu import CpuEngine
from unettile.inference.cuda.engine import CudaEngine
from unettile.inference.engine import Engine
from unettile.inference.predict import Predictor

ENGINES: tuple[tuple[str, Callable[[Predictor], Engine]], ...] = (
    ("cuda", CudaEngine),
    ("cpu", CpuEngine),
)
"""A kind of device, as torch names it, and what makes its engine."""


def make_engine(predictor: Predictor) -> Engine:
    """Return an engine for the device that a predictor is on."""
    make = dict(ENGINES)[predictor.device.type]
    return make(predictor)
