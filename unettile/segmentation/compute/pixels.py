"""Pixels of a run: what is read of its image, mirrored at the edges, and checked to be what was planned."""

from __future__ import annotations

import errno
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from unettile.box import Box
from unettile.errors import InputError
from unettile.images.fingerprint import Fingerprint
from unettile.images.mirror import read_mirrored, reflect_indices, shown_box
from unettile.images.normalize import check_finite
from unettile.images.remote import version_of
from unettile.images.slide import Slide
from unettile.images.urls import url_of
from unettile.images.zoomed import base_of
from unettile.segmentation.plan import Plan

_HICCUPS = (errno.ESTALE, errno.EIO, errno.ETIMEDOUT)
"""Errors of a network file system that may be gone when the file is opened again."""


class PixelReader:
    """Reads regions of a run's image; from one thread at a time.

    A read that fails as network file systems do is tried once more, on the file opened afresh.

    Args:
        slide: to read.
        plan: of the run.
        reopen: opens the same slide again; without it nothing is tried twice.
    """

    def __init__(self, slide: Slide, plan: Plan, reopen: Callable[[], Slide] | None = None) -> None:
        self._slide, self._plan, self._reopen = slide, plan, reopen
        self._seen: object = None  # inode, bytes and time of the file whose fingerprint fits
        self._url = url_of(slide.path)
        if self._url is not None:  # its fingerprint was taken just now, and costs many requests
            self._seen = self._stamp()

    def read(self, box: Box) -> NDArray[np.generic]:
        """Return a region that may lie past the image, (h, w, C) in the slide's own type.

        Raises:
            InputError: the region cannot be read, the file is no longer what it was when the run was planned, or a
                pixel is not a finite number, named in the image's coordinates.
        """
        try:
            pixels = read_mirrored(self._slide, box)
        except (InputError, OSError) as error:
            if self._reopen is None or not _is_hiccup(error):
                raise
            self._slide.close()
            self._slide = self._reopen()
            pixels = read_mirrored(self._slide, box)
        self._check_unchanged()
        if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
            y, x, _ = np.argwhere(~np.isfinite(pixels))[0].tolist()
            height, width = self._slide.shape
            row = int(reflect_indices(box.y0 + y, box.y0 + y + 1, height)[0])
            column = int(reflect_indices(box.x0 + x, box.x0 + x + 1, width)[0])
            check_finite(pixels[y : y + 1, x : x + 1], Box(row, column, row + 1, column + 1), self._slide.path)
        return pixels

    def read_shown(self, box: Box) -> tuple[Box, NDArray[np.generic]]:
        """Return the part of the image that a region shows, mirrored or not, and its pixels; errors as in `read`."""
        shown = shown_box(box, self._plan.shape)
        return shown, self.read(shown)

    def known(self, box: Box) -> NDArray[np.bool_] | None:
        """Return which pixels (h, w) of a part of the image hold data; None if all of it do."""
        return self._slide.known(box)

    @property
    def can_reopen(self) -> bool:
        return self._reopen is not None

    def another(self) -> PixelReader:
        """Return a reader of the same slide, opened again, for another thread.

        Raises:
            InputError: it cannot be opened again.
        """
        assert self._reopen is not None
        return PixelReader(self._reopen(), self._plan, self._reopen)

    def close(self) -> None:
        self._slide.close()

    def _check_unchanged(self) -> None:
        """Refuse pixels of a file that is gone, or another than when the run was planned: no block is made of them."""
        if not self._slide.files:  # an array is its owner's to keep
            return
        path = self._slide.path
        try:
            seen = self._stamp()
        except OSError as error:
            raise InputError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error
        if seen == self._seen:
            return
        if Fingerprint.of(base_of(self._slide)) != self._plan.image:
            raise InputError(
                f"{path} was changed while it was read: put it back as it was and give the same command again, or give"
                " --overwrite to start afresh"
            )
        self._seen = seen

    def _stamp(self) -> object:
        """Return what changes where the file is replaced; of a Zarr on a server nothing does."""
        if self._url is not None:
            return "" if self._slide.reader == "zarr" else version_of(self._url)
        status = self._slide.path.stat()
        return status.st_ino, status.st_size, status.st_mtime_ns


def _is_hiccup(error: BaseException | None) -> bool:
    """Whether an error, or what it came from, is one that may be gone at the next try."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _HICCUPS:
            return True
        error = error.__cause__
    return False
