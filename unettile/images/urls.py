"""URLs: paths that mean what is on a server."""

from __future__ import annotations

import re
from pathlib import Path, PosixPath

from unettile.errors import UsageError

_URL = re.compile(r"(https?|s3):/+(.+)", re.DOTALL)


class UrlPath(PosixPath):
    """A path that is a URL, and is shown as one."""

    def __str__(self) -> str:
        return url_of(super().__str__()) or super().__str__()


def named(path: Path) -> Path:
    """Return a path that is shown as the URL that it is; any other as it is."""
    return UrlPath(str(path)) if url_of(path) is not None else path


def url_of(path: Path | str) -> str | None:
    """Return the URL that a path is; None if it is none. A path has a single slash where a URL has two.

    >>> url_of(Path("https://example.org/a.tif")), url_of(Path("a.tif"))
    ('https://example.org/a.tif', None)
    """
    text = path if isinstance(path, str) else PosixPath.__str__(path)
    found = _URL.fullmatch(text)
    return None if found is None else f"{found[1]}://{found[2]}"


def refuse_writing(path: Path) -> None:
    """Refuse a name that is a URL for something that is to be written.

    Raises:
        UsageError: it is one.
    """
    if url_of(path) is not None:
        raise UsageError(f"cannot write {named(path)}: nothing is written to a server; give a name here")
