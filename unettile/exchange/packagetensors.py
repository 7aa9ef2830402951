"""Package tensors: the test values of a package, arrays of numbers in .npy files."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unettile.errors import InputError
from unettile.exchange.packagefiles import PackageFiles
from unettile.exchange.rdf import Tensor as Described

_TEST_BYTES = 2**30


def tensor_of(files: PackageFiles, tensor: Described) -> NDArray[np.float32] | None:
    """Return the test values of a tensor, (N, C, H, W) float32; None if it has none."""
    if not tensor.test:
        return None
    data = files.read(tensor.test, _TEST_BYTES)
    try:
        stream = BytesIO(data)
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
        if dtype.hasobject or dtype.kind not in "buif" or dtype.itemsize * int(np.prod(shape)) > len(data):
            raise ValueError(f"{dtype} {shape}")
        values = np.load(BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OverflowError) as error:
        raise InputError(f"{files.path}: {tensor.test} is no array of numbers: take a fresh copy") from error
    if values.ndim != len(tensor.axes):
        raise InputError(
            f"{files.path}: {tensor.test} has shape {values.shape} for axes {tensor.axes}: take a fresh copy"
        )
    for missing in "bc":
        if missing not in tensor.axes:
            values = values[None]
    axes = "".join(name for name in "cb" if name not in tensor.axes) + tensor.axes
    return np.ascontiguousarray(values.transpose([axes.index(name) for name in "bcyx"]).astype(np.float32))


def example_of(files: PackageFiles, tensor: Described) -> Tensor | None:
    """Return the same as a tensor of torch's."""
    values = tensor_of(files, tensor)
    return None if values is None else torch.from_numpy(values)
