"""Compiling loops over pixels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile with numba, on one thread, and keep the result for the next process where that is possible."""
    try:
        kernel: Callable[..., Any] = numba.njit(function, cache=True, nogil=True)
    except RuntimeError:  # neither the package nor the home directory can be written
        kernel = numba.njit(function, nogil=True)
    return kernel
