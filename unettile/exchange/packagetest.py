"""Package test: what a package says that its network makes of an image, computed here and compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from unettile.errors import InputError
from unettile.exchange.foreign import ForeignNetwork
from unettile.exchange.package import Package
from unettile.exchange.packagetensors import tensor_of
from unettile.exchange.probable import ProbableNetwork

RELATIVE, ABSOLUTE, APART = 1e-3, 1e-3, 1e-4
"""What a test output may differ by, as bioimage.io has it by default, and the share of values that may differ more."""


@dataclass(frozen=True)
class Comparison:
    """A package's test, computed here.

    Args:
        largest: difference from its test output.
        apart: share of values that differ by more than is allowed.
        shape: of the output.
    """

    largest: float
    apart: float
    shape: tuple[int, ...]

    @property
    def passed(self) -> bool:
        return self.apart <= APART


def check_package(package: Package) -> Comparison:
    """Compute a package's test input, on the CPU in float32, and compare with its test output.

    Raises:
        InputError: it has no test.
    """
    image, output = package.description.inputs[0], package.description.outputs[0]
    given, wanted = tensor_of(package.files, image), tensor_of(package.files, output)
    if given is None or wanted is None:
        raise InputError(f"{package.files.path} has no test input and output: nothing can be checked")
    found = []
    model, network = package.model, package.model.build()
    for window in given:
        pixels = np.ascontiguousarray(window.transpose(1, 2, 0))
        scaled = torch.from_numpy(model.normalization.measure_array(pixels).apply(pixels)).permute(2, 0, 1)[None]
        with torch.inference_mode():
            if isinstance(network, ForeignNetwork):
                raw = network.program(network.before(scaled))
            else:
                raw = ProbableNetwork.of(network, len(model.classes))(scaled)
            found.append(package.told(raw).numpy())
    result = np.concatenate(found)
    if result.shape != wanted.shape:
        raise InputError(f"{package.files.path}: the output has shape {result.shape}, its test {wanted.shape}")
    differences = np.abs(result - wanted)
    apart = differences > ABSOLUTE + RELATIVE * np.abs(wanted)
    return Comparison(float(differences.max(initial=0)), float(apart.mean()), result.shape)
