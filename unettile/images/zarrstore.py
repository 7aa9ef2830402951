"""Zarr store: a directory of chunks from a stranger, read within bounds.

Only regular files below the directory are read, by whatever links; a chunk may hold no more than the array says.
"""

from __future__ import annotations

import math
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore

from unettile.images.declared import unpacked_size

_SLACK = 2**24  # bytes: codecs add headers, and round up
_METADATA_BYTES = 2**26
_METADATA = ("zarr.json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")
_CODECS = ("zstd", "gzip", "zlib", "bz2", "lzma", "blosc", "lz4")


class ConfinedStore(LocalStore):
    """A store that reads regular files of bounded size below its directory, and nothing else."""

    def __init__(self, root: Path, *, read_only: bool = False) -> None:
        super().__init__(root, read_only=read_only)
        self._real = Path(root).resolve()
        self._codecs: tuple[str, ...] = ()
        self._most: int | None = None
        self._index = -1  # bytes of the index of a shard, which is not packed

    def bound(self, array: Any) -> None:
        """Let chunks unpack to no more than those of an array do.

        Args:
            array: a Zarr array of this store.

        Raises:
            ValueError: they are packed several times over, which nobody gains by, and which hides what they unpack to.
        """
        self._codecs = tuple(sorted(name for name in _codec_names(array) if name in _CODECS))
        if len(self._codecs) > 1:
            raise ValueError(f"its chunks are packed several times over: {', '.join(self._codecs)}")
        self._most = array.dtype.itemsize * math.prod(array.shards or array.chunks) + _SLACK
        if array.shards is not None:
            self._index = 16 * math.prod(array.shards) // math.prod(array.chunks) + 4  # offsets, lengths, a checksum

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        is_metadata = key.rsplit("/", 1)[-1] in _METADATA
        self._check(self.root / key, _METADATA_BYTES if is_metadata else None if self._most is None else 2 * self._most)
        content = await super().get(key, prototype, byte_range)
        if content is not None and not is_metadata and self._most is not None:
            packed = content.to_bytes()
            if len(packed) != self._index and any(self._exceeds(packed, codec, self._most) for codec in self._codecs):
                raise ValueError(f"it unpacks to more than the {self._most - _SLACK} bytes of a chunk")
        return content

    @staticmethod
    def _exceeds(packed: bytes, codec: str, most: int) -> bool:
        with suppress(ValueError):  # damaged: the decoder says so
            return unpacked_size(packed, codec, most) > most
        return False

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
