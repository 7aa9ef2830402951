"""Arrays in temporary files: as large as the disk allows, while memory holds the part in work."""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


class MappedArray:
    """An array of zeros in a temporary file without a name, which goes with it.

    Args:
        directory: of the file.
        dtype, shape: of the array.

    Raises:
        OSError: the disk has no room for it.
    """

    def __init__(self, directory: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self._mapped: mmap.mmap | None = None
        self.array: NDArray[Any] = np.zeros(shape, dtype) if 0 in shape else self._map(directory, dtype, shape)

    def forget(self) -> None:
        """Let go of the memory; the file, and with it the system's cache as long as there is room, keeps the values."""
        if self._mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._mapped.madvise(mmap.MADV_DONTNEED)

    def _map(self, directory: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        size = math.prod(shape) * dtype.itemsize
        with tempfile.TemporaryFile(dir=directory) as file:
            if hasattr(os, "posix_fallocate"):  # a full disk is an error now, not a crash later
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
            self._mapped = mmap.mmap(file.fileno(), size)
        return np.ndarray(shape, dtype, buffer=self._mapped)
