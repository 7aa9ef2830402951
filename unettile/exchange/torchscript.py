"""TorchScript (.pt): a network as torch.jit writes it, with source code that is compiled and run when it is read."""

from __future__ import annotations

import warnings
from io import BytesIO
from pathlib import Path

import torch
from torch import nn

from unettile.checkpoint import Checkpoint
from unettile.errors import InputError
from unettile.exchange.foreign import adopt, wrap
from unettile.exchange.sidecar import Sidecar

NETWORK = "torchscript"
_MOST_CHANNELS = 16
_EDGE = 256  # px: of windows for which channels are counted


def load_torchscript(path: Path, *, trust: bool) -> Checkpoint:
    """Read a network with what stands beside it, without its hash.

    Raises:
        InputError: not trusted, damaged, or no fully convolutional network of one image.
    """
    script = read_script(path, path, trust=trust)
    beside = path.with_suffix(".json")
    sidecar = Sidecar.read(beside)
    channels = sidecar.channels or _count_channels(script)
    if channels is None:
        raise InputError(f'{path} does not tell how many channels it takes: say it in {beside.name}: {{"channels": 3}}')
    network = wrap(script, sidecar, one_at_a_time=False, devices=("cuda", "cpu"))
    return adopt(network, sidecar, channels, NETWORK, path)


def read_script(source: Path | bytes, path: Path, *, trust: bool) -> nn.Module:
    """Return the network of a file, or of its bytes.

    Args:
        path: for messages.

    Raises:
        InputError: not trusted, or damaged.
    """
    if not trust:
        raise InputError(
            f"{path} is TorchScript: source code that runs when it is read. If you know who made it, give --trust; else"
            " ask for ONNX or a safetensors checkpoint"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            script: nn.Module = torch.jit.load(  # type: ignore[no-untyped-call]
                BytesIO(source) if isinstance(source, bytes) else source, map_location="cpu"
            )
            return script.eval()
    except Exception as error:  # whatever a damaged archive sets off
        said = str(error).splitlines() or [type(error).__name__]
        raise InputError(f"{path} cannot be read as TorchScript: {said[0][:300]}") from error


def _count_channels(script: nn.Module) -> int | None:
    """Return the one number of channels that the network takes."""
    taken = []
    for channels in range(1, _MOST_CHANNELS + 1):
        try:
            with torch.inference_mode():
                script(torch.zeros(1, channels, _EDGE, _EDGE))
        except (RuntimeError, ValueError):
            continue
        taken.append(channels)
    return taken[0] if len(taken) == 1 else None
