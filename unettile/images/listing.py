"""Listing: the images of a folder, and what stands before the ending of a name."""

from __future__ import annotations

from pathlib import Path

from unettile.errors import InputError
from unettile.images.omezarr import is_zarr
from unettile.images.urls import named, url_of

IMAGE_ENDINGS = (
    ".tif", ".tiff", ".svs", ".ndpi", ".scn", ".qptiff", ".btf", ".tf8", ".bif", ".svslide", ".mrxs",
    ".czi", ".lif", ".nd2", ".png", ".jpg", ".jpeg",
)  # fmt: skip
"""File name endings that `list_images` takes for images; a file that is named by itself may have any ending."""


def list_images(directory: Path) -> list[Path]:
    """Return the images of a directory (not of those below it), by name; hidden files are passed over.

    Raises:
        InputError: it is no directory, cannot be read, or holds no image.
    """
    images = find_images(directory)
    if not images:
        count = len(_entries(directory))
        raise InputError(
            f"{directory} holds no images: none of its {count} entries ends with {' '.join(IMAGE_ENDINGS)} .zarr"
        )
    return images


def find_images(directory: Path) -> list[Path]:
    """Return the images of a directory, as `list_images`, or none.

    Raises:
        InputError: it is no directory, or cannot be read.
    """
    return [path for path in _entries(directory) if not path.name.startswith(".") and _has_ending(path)]


def is_folder(path: Path) -> bool:
    """Whether a path is a directory that may hold images, and not itself an image, as a Zarr directory is."""
    return path.is_dir() and not is_zarr(path)


def image_stem(path: Path) -> str:
    """Return a file's name without its ending; `.ome.tif` counts as one ending.

    >>> image_stem(Path("a/b.c.ome.tif"))
    'b.c'
    """
    return path.stem.removesuffix(".ome")


def _entries(directory: Path) -> list[Path]:
    if url_of(directory) is not None:
        raise InputError(f"{named(directory)} is on a server, where no folder can be listed: download it")
    try:
        return sorted(directory.iterdir())
    except OSError as error:
        raise InputError(f"cannot list {directory}: {(error.strerror or str(error)).lower()}") from error


def _has_ending(path: Path) -> bool:
    """Whether a name is an image's: a Zarr directory, or a known ending of what is no directory.

    A link that leads nowhere is one, too: whoever reads it will say so.
    """
    ending = path.suffix.lower()
    return is_zarr(path) if ending == ".zarr" else ending in IMAGE_ENDINGS and not path.is_dir()
