"""Protection: nothing is written onto an input, into it, or in place of what holds it, by whatever name it goes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from unettile.errors import UsageError
from unettile.images.omezarr import is_zarr

Identity = tuple[int, int] | str
"""Device and number of what is there; the path of what is not."""


def protect(inputs: Iterable[Path | None], outputs: Iterable[Path | None]) -> None:
    """Refuse outputs that would touch an input.

    Files are told by what the file system says that they are: symbolic and hard links, and names in other case where
    that does not count, lead to the same.

    Args:
        inputs: files and folders that are read: images, masks, labels, models, recipes; None is none.
        outputs: files, and folders that are written as a whole, such as a Zarr or a run directory; None is none.

    Raises:
        UsageError: an output is an input, lies in a Zarr or directly in a folder that is one, or holds one.
    """
    read: dict[Identity, Path] = {}
    above: dict[Identity, Path] = {}
    for path in inputs:
        if path is not None:
            read.setdefault(_identity(path), path)
            above |= {_identity(parent): path for parent in _parents(path)}
    for output in outputs:
        if output is None:
            continue
        itself = _identity(output)
        if itself in read:
            raise UsageError(f"{output} is {_named(output, read[itself])}: choose another name")
        if itself in above:
            raise UsageError(f"{output} holds {above[itself]}, one of the inputs: choose another name")
        for distance, parent in enumerate(_parents(output)):
            folder = read.get(_identity(parent))
            if folder is not None and folder.is_dir() and (distance == 0 or is_zarr(folder)):
                raise UsageError(f"{output} lies in {folder}, one of the inputs: choose a place outside of it")


def _parents(path: Path) -> list[Path]:
    """Return the directories that a path really lies in, the nearest first."""
    folder = Path(os.path.realpath(path.parent))
    return [folder, *folder.parents]


def _identity(path: Path) -> Identity:
    """Return what a file or folder is, whatever it is called; of what is not there, its name without links."""
    try:
        status = path.stat()
    except OSError:
        return os.path.realpath(path)
    return status.st_dev, status.st_ino


def _named(output: Path, path: Path) -> str:
    same = output.absolute() == path.absolute()
    return "one of the inputs" if same else f"the same as {path}, one of the inputs"
