"""FCN on windows that are smaller than its largest kernel."""

from __future__ import annotations

import torch

from unettile.networks import build_network


def test_in_bfloat16_taps_that_see_only_padding_learn_nothing() -> None:
    """The kernel of fc6 reaches 3 px; of a window of 64 px, 2 × 2 to it, its outer taps see nothing."""
    torch.manual_seed(0)
    network = build_network("fcn32s", {"widths": [4, 4, 4, 4, 128], "dense": 128}).to(memory_format=torch.channels_last)
    for rows, columns in ((2, 2), (1, 3)):
        network.zero_grad()
        window = torch.rand(2, 3, 32 * rows, 32 * columns).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            network(window).float().square().mean().backward()
        gradient = network.fc6.weight.grad
        seen = torch.zeros(7, 7, dtype=torch.bool)
        seen[4 - rows : 3 + rows, 4 - columns : 3 + columns] = True
        assert isinstance(gradient, torch.Tensor) and bool((gradient[..., seen] != 0).any())
        assert bool((gradient[..., ~seen] == 0).all())
