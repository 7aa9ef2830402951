"""Remote store: the chunks of a Zarr on a server, within the same bounds as those of a directory; it is only read."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import NoReturn

from zarr.abc.store import ByteRequest, OffsetByteRequest, RangeByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype

from unettile.errors import InputError
from unettile.images.remote import is_forbidden, read_part
from unettile.images.zarrstore import METADATA, Bounds


class RemoteStore(Store):
    """A store of a URL; requests are made in threads, and again where they fail.

    Args:
        url: of the Zarr.
    """

    supports_writes = False
    supports_deletes = False
    supports_listing = False

    def __init__(self, url: str) -> None:
        super().__init__(read_only=True)
        self.url = url
        self._bounds = Bounds()
        self._nothing: tuple[str, ...] = ()

    def bound(self, array: object) -> None:
        """Let chunks unpack to no more than those of an array do; errors as those of `Bounds.of`."""
        self._bounds = Bounds.of(array)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemoteStore) and other.url == self.url

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """Return what is stored under a key, or a part of it; None where nothing is.

        Raises:
            InputError, Incomplete: the server refuses, or the connection is lost.
            ValueError: a chunk that unpacks to more than an array says.
        """
        is_metadata = key.rsplit("/", 1)[-1] in METADATA
        start: int | None = None
        stop: int | None = None
        if isinstance(byte_range, RangeByteRequest):
            start, stop = byte_range.start, byte_range.end
        elif isinstance(byte_range, OffsetByteRequest):
            start = byte_range.offset
        elif byte_range is not None:
            start = -byte_range.suffix
        try:
            content = await asyncio.to_thread(read_part, f"{self.url}/{key}", start, stop)
        except FileNotFoundError:
            return None
        except InputError as error:
            if is_metadata and is_forbidden(error):
                return None
            raise
        if not is_metadata:
            self._bounds.check(content)
        return prototype.buffer.from_bytes(content)

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        return list(await asyncio.gather(*(self.get(key, prototype, part) for key, part in key_ranges)))

    async def exists(self, key: str) -> bool:
        try:
            await asyncio.to_thread(read_part, f"{self.url}/{key}", None, None)
        except FileNotFoundError:
            return False
        return True

    async def set(self, key: str, value: Buffer) -> NoReturn:
        raise NotImplementedError("nothing is written to a server")

    async def delete(self, key: str) -> NoReturn:
        raise NotImplementedError("nothing is removed from a server")

    async def list(self) -> AsyncIterator[str]:
        """Yield nothing: servers do not list what they have."""
        for key in self._nothing:
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Yield nothing."""
        for key in self._nothing:
            yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Yield nothing."""
        for key in self._nothing:
            yield key
