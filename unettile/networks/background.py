"""Background: the bias that decides how readily a network takes a pixel for background, found by trying."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from unettile.geometry import Geometry


def shift_background(network: nn.Module, channels: int, shift: float) -> None:
    """Add a number to the logit of class 0 of every pixel, by changing the bias of the layer that makes it.

    Of a network with one logit for two classes that logit is lowered instead.

    Args:
        network: one of the registry, in eval mode; changed in place.
        channels: of its input.

    Raises:
        ValueError: no bias moves this logit alone, and everywhere alike.
    """
    assert isinstance(network.geometry, Geometry)
    edge = network.geometry.input_edge(network.geometry.smallest_output_edge(1))
    parameter = next(network.parameters())
    window = torch.zeros((1, channels, edge, edge), device=parameter.device, dtype=parameter.dtype)
    with torch.inference_mode():
        before = network(window)
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d) and module.bias is not None]
    for module in reversed(convolutions):
        bias = module.bias
        assert bias is not None
        with torch.no_grad():
            kept = float(bias[0])
            bias[0] += 1.0
            with torch.inference_mode():
                sign = _moved(network(window) - before)
            bias[0] = kept + sign * shift
        if sign:
            return
    raise ValueError("no bias of this network moves the logit of the background alone")


def _moved(change: Tensor) -> float:
    """Return 1 if class 0 rose against all else by 1, -1 if it fell so, 0 if neither; `change` is (1, K, h, w)."""
    against = change[:, :1] - change[:, 1:]
    alone = change[:, 2:].abs().max() < 1e-3 if change.shape[1] > 2 else True
    sign = float(against.mean().sign())
    return sign if alone and bool(((against - sign).abs() < 1e-3).all()) else 0.0
