"""Programs: a model from a file of any kind that is known, ours or others', told apart by what it holds."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

from unettile.checkpoint import Checkpoint, load_checkpoint
from unettile.errors import InputError
from unettile.exchange.torchprogram import ENTRIES, load_program

_MOST_ENTRIES = 2**16  # of an archive
_MOST_RATIO = 64  # of what an archive unpacks to, to its own size; torch packs nothing


def load_model(path: Path, *, trust: bool = False) -> Checkpoint:
    """Read a checkpoint, or a program with what stands beside it.

    Args:
        trust: a file may be read although that can run code in it.

    Raises:
        InputError: as `load_checkpoint` and `load_program`.
    """
    if not _is_program(path):
        return load_checkpoint(path)
    model = load_program(path, trust=trust)
    digest = hashlib.sha256(path.read_bytes())
    beside = path.with_suffix(".json")
    digest.update(beside.read_bytes() if beside.is_file() else b"")
    return replace(model, sha256=digest.hexdigest())


def _is_program(path: Path) -> bool:
    """Whether the file is an archive with the entries of torch.export, of this or an earlier version.

    Raises:
        InputError: it is, and would unpack to far more than it holds.
    """
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):  # damaged: who reads checkpoints says so
        return False
    if not any(entry.filename.endswith(ENTRIES) for entry in entries):
        return False
    size, unpacked = path.stat().st_size, sum(entry.file_size for entry in entries)
    if len(entries) > _MOST_ENTRIES or unpacked > _MOST_RATIO * size:
        raise InputError(
            f"{path} is an archive of {len(entries)} entries that unpack from {size} bytes to {unpacked}: no program"
            " that torch.export.save wrote does; export it again"
        )
    return True
