"""Label place: where a mask becomes a label image of an OME-Zarr image, in the image's own directory.

image.zarr/
    labels/          its attributes name all label images; they are changed last, at one stroke
        nuclei/      multiscales with the axes of the image but for channels, its scale, and as many resolutions

Nothing else in the directory is touched.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from unettile.atomic import atomic_path
from unettile.errors import InputError, UsageError
from unettile.images.canvas import Canvas, Readers
from unettile.images.multiscaleframe import MultiscaleFrame, read_frame
from unettile.images.omezarr import is_zarr
from unettile.images.urls import url_of
from unettile.images.write_omelabel import Place, write_label
from unettile.images.write_omezarr import is_label
from unettile.regular import read_regular
from unettile.wording import size_text

_FOLDER = "labels"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_. -]*")
_MOST_BYTES = 2**26


@dataclass(frozen=True)
class LabelPlace:
    """Where a label image of an OME-Zarr image is, or will be.

    Args:
        path: of the label image.
        frame: axes, scale and resolutions of the image.
    """

    path: Path
    frame: MultiscaleFrame

    @property
    def zarr(self) -> str:
        """The version of OME-Zarr, that of the image."""
        return "0.4" if self.frame.zarr_format == 2 else "0.5"

    @property
    def place(self) -> Place:
        """How the label image lies on the image."""
        frame = self.frame
        kept = [number for number, axis in enumerate(frame.axes) if axis != "c"]
        return Place(
            name=self.path.name,
            axes=tuple(frame.entries[number] for number in kept),
            lengths={frame.axes[number]: frame.shapes[0][number] for number in kept[:-2]},
            scale=tuple(frame.scale[number] for number in kept),
            shift=tuple(frame.shift[number] for number in kept),
            halvings=frame.halvings,
        )

    def check(self, canvas: Canvas) -> None:
        """Refuse what is no label image of this image.

        Raises:
            UsageError: several layers, amounts, other pixels than the image's, or some of its planes.
        """
        image, frame = self.path.parent.parent, self.frame
        if len(canvas.layers) > 1 or not is_label(canvas.layers[0]):
            raise UsageError(
                f"{self.path} is to be a label image, which holds classes or ids: give one --write, classes or"
                " instances, or another name"
            )
        shape = frame.length("y"), frame.length("x")
        if canvas.shape != shape:
            raise UsageError(
                f"the mask has {size_text(canvas.shape)}, a label image of {image} needs the image's own"
                f" {size_text(shape)}: leave --level, --mpp and --frame model out"
            )
        if canvas.stack != (frame.length("t"), frame.length("z")):
            given = " ".join(f"{option} all" for axis, option in (("z", "--z"), ("t", "--time")) if axis in frame.axes)
            raise UsageError(f"a label image of {image} needs all planes of it: give {given}")

    def write(self, path: Path, canvas: Canvas, read: Readers) -> None:
        """Write the label image under a temporary name; see `write_omezarr`."""
        write_label(path, replace(canvas, zarr=self.zarr), read, self.place)

    def announce(self) -> None:
        """Add the name to those of the image's label images, unless it is among them.

        Raises:
            InputError: the list is damaged, or cannot be written.
        """
        folder, old = self.path.parent, self.zarr == "0.4"
        with _locked(folder):
            file = folder / (".zattrs" if old else "zarr.json")
            values = _read(file) or ({} if old else {"zarr_format": 3, "node_type": "group"})
            named, attributes = _listed(file, values)
            if self.path.name not in named:
                attributes["labels"] = [*named, self.path.name]
                _write(file, values)
            if old and not (folder / ".zgroup").exists():
                _write(folder / ".zgroup", {"zarr_format": 2})


def is_label_place(path: Path) -> bool:
    """Whether a path is that of a label image in the directory of an OME-Zarr image, be it there or not."""
    return path.parent.name == _FOLDER and is_zarr(path.parent.parent)


def is_label_of(path: Path, image: object) -> bool:
    """Whether a path is that of a label image of an image."""
    if not isinstance(image, Path) or not is_label_place(path):
        return False
    return image.exists() and path.parent.parent.samefile(image)


def find_label_place(path: Path) -> LabelPlace:
    """Return the place of a label image.

    Raises:
        InputError: its image cannot be understood, or the list of its label images is damaged.
    """
    place = LabelPlace(path, read_frame(path.parent.parent))
    file = path.parent / (".zattrs" if place.zarr == "0.4" else "zarr.json")
    if (values := _read(file)) is not None:
        _listed(file, values)
    return place


def label_path(image: Path, name: str) -> Path:
    """Return where a label image of an image goes.

    Raises:
        UsageError: a name that no label image can have.
        InputError: the image is no OME-Zarr.
    """
    if not _NAME.fullmatch(name) or len(name) > 100:
        raise UsageError(f'--into-labels got "{name}": need letters, digits, dots, dashes or blanks, such as nuclei')
    if url_of(image) is not None:
        raise InputError(f"{image} is on a server, where nothing is written: give -o OUT, not --into-labels")
    if not image.exists():
        raise InputError(f"cannot read {image}: no such file")
    if not is_zarr(image):
        raise InputError(f"{image} is no OME-Zarr, which alone holds label images: give -o OUT, not --into-labels")
    return image / _FOLDER / name


def unseen_line(path: Path) -> str | None:
    """Return what to tell of a label image that metadata gathered in one file, above it, do not name; else None."""
    if not is_label_place(path):
        return None
    for folder in (path.parent.parent, *path.parent.parent.parents):
        if not is_zarr(folder):
            return None
        if (folder / ".zmetadata").is_file() or (_read(folder / "zarr.json") or {}).get("consolidated_metadata"):
            return (
                f"the metadata of {folder} are gathered in one file, which does not name {path}: programs that go by it"
                " do not see the label image until they are gathered again"
            )
    return None


def _listed(file: Path, values: dict[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """Return the names of the label images that the metadata of their group list, and what holds the list.

    Raises:
        InputError: they are damaged.
    """
    attributes: Any = values
    if file.name == "zarr.json":
        attributes = values.setdefault("attributes", {})
        attributes = attributes.setdefault("ome", {"version": "0.5"}) if isinstance(attributes, dict) else None
    named = attributes.get("labels", []) if isinstance(attributes, dict) else None
    if not isinstance(named, list):
        raise InputError(f"{file} is damaged: it should list the label images; mend it, or give -o OUT")
    return named, attributes


def _read(file: Path) -> dict[str, Any] | None:
    """Return what a JSON file holds; None if there is none.

    Raises:
        InputError: it is damaged.
    """
    try:
        values = json.loads(read_regular(file, _MOST_BYTES))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot read {file}: {' '.join(str(error).split())[:100]}") from error
    if not isinstance(values, dict):
        raise InputError(f"cannot read {file}: it is no group's metadata")
    return values


def _write(file: Path, values: dict[str, Any]) -> None:
    with atomic_path(file) as temporary:
        temporary.write_text(json.dumps(values, indent=2), "utf-8")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time change the list, where the file system has locks."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
