"""Convolutions that round alike, whatever the window's size, the batch and the number of threads.

Every output pixel is the same sum of products wherever its window lies, but floating-point sums depend on their order,
and the order on the kernel. On a CPU, torch chooses between its own kernels and oneDNN's by the size of the input, by
the batch and by the number of threads: a window alone and the same window in a batch of two then differ in their last
bits. Here oneDNN is called by name. It sums in one order for all feature maps that are not tiny, which
`SMALLEST_OUTPUT_EDGE` keeps away.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

SMALLEST_OUTPUT_EDGE = 192
"""Smaller windows are computed as part of one of this output edge, px.

oneDNN takes another kernel where a feature map has under 14 px: measured for the 64-channel U-Net in float32, windows
with output edges up to 148 px differed from larger ones in the last bits, those from 164 to 1540 px did not.
"""


class OneDnnConv(nn.Module):
    """A convolution by oneDNN, with the parameters of another."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        conv = self.conv
        return torch.mkldnn_convolution(
            x, conv.weight, conv.bias, _pair(conv.padding), conv.stride, conv.dilation, conv.groups
        )


class OneDnnConvTranspose(nn.Module):
    """A transposed convolution by oneDNN, with the parameters of another."""

    def __init__(self, conv: nn.ConvTranspose2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        conv = self.conv
        result: Tensor = torch.ops.mkldnn._convolution_transpose_pointwise(
            x,
            conv.weight,
            conv.bias,
            _pair(conv.padding),
            conv.output_padding,
            conv.stride,
            conv.dilation,
            conv.groups,
            "none",
            [],
            "",
        )
        return result


def steady(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Let all convolutions of a network for the CPU be computed by oneDNN, in place; return the network.

    A processor or a build of torch without oneDNN for this type keeps torch's own kernels.
    """
    if not _has_onednn(dtype):
        return network
    for parent in list(network.modules()):
        if isinstance(parent, OneDnnConv | OneDnnConvTranspose):
            continue
        for name, module in parent.named_children():
            if type(module) is nn.Conv2d and module.padding_mode == "zeros" and not isinstance(module.padding, str):
                parent.add_module(name, OneDnnConv(module))
            elif type(module) is nn.ConvTranspose2d:
                parent.add_module(name, OneDnnConvTranspose(module))
    return network


def _has_onednn(dtype: torch.dtype) -> bool:
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    return dtype == torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _pair(padding: str | tuple[int, ...]) -> tuple[int, ...]:
    assert not isinstance(padding, str)
    return padding
