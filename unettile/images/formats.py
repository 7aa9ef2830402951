"""Formats that are written: which ending means which, and files and directories that appear only when whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from unettile.atomic import atomic_directory, atomic_path
from unettile.errors import UsageError
from unettile.images.canvas import Canvas, Readers
from unettile.images.write_ometiff import check_ometiff, write_ometiff
from unettile.images.write_omezarr import check_omezarr, write_omezarr
from unettile.images.write_png import check_png, write_png
from unettile.images.write_tiff import check_tiff, write_tiff


@dataclass(frozen=True)
class Format:
    """A format that is written.

    Args:
        endings: of its files' names, lower case.
        check: refuses a canvas that the format cannot hold, before any work.
        write: writes a canvas under a temporary name.
        is_directory: what it writes is a directory.
    """

    endings: tuple[str, ...]
    check: Callable[[Canvas], None]
    write: Callable[[Path, Canvas, Readers], None]
    is_directory: bool = False


FORMATS = (
    Format((".ome.tif", ".ome.tiff"), check_ometiff, write_ometiff),
    Format((".tif", ".tiff"), check_tiff, write_tiff),
    Format((".ome.zarr", ".zarr"), check_omezarr, write_omezarr, is_directory=True),
    Format((".png",), check_png, write_png),
)
"""The first that fits is taken: longer endings stand before those that they end with."""


def format_of(path: Path) -> Format:
    """Return the format of a file's ending.

    Raises:
        UsageError: the ending is not known.
    """
    for form in FORMATS:
        if path.name.lower().endswith(form.endings):
            return form
    known = ", ".join(ending for form in FORMATS for ending in form.endings)
    raise UsageError(f"cannot tell the format of {path.name} from its ending; use one of {known}")


def write_image(final: Path, canvas: Canvas, read: Readers) -> None:
    """Write a canvas in the format of the file's ending; the name appears when the file is whole and safe on disk.

    Args:
        final: replaced if it exists.
        read: gives the pixels of a box, of a stack one for each plane; what it raises ends the writing, and nothing is
            left.

    Raises:
        UsageError: the ending is not known, or the format cannot hold the canvas.
        InputError: the destination cannot be written, or is full.
    """
    form = format_of(final)
    form.check(canvas)
    with (atomic_directory if form.is_directory else atomic_path)(final) as temporary:
        form.write(temporary, canvas, read)
