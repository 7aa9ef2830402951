"""Formats that are written: which ending means which, and files and directories that appear only when whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from unettile.atomic import atomic_directory, atomic_path
from unettile.errors import InputError, UsageError
from unettile.images.canvas import Canvas, Readers
from unettile.images.labelplace import find_label_place, is_label_place
from unettile.images.urls import refuse_writing
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
    """Return the format of a file's ending; in the `labels` of an OME-Zarr image, that of a label image of it.

    Raises:
        UsageError: the ending is not known.
        InputError: an OME-Zarr image that can have no label image.
    """
    refuse_writing(path)
    if is_label_place(path):
        place = find_label_place(path)
        return Format((), place.check, place.write, is_directory=True)
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
    make_room(final)
    with (atomic_directory if form.is_directory else atomic_path)(final) as temporary:
        form.write(temporary, canvas, read)
    announce(final)


def make_room(final: Path) -> None:
    """Make the directory that a label image goes to, if it is not there; that of any other file must be.

    Raises:
        InputError: it cannot be made.
    """
    if is_label_place(final):
        try:
            final.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot write {final}: {(error.strerror or str(error)).lower()}") from error


def leave(final: Path) -> None:
    """Remove the directory of a label image that was not written, if it holds nothing."""
    if is_label_place(final):
        with suppress(OSError):
            final.parent.rmdir()


@contextmanager
def label_images(finals: Sequence[Path]) -> Iterator[None]:
    """Make room for the label images among files that are written, and announce them when all of those are there.

    Raises:
        InputError: a directory cannot be made, or a list not be written.
    """
    for final in finals:
        make_room(final)
    try:
        yield
    except BaseException:
        for final in finals:
            leave(final)
        raise
    for final in finals:
        announce(final)


def announce(final: Path) -> None:
    """Add a label image that is whole to the list of its image's; of any other file, nothing is to be done.

    Raises:
        InputError: the list cannot be written.
    """
    if is_label_place(final):
        find_label_place(final).announce()
