"""Export: a model of ours for other programs: ONNX, torch.export's (.pt2), or a package of bioimage.io (.zip, folder).

A file is the network alone: scaled windows (N, C, H, W) float32 in, logits (N, K, h, w) float32 out. It also holds
the header of the checkpoint, with which it is segmented as the checkpoint is (`unettile.exchange.sidecar`).
"""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn
from torch.export import Dim, ExportedProgram

from unettile.atomic import atomic_group
from unettile.checkpoint import Checkpoint
from unettile.errors import InputError, UsageError
from unettile.exchange.probable import ProbableNetwork
from unettile.exchange.sidecar import INSIDE
from unettile.exchange.torchprogram import EXTRA

ENDINGS = (".onnx", ".pt2", ".zip", "")
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
        raise UsageError(f"--export {path} has the wrong ending: need .onnx, .pt2, .zip, or none for a folder")
    if model.module is not None:
        raise InputError("the model is a program from elsewhere: export a checkpoint (.safetensors)")
    if path.suffix == ".onnx":
        _need_onnx()
        with atomic_group([path], overwrite=overwrite) as temporary:
            temporary[path].write_bytes(_onnx_bytes(model, model.build(), LOGITS))
        return
    if path.suffix != ".pt2":
        _export_package(model, path, overwrite=overwrite)
        return
    with (
        atomic_group([path], overwrite=overwrite) as temporary,
        temporary[path].open("wb") as file,
        _quiet(),
    ):
        torch.export.save(_trace(model, model.build()), file, extra_files={EXTRA: described(model)})


def _export_package(model: Checkpoint, path: Path, *, overwrite: bool) -> None:
    _need_onnx()
    try:
        from unettile.exchange.packagewrite import OPSET, write_package
    except ImportError as error:
        raise InputError(
            "a package needs PyYAML, which is not installed: pip install 'unettile[bioimageio]'"
        ) from error
    network = ProbableNetwork.of(model.build(), len(model.classes))
    onnx = _onnx_bytes(model, network, "probabilities", OPSET)
    with atomic_group([path], overwrite=overwrite) as temporary:
        if path.suffix == "":
            temporary[path].mkdir()
            write_package(model, path.name, onnx, described(model), temporary[path])
            return
        with tempfile.TemporaryDirectory(prefix="unettile-") as folder:
            write_package(model, path.stem, onnx, described(model), Path(folder))
            with zipfile.ZipFile(temporary[path], "w", zipfile.ZIP_DEFLATED) as archive:
                for file in sorted(Path(folder).iterdir()):  # without times: the same model gives the same bytes
                    entry = zipfile.ZipInfo(file.name)
                    entry.external_attr = 0o644 << 16
                    archive.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)


def _trace(model: Checkpoint, network: nn.Module) -> ExportedProgram:
    """Return the graph of the network for windows of any legal size."""
    geometry = model.geometry
    edge = geometry.input_edge(geometry.smallest_output_edge(_LEAST))
    window = torch.zeros(2, model.in_channels, edge, edge + geometry.stride)  # no two edges alike, nor 1: those stay
    sizes = ({0: Dim.AUTO, 2: Dim.AUTO, 3: Dim.AUTO},)
    with torch.no_grad():
        return torch.export.export(network, (window,), dynamic_shapes=sizes)


def _onnx_bytes(model: Checkpoint, network: nn.Module, output: str, opset: int | None = None) -> bytes:
    traced = _trace(model, network)
    try:
        with _quiet():
            program = torch.onnx.export(
                traced,
                dynamo=True,
                verbose=False,
                input_names=[IMAGE],
                output_names=[output],
                opset_version=opset,
            )
    except Exception as error:  # of the exporter or its library, where their versions do not fit: no common base
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"torch {torch.__version__} and the installed onnxscript cannot write ONNX together"
            f" ({said[:160]}): install newer ones of both, or export a .pt2"
        ) from error
    assert program is not None
    program.model.metadata_props[INSIDE] = described(model)
    data: bytes = program.model_proto.SerializeToString()
    return data


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
