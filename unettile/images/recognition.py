"""Recognition: which reader a file is for, by its content; and what to say of a file that none is for."""

from __future__ import annotations

from pathlib import Path

from unettile.errors import InputError
from unettile.images.listing import IMAGE_ENDINGS
from unettile.images.microscopes import OTHERS, form_of, open_other, open_scenes
from unettile.images.omezarr import ZarrSlide, is_zarr
from unettile.images.plain import JPEG_SIGNATURE, PlainSlide, open_jpeg
from unettile.images.png import PNG_SIGNATURE, open_png
from unettile.images.remoteslide import TIFF_SIGNATURES, open_remote
from unettile.images.scenes import SceneSlide
from unettile.images.tiff import TiffSlide
from unettile.images.tiffimages import Unstitched
from unettile.images.urls import named, url_of
from unettile.images.viaopenslide import INSTALL, OpenSlideSlide, knows, load_openslide
from unettile.images.view import View

_PREVIEWS = ".mrxs"  # such a file is a JPEG, but only a preview; the slide is in the folder of its name


def open_recognised(
    path: Path, view: View, as_stored: bool
) -> TiffSlide | ZarrSlide | PlainSlide | SceneSlide | OpenSlideSlide:
    """Open a file, a Zarr directory, or what is at a URL.

    Args:
        as_stored: give the stored numbers, not what a viewer shows.

    Raises:
        InputError: it does not exist, cannot be read, is damaged, or of no format that is read.
        NoSuchImage: it does not hold what the view asks for.
    """
    if (url := url_of(path)) is not None:
        return open_remote(named(path), url, view, as_stored)
    try:
        if is_zarr(path):
            return ZarrSlide(path, view, as_stored)
        if path.is_dir():
            raise InputError(f"cannot read {path}: it is a directory; need an image file, or a Zarr directory")
        if path.exists() and not path.is_file():
            raise InputError(f"cannot read {path}: it is a pipe or a device; need an image file")
        if path.suffix.lower() == _PREVIEWS:
            return OpenSlideSlide(path, view)
        with path.open("rb") as file:
            start = file.read(8)
        if start.startswith(TIFF_SIGNATURES):
            try:
                return TiffSlide(path, view, as_stored)
            except Unstitched:
                return OpenSlideSlide(path, view)
        if start.startswith(PNG_SIGNATURE):
            return open_png(path, view, as_stored)
        if start.startswith(JPEG_SIGNATURE):
            return open_jpeg(path, view)
        if (form := form_of(start)) is not None:
            return open_scenes(path, form, view)
        if start and knows(path):
            return OpenSlideSlide(path, view)
        if start and path.suffix.lower() not in IMAGE_ENDINGS and (other := open_other(path, view)) is not None:
            return other
    except FileNotFoundError as error:
        raise InputError(f"cannot read {path}: no such file") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error
    if not start:
        raise InputError(f"cannot read {path}: it is empty; need an image file")
    others = "OpenSlide does not know it either" if load_openslide() else f"for other slides, {INSTALL}"
    others += f"; for files of other microscopes, {OTHERS}"
    raise InputError(
        f"cannot read {path}: need a TIFF, OME-Zarr, PNG or JPEG image; its content is none of these (it begins with"
        f" {start[:4]!r}); {others}"
    )
