"""Images on a server: which reader a URL is for."""

from __future__ import annotations

from pathlib import Path

from unettile.errors import InputError
from unettile.images.omezarr import ZarrSlide, is_remote_zarr
from unettile.images.remote import RemoteFile
from unettile.images.tiff import TiffSlide
from unettile.images.tiffimages import Unstitched
from unettile.images.view import View

TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def open_remote(path: Path, url: str, view: View, as_stored: bool) -> TiffSlide | ZarrSlide:
    """Open what is at a URL: an OME-Zarr, or else a TIFF.

    Raises:
        InputError: it is neither, or cannot be read.
        Incomplete: the connection is lost.
    """
    if is_remote_zarr(url):
        return ZarrSlide(path, view, as_stored)
    with RemoteFile(url) as file:
        start = file.pread(8, 0)
    if not start.startswith(TIFF_SIGNATURES):
        raise InputError(f"cannot read {url}: of a server, TIFFs and OME-Zarrs are read; download other images")
    try:
        return TiffSlide(path, view, as_stored)
    except Unstitched as error:
        raise InputError(f"cannot read {url}: its tiles overlap, which OpenSlide alone reads; download it") from error
