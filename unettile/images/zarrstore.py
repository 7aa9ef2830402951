"""Zarr store: a directory of chunks from a stranger, read within bounds.

Only regular files below the directory are read, by whatever links; a chunk may hold no more than the array says.
"""

from __future__ import annotations

import math
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore

from unettile.images.declared import unpacked_size

_SLACK = 2**24  # bytes: codecs add headers, and round up
_METADATA_BYTES = 2**26
METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")
_CODECS = ("zstd", "gzip", "zlib", "bz2", "lzma", "blosc", "lz4")


@dataclass(frozen=True)
class Bounds:
    """What a chunk may unpack to.

    Args:
        codecs: that pack it.
        most: bytes; None for any number.
        index: bytes of the index of a shard, which is not packed; -1 where there is none.
    """

    codecs: tuple[str, ...] = ()
    most: int | None = None
    index: int = -1

    @classmethod
    def of(cls, array: Any) -> Bounds:
        """Return the bounds of the chunks of an array.

        Raises:
            ValueError: they are packed several times over, which nobody gains by, and which hides what they unpack to.
        """
        codecs = tuple(sorted(name for name in _codec_names(array) if name in _CODECS))
        if len(codecs) > 1:
            raise ValueError(f"its chunks are packed several times over: {', '.join(codecs)}")
        most = array.dtype.itemsize * math.prod(array.shards or array.chunks) + _SLACK
        if array.shards is None:
            return cls(codecs, most)
        return cls(codecs, most, 16 * math.prod(array.shards) // math.prod(array.chunks) + 4)  # offsets, a checksum

    def check(self, packed: bytes) -> None:
        """Refuse what unpacks to more.

        Raises:
            ValueError: it does.
        """
        if self.most is None or len(packed) == self.index:
            return
        if any(_exceeds(packed, codec, self.most) for codec in self.codecs):
            raise ValueError(f"it unpacks to more than the {self.most - _SLACK} bytes of a chunk")


def _exceeds(packed: bytes, codec: str, most: int) -> bool:
    with suppress(ValueError):  # damaged: the decoder says so
        return unpacked_size(packed, codec, most) > most
    return False


class ConfinedStore(LocalStore):
    """A store that reads regular files of bounded size below its directory, and nothing else."""

    def __init__(self, root: Path, *, read_only: bool = False) -> None:
        super().__init__(root, read_only=read_only)
        self._real = Path(root).resolve()
        self._bounds = Bounds()

    def bound(self, array: Any) -> None:
        """Let chunks unpack to no more than those of an array of this store do; errors as those of `Bounds.of`."""
        self._bounds = Bounds.of(array)

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        is_metadata, most = key.rsplit("/", 1)[-1] in METADATA, self._bounds.most
        self._check(self.root / key, _METADATA_BYTES if is_metadata else None if most is None else 2 * most)
        content = await super().get(key, prototype, byte_range)
        if content is not None and not is_metadata:
            self._bounds.check(content.to_bytes())
        return content

    def _check(self, path: Path, most: int | None) -> None:
        """Refuse what is no file of at most so many bytes in the directory; what is not there is no chunk."""
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return
        if stat.S_ISDIR(status.st_mode):
            return
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path.name} is no regular file")
        if not path.resolve().is_relative_to(self._real):
            raise ValueError(f"{path.name} is a link out of the directory")
        if most is not None and status.st_size > most:
            raise ValueError(f"{path.name} has {status.st_size} bytes, far more than a chunk needs")


def _codec_names(array: Any) -> list[str]:
    """Return the names of all codecs of an array, those within shards, too."""
    described = array.metadata.to_dict()
    found: list[str] = []
    todo: list[Any] = [described.get("codecs"), described.get("compressor"), described.get("filters")]
    while todo:
        item = todo.pop()
        if isinstance(item, list | tuple):
            todo += item
        elif isinstance(item, dict):
            name = str(item.get("name") or item.get("id") or "")
            found.append(name.removeprefix("numcodecs."))
            todo += item.values()
        elif hasattr(item, "get_config"):
            todo.append(item.get_config())
    return found
