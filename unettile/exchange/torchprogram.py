"""Programs of torch.export (.pt2): a graph without Python source, and the parameters.

torch.export.load can run code that is hidden in a file: it unpickles constants and some weights without restriction
(`torch.export.pt2_archive._package`). torch's own documentation warns of files from strangers, so nothing of the file
is read before `trust` says that it may.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import torch
from torch import nn

from unettile.checkpoint import Checkpoint
from unettile.errors import InputError
from unettile.exchange.foreign import adopt, wrap
from unettile.exchange.sidecar import INSIDE, Sidecar

NETWORK = "torch.export"
ENTRIES = (".pt2", "archive_format", "serialized_exported_program.json", "models/model.json")
"""Ends of names of what such an archive holds, of this or an earlier version of torch."""

EXTRA = f"{INSIDE}.json"
_EXPORT = (
    "torch.export.export(net.eval(), (x,), dynamic_shapes=({0: AUTO, 2: AUTO, 3: AUTO},)), AUTO = torch.export.Dim.AUTO"
)


def load_program(path: Path, *, trust: bool) -> Checkpoint:
    """Read a program, without its hash.

    Raises:
        InputError: not trusted, damaged, or no fully convolutional network of one image.
    """
    if not trust:
        raise InputError(
            f"{path} is a torch.export program, and reading one can run code that is hidden in it (torch unpickles "
            "parts of it): if you know who made it, give --trust; else ask for a safetensors checkpoint"
        )
    channels, one_at_a_time, program, inside = _read(path)
    sidecar = Sidecar.read(path.with_suffix(".json"), inside)
    network = wrap(program, sidecar, one_at_a_time=one_at_a_time, devices=("cuda", "cpu"))
    return adopt(network, sidecar, channels, NETWORK, path)


def _read(path: Path) -> tuple[int, bool, nn.Module, str | None]:
    """Return the image's channels, whether windows come one at a time, the graph as a module, and our header."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)  # torch logs tracebacks of what is refused here in a line
    extra: dict[str, str] = {EXTRA: ""}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.load(path, extra_files=extra)
            inputs = [node for node in program.graph.nodes if node.name in program.graph_signature.user_inputs]
            shape = inputs[0].meta["val"].shape
            module: nn.Module = program.module()
    except Exception as error:  # whatever a damaged archive sets off
        raise InputError(
            f"{path} cannot be read as a torch.export program ({type(error).__name__}: {error})"
        ) from error
    finally:
        logging.disable(before)
    if len(inputs) != 1 or len(shape) != 4 or not isinstance(shape[1], int):
        raise InputError(
            f"{path} takes {len(inputs)} inputs, the first of shape {tuple(shape)}: need one, (N, C, H, W)"
        )
    if isinstance(shape[2], int) or isinstance(shape[3], int):
        raise InputError(
            f"{path} takes windows of {shape[2]} × {shape[3]} px alone: export it for any size, by {_EXPORT}"
        )
    return shape[1], isinstance(shape[0], int), module, extra[EXTRA] or None
