"""Folding batch norm into the convolution before it: fewer passes over memory at inference."""

from __future__ import annotations

from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norm(network: nn.Module) -> nn.Module:
    """Fold every batch norm into the (transposed) convolution before it, in place; the network must be in eval mode.

    Our networks define their layers in the order in which they apply them, so "before" is the neighbour in the list of
    a module's children; a batch norm after anything else stays. The result equals the original up to float32 rounding.
    Returns the network itself.
    """
    for module in list(network.modules()):
        for (first, conv), (second, norm) in pairwise(list(module.named_children())):
            if isinstance(conv, nn.Conv2d | nn.ConvTranspose2d) and isinstance(norm, nn.BatchNorm2d):
                assert conv.out_channels == norm.num_features, f"{second} does not follow {first}"
                setattr(module, first, fuse_conv_bn_eval(conv, norm, transpose=isinstance(conv, nn.ConvTranspose2d)))
                setattr(module, second, nn.Identity())
    return network
