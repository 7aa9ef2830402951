"""Package files: what lies in a bioimage.io package, a zip or a folder, read by name, bounded, and nowhere else."""

from __future__ import annotations

import stat
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from unettile.errors import InputError
from unettile.regular import read_regular

DESCRIPTIONS = ("rdf.yaml", "bioimageio.yaml", "model.yaml")
"""Names of the file that describes a package, one of which every package has."""

MOST_BYTES = 2**31 - 1
"""Of a file of a package."""

_MOST_ENTRIES = 4096
_MOST_RATIO = 1024  # of what an archive unpacks to, to its own size: test images of one value pack well
_MOST_UNPACKED = 2**33


@dataclass
class PackageFiles:
    """The files of a package.

    Args:
        path: of the zip, or of the folder.
        description: name of the file that describes it.
    """

    path: Path
    description: str
    _sizes: dict[str, int] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path) -> PackageFiles:
        """Find the files of a package, given as a zip, a folder, or the description in a folder.

        Raises:
            InputError: nothing describes it; or it has links, names that leave it, or unpacks to far more than it has.
        """
        if path.name in DESCRIPTIONS and path.is_file():
            return cls(path.parent, path.name)
        if path.is_dir():
            found = [name for name in DESCRIPTIONS if (path / name).is_file()]
            sizes = {}
        else:
            sizes = _listed(path)
            found = [name for name in DESCRIPTIONS if name in sizes]
        if not found:
            raise InputError(f"{path} is no bioimage.io package: need one of {', '.join(DESCRIPTIONS)} in it")
        return cls(path, found[0], sizes)

    def read(self, name: str, most: int = MOST_BYTES) -> bytes:
        """Return a file.

        Args:
            name: as the description has it.

        Raises:
            InputError: it is not there, lies elsewhere, is a link, or has more than so many bytes.
        """
        parts = _parts(name)
        if parts is None:
            raise InputError(
                f"{self.path} names the file {name[:80]!r}, which is none of its own: get the whole package"
            )
        try:
            if self.path.is_dir():
                return read_regular(self._place(parts), most)
            return self._unpacked("/".join(parts), most)
        except OSError as error:
            raise InputError(
                f"{self.path} has no file {name[:80]!r} that can be read: {error.strerror or error}"
            ) from error

    def _place(self, parts: tuple[str, ...]) -> Path:
        place = self.path
        for part in parts:
            place = place / part
            if place.is_symlink():
                raise InputError(
                    f"{self.path} has a link in the place of {'/'.join(parts)[:80]!r}: need the file itself"
                )
        return place

    def _unpacked(self, name: str, most: int) -> bytes:
        if name not in self._sizes:
            raise InputError(f"{self.path} has no file {name[:80]!r}: get the whole package")
        if self._sizes[name] > most:
            raise InputError(f"{self.path} holds {self._sizes[name]} bytes as {name[:80]!r}: need at most {most}")
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(name) as file:
                return file.read(most)
        except (zipfile.BadZipFile, zlib.error, ValueError, NotImplementedError, RuntimeError, EOFError) as error:
            raise InputError(f"{self.path} is damaged ({error}): take a fresh copy") from error


def _listed(path: Path) -> dict[str, int]:
    """Return the files of an archive and their sizes."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise InputError(f"{path} cannot be read as a package ({error}): take a fresh copy") from error
    size, unpacked = path.stat().st_size, sum(entry.file_size for entry in entries)
    if len(entries) > _MOST_ENTRIES or unpacked > min(_MOST_UNPACKED, _MOST_RATIO * size):
        raise InputError(
            f"{path} is an archive of {len(entries)} entries that unpack from {size} bytes to {unpacked}, as none is"
        )
    for entry in entries:
        if stat.S_ISLNK(entry.external_attr >> 16) or _parts(entry.filename) is None:
            raise InputError(f"{path} holds {entry.filename[:80]!r}, a link or a name that leaves it: no package does")
    return {entry.filename: entry.file_size for entry in entries if not entry.is_dir()}


def _parts(name: str) -> tuple[str, ...] | None:
    """Return the parts of a name; None if it leads elsewhere, or to the internet."""
    pure = PurePosixPath(name)
    bad = pure.is_absolute() or ".." in pure.parts or "\\" in name or ":" in name or "\0" in name
    return None if bad or not pure.parts else pure.parts
