"""Programs: a model from a file of any kind that is known, ours or others', told apart by what it holds."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from unettile.checkpoint import Checkpoint, load_checkpoint
from unettile.errors import InputError
from unettile.exchange.packagefiles import DESCRIPTIONS
from unettile.exchange.torchprogram import ENTRIES, load_program
from unettile.exchange.torchscript import load_torchscript

if TYPE_CHECKING:
    from unettile.exchange.package import Package
    from unettile.exchange.packagetest import Comparison

_MOST_ENTRIES = 2**16  # of an archive
_MOST_RATIO = 64  # of what an archive unpacks to, to its own size; torch packs nothing


def load_model(path: Path, *, trust: bool = False) -> Checkpoint:
    """Read a checkpoint, or a program with what stands beside it.

    Args:
        trust: a file may be read although that can run code in it.

    Raises:
        InputError: as `load_checkpoint`, `load_program`, `load_torchscript`, `load_onnx` and `load_package`.
    """
    if path.suffix.lower() == ".onnx" and path.is_file():
        return _load_onnx(path)
    entries = _entries(path) if path.suffix.lower() != ".zip" else []
    if is_package(path):
        return _package(path, trust=trust).model
    if any(name.endswith(ENTRIES) for name in entries):
        model = load_program(path, trust=trust)
    elif any("/code/__torch__" in name for name in entries):
        model = load_torchscript(path, trust=trust)
    else:
        return load_checkpoint(path)
    digest = hashlib.sha256(path.read_bytes())
    beside = path.with_suffix(".json")
    digest.update(beside.read_bytes() if beside.is_file() else b"")
    return replace(model, sha256=digest.hexdigest())


def check_model(path: Path, *, trust: bool = False) -> Comparison:
    """Compute the test that a bioimage.io package brings, and compare.

    Raises:
        InputError: it is no package, cannot be run here, or has no test.
    """
    if not is_package(path):
        raise InputError(f"{path} brings no test: need a bioimage.io package, a .zip or a folder")
    package = _package(path, trust=trust)
    from unettile.exchange.packagetest import check_package

    return check_package(package)


def is_package(path: Path) -> bool:
    """Whether a path leads to a folder, a zip or a description: what may be a bioimage.io package."""
    return path.is_dir() or (path.is_file() and path.suffix.lower() in (".zip", ".yaml", ".yml"))


def is_package_folder(path: Path) -> bool:
    """Whether a folder has the description of a bioimage.io package."""
    return any((path / name).is_file() for name in DESCRIPTIONS)


def _package(path: Path, *, trust: bool) -> Package:
    try:
        from unettile.exchange.package import load_package
    except ImportError as error:
        raise InputError(f"{path} needs PyYAML, which is not installed: pip install 'unettile[bioimageio]'") from error
    return load_package(path, trust=trust)


def _load_onnx(path: Path) -> Checkpoint:
    try:
        from unettile.exchange.onnxmodel import load_onnx
    except ImportError as error:
        raise InputError(
            f"{path} needs onnx and onnxruntime, which are not installed: pip install 'unettile[onnx]'"
        ) from error
    return load_onnx(path)


def _entries(path: Path) -> list[str]:
    """Return the names of what a file holds that is an archive; of any other none.

    Raises:
        InputError: it would unpack to far more than it holds.
    """
    if not path.is_file() or not zipfile.is_zipfile(path):
        return []
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):  # damaged: who reads checkpoints says so
        return []
    size, unpacked = path.stat().st_size, sum(entry.file_size for entry in entries)
    if len(entries) > _MOST_ENTRIES or unpacked > _MOST_RATIO * size:
        raise InputError(
            f"{path} is an archive of {len(entries)} entries that unpack from {size} bytes to {unpacked}: no model"
            " that torch wrote does; export it again"
        )
    return [entry.filename for entry in entries]
