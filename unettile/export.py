"""Export: a model of ours as a file that other programs run, ONNX or torch.export's (.pt2).

Such a file is the network alone: scaled windows (N, C, H, W) float32 in, logits (N, K, h, w) float32 out. It also holds
the header of the checkpoint, with which it is segmented as the checkpoint is (`unettile.exchange.sidecar`).
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.export import Dim, ExportedProgram

from unettile.atomic import atomic_group
from unettile.checkpoint import Checkpoint
from unettile.errors import InputError, UsageError
from unettile.exchange.sidecar import INSIDE
from unettile.exchange.torchprogram import EXTRA

ENDINGS = (".onnx", ".pt2")
IMAGE, LOGITS = "image", "logits"
"""Names of the input and the output of an ONNX file."""

_LEAST = 64  # px of the output of the window that the network is traced with


def export_model(model: Checkpoint, path: Path, *, overwrite: bool) -> None:
    """Write a model for other programs, batch, height and width free.

    Args:
        path: its ending says the format.
        overwrite: replace what is there; without it, only the same bytes may be there.

    Raises:
        UsageError: another ending.
        InputError: a program from elsewhere, ONNX without its library, or `path` cannot be written or is another.
    """
    if path.suffix not in ENDINGS:
        raise UsageError(f"--export {path} has the wrong ending: need one of {', '.join(ENDINGS)}")
    if model.module is not None:
        raise InputError("the model is a program from elsewhere: export a checkpoint (.safetensors)")
    if path.suffix == ".onnx":
        _need_onnx()
        with atomic_group([path], overwrite=overwrite) as temporary:
            _write_onnx(model, temporary[path])
        return
    with (
        atomic_group([path], overwrite=overwrite) as temporary,
        temporary[path].open("wb") as file,
        _quiet(),
    ):
        torch.export.save(_trace(model), file, extra_files={EXTRA: described(model)})


def _trace(model: Checkpoint) -> ExportedProgram:
    """Return the graph of the network for windows of any legal size."""
    geometry = model.geometry
    edge = geometry.input_edge(geometry.smallest_output_edge(_LEAST))
    window = torch.zeros(2, model.in_channels, edge, edge + geometry.stride)  # no two edges alike, nor 1: those stay
    sizes = ({0: Dim.AUTO, 2: Dim.AUTO, 3: Dim.AUTO},)
    with torch.no_grad():
        return torch.export.export(model.build(), (window,), dynamic_shapes=sizes)


def _write_onnx(model: Checkpoint, path: Path) -> None:
    with _quiet():
        program = torch.onnx.export(
            _trace(model), dynamo=True, verbose=False, input_names=[IMAGE], output_names=[LOGITS]
        )
    assert program is not None
    program.model.metadata_props[INSIDE] = described(model)
    path.write_bytes(program.model_proto.SerializeToString())


def described(model: Checkpoint) -> str:
    """Return what a file for other programs says of a model: its header, and its receptive field, as JSON."""
    return json.dumps({**json.loads(model.header.to_json()), "receptive_field": model.receptive_field}, sort_keys=True)


def _need_onnx() -> None:
    try:
        import onnx
        import onnxscript
    except ImportError as error:
        raise InputError(
            "ONNX needs onnx and onnxscript, which are not installed: pip install 'unettile[onnx]', or export a .pt2"
        ) from error
    del onnx, onnxscript


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what torch says of its own work off the terminal."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
