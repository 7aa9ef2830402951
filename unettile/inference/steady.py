"""Layers that round alike, whatever the window's size, the batch and the number of threads.

Every output pixel is the same sum of products wherever its window lies, but floating-point sums depend on their order,
and the order on the kernel. On a CPU, torch chooses between its own kernels and oneDNN's by the size of the input, by
the batch and by the number of threads: a window alone and the same window in a batch of two then differ in their last
bits. Here oneDNN is called by name. It sums in one order for all feature maps that are not tiny, which
`SMALLEST_OUTPUT_EDGE` keeps away.

Three layers need more. The order in which oneDNN sums the overlapping taps of a transposed convolution depends on the
size: here each phase of the output is an ordinary convolution (where taps do not overlap, there is nothing to order).
At the border of a dilated convolution it depends on how rows are parted among threads: here the input is padded first.
And torch upsamples maps of fewer than four channels by a kernel that differs with the number of threads: here they get
a fourth.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SMALLEST_OUTPUT_EDGE = 192
"""Smaller windows are computed as part of one of this output edge, px.

oneDNN takes another kernel where a feature map has under 14 px: measured for the 64-channel U-Net in float32, windows
with output edges up to 148 px differed from larger ones in the last bits, those from 164 to 1540 px did not.
"""


_USUAL_INPUT = 132, 1024  # px; the order of weights suits it best, any other is computed alike
_ACTIVATIONS = {type(None): ("none", []), nn.ReLU: ("relu", []), nn.ReLU6: ("hardtanh", [0.0, 6.0])}
_FEWEST = 4  # channels that torch upsamples all together, in channels-last memory


class OneDnnConv(nn.Module):
    """A convolution by oneDNN, with the parameters of another, and with the activation that follows it, if any.

    The weights are kept in oneDNN's own order alone: in torch's they would be brought into it at every call.

    Args:
        activation: a ReLU or ReLU6, which is applied to what is written, not in a second pass over memory.
    """

    def __init__(self, conv: nn.Conv2d, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.padding = _pair(conv.padding)
        self._steps = conv.stride, conv.dilation, conv.groups
        self._activation: tuple[str, list[float]] = _ACTIVATIONS[type(activation)]
        self.bias = conv.bias
        usual = [1, conv.in_channels, *_USUAL_INPUT]
        weight = conv.weight.detach()
        self._weight = torch.ops.mkldnn._reorder_convolution_weight(weight, self.padding, *self._steps, usual)

    def forward(self, x: Tensor) -> Tensor:
        return self.padded(x, self.padding)

    def padded(self, x: Tensor, padding: tuple[int, ...]) -> Tensor:
        """Return the convolution with another padding than its own, (rows, columns)."""
        if max(self._steps[1]) > 1:
            rows, columns = padding
            x = F.pad(x, (columns, columns, rows, rows)).contiguous(memory_format=torch.channels_last)
            padding = (0, 0)
        result: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, self._weight, self.bias, padding, *self._steps, *self._activation, ""
        )
        return result


class HalvingMax(nn.MaxPool2d):
    """The maximum of 2 × 2 pixels each; torch's pooling takes twice as long, since it notes where each maximum was.

    A pooling still, to networks that look for theirs.
    """

    def __init__(self) -> None:
        super().__init__(2)

    def forward(self, x: Tensor) -> Tensor:
        height, width = (edge // 2 * 2 for edge in x.shape[2:])
        rows = torch.maximum(x[:, :, 0:height:2, :width], x[:, :, 1:height:2, :width])
        return torch.maximum(rows[..., ::2], rows[..., 1::2])


class OneDnnConvTranspose(nn.Module):
    """A transposed convolution by oneDNN, with the parameters of another whose taps do not overlap."""

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


class PhasedConvTranspose(nn.Module):
    """A transposed convolution of stride s as s² ordinary ones, one for each phase of the output, by oneDNN.

    With padding p, input row i and tap t add to output row s·i - p + t. So output row s·q + r sums the taps
    t = first + s·m, first = (r + p) mod s, over input rows q + (r + p - first) / s - m.
    """

    def __init__(self, conv: nn.ConvTranspose2d) -> None:
        super().__init__()
        s = conv.stride[0]
        self._stride, self._channels, self._border = s, conv.out_channels, _pair(conv.padding)[0]
        self._more = conv.kernel_size[0] - 2 * self._border + conv.output_padding[0] - s
        self.taps = [len(range((r + self._border) % s, conv.kernel_size[0], s)) for r in range(s)]
        self.phases = nn.ModuleList(OneDnnConv(self._phase(conv, r, c)) for r in range(s) for c in range(s))

    def forward(self, x: Tensor) -> Tensor:
        s = self._stride
        height, width = (s * edge + self._more for edge in x.shape[2:])
        shape = (len(x), self._channels, height, width)
        result = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
        rows, columns = (
            [self._padding(r, *lengths) for r in range(s)] for lengths in zip(x.shape[2:], shape[2:], strict=True)
        )
        # framed here, for all phases: oneDNN's sums at the border of an even kernel reach into the blocks beside it
        top, left = (max(0, *(before for before, _ in axis)) for axis in (rows, columns))
        framed = _framed(
            x, (top, max(0, *(after for _, after in rows))), (left, max(0, *(after for _, after in columns)))
        )
        for r in range(s):
            for c in range(s):
                place = result[:, :, r::s, c::s]
                y, x0 = top - rows[r][0], left - columns[c][0]
                phase = self.phases[r * s + c](framed)
                place.copy_(phase[:, :, y : y + place.shape[2], x0 : x0 + place.shape[3]])
        return result

    def _phase(self, conv: nn.ConvTranspose2d, r: int, c: int) -> nn.Conv2d:
        s, border = self._stride, self._border
        weight = conv.weight.detach()[:, :, (r + border) % s :: s, (c + border) % s :: s].flip(2, 3).transpose(0, 1)
        phase = nn.Conv2d(conv.in_channels, conv.out_channels, (self.taps[r], self.taps[c]))
        phase.weight, phase.bias = nn.Parameter(weight.contiguous()), conv.bias
        return phase

    def _padding(self, phase: int, length: int, enlarged: int) -> tuple[int, int]:
        """Return how many rows of zeros a phase sees before and after its input; negative: rows that it does not."""
        ahead = (phase + self._border) // self._stride
        wanted = len(range(phase, enlarged, self._stride))
        return self.taps[phase] - 1 - ahead, wanted + ahead - length


def _framed(x: Tensor, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
    """Return maps (N, C, H, W) in a frame of zeros, so many before and after."""
    n, c, height, width = x.shape
    shape = (n, c, sum(rows) + height, sum(columns) + width)
    framed = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    framed[:, :, : rows[0]] = 0
    framed[:, :, rows[0] + height :] = 0
    framed[..., : columns[0]] = 0
    framed[..., columns[0] + width :] = 0
    framed[:, :, rows[0] : rows[0] + height, columns[0] : columns[0] + width] = x
    return framed


class SteadyBilinear(nn.Module):
    """Bilinear upsampling by a whole factor, its centres at half pixels, by one kernel of torch's."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        missing = max(0, _FEWEST - x.shape[1])
        wide = F.pad(x, (0, 0, 0, 0, 0, missing)).contiguous(memory_format=torch.channels_last)
        result = F.interpolate(wide, scale_factor=self.factor, mode="bilinear")
        return result[:, : x.shape[1]] if missing else result


def steady(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Let the layers of a network for the CPU round alike, in place; return the network.

    A processor or a build of torch without oneDNN for this type keeps torch's own convolutions.
    """
    onednn = _has_onednn(dtype)
    for parent in list(network.modules()):
        if isinstance(parent, OneDnnConv | OneDnnConvTranspose | PhasedConvTranspose):
            continue
        for name, module in parent.named_children():
            if type(module) is nn.Upsample and module.mode == "bilinear":
                assert isinstance(module.scale_factor, float) and not module.align_corners
                setattr(parent, name, SteadyBilinear(module.scale_factor))
            elif type(module) is nn.MaxPool2d and _halves(module):
                setattr(parent, name, HalvingMax())
            elif not onednn:
                continue
            elif type(module) is nn.Conv2d and module.padding_mode == "zeros" and not isinstance(module.padding, str):
                setattr(parent, name, OneDnnConv(module, _take_activation(parent, name)))
            elif type(module) is nn.ConvTranspose2d:
                apart = all(kernel <= stride for kernel, stride in zip(module.kernel_size, module.stride, strict=True))
                setattr(parent, name, OneDnnConvTranspose(module) if apart else PhasedConvTranspose(module))
    return network


def _take_activation(parent: nn.Module, name: str) -> nn.Module | None:
    """Take away the activation that follows a convolution, if there is one that oneDNN knows and nothing lies between.

    In a `Sequential` the order says what follows; other modules say it in `activated`, by the names of both.
    """
    names = list(parent._modules)
    following = names[names.index(name) + 1 :]
    if not isinstance(parent, nn.Sequential):
        activation = getattr(parent, "activated", {}).get(name)
        following = following[: following.index(activation) + 1] if activation in following else []
    for other in following:
        module = parent._modules[other]
        if type(module) in _ACTIVATIONS and module is not None:
            setattr(parent, other, nn.Identity())
            return module
        if type(module) is not nn.Identity:
            return None
    return None


def _halves(pool: nn.MaxPool2d) -> bool:
    values = (pool.kernel_size, pool.stride, pool.padding, pool.dilation)
    kernel, stride, padding, dilation = (value if isinstance(value, tuple) else (value, value) for value in values)
    return kernel == stride == (2, 2) and padding == (0, 0) and dilation == (1, 1) and not pool.ceil_mode


def _has_onednn(dtype: torch.dtype) -> bool:
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    return dtype == torch.float32 or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _pair(padding: str | tuple[int, ...]) -> tuple[int, ...]:
    assert not isinstance(padding, str)
    return padding
