"""Remote: files on a server, https or s3, read by range; nothing is fetched but for a path that is a URL.

A request that fails is made again, after a pause; where the connection stays lost, the work ends as incomplete.
"""

from __future__ import annotations

import io
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import cache
from pathlib import Path
from threading import Lock
from typing import IO, Any, TypeVar, cast

from unettile.errors import Incomplete, InputError
from unettile.images.urls import url_of

T = TypeVar("T")

INSTALL = "pip install 'unettile[remote]'"

PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds before a request that failed is made again."""

BLOCK_BYTES = 2**18
BLOCKS = 64
"""Blocks of a file that are kept: those of its header are asked for again and again."""

_LASTING = (400, 401, 403, 405, 501)  # what a server says that will not change


class RemoteFile(io.RawIOBase):
    """A file on a server, of which only the blocks are fetched that are read; several threads may read it.

    Raises:
        InputError: it is not there, may not be read, or its server gives no parts of files.
        Incomplete: the connection is lost.
    """

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url, self.name = url, url
        self._system = file_system(url)
        self.size = size_of(url)
        if self.size < 0:
            raise InputError(f"cannot read {url}: no such file")
        self._place = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._lock = Lock()

    def pread(self, count: int, offset: int) -> bytes:
        """Return up to `count` bytes from a place; fewer at the end of the file."""
        stop = min(offset + count, self.size)
        first, last = offset // BLOCK_BYTES, -(-stop // BLOCK_BYTES)
        if offset >= stop:
            return b""
        if last - first > BLOCKS // 2:
            return read_range(self.url, offset, stop)
        with self._lock:
            blocks = {number: self._blocks[number] for number in range(first, last) if number in self._blocks}
        missing = [number for number in range(first, last) if number not in blocks]
        if missing:
            start = missing[0] * BLOCK_BYTES
            data = read_range(self.url, start, min((missing[-1] + 1) * BLOCK_BYTES, self.size))
            for number in range(missing[0], missing[-1] + 1):
                blocks[number] = data[number * BLOCK_BYTES - start :][:BLOCK_BYTES]
        with self._lock:
            for number in range(first, last):
                self._blocks[number] = blocks[number]
                self._blocks.move_to_end(number)
            while len(self._blocks) > BLOCKS:
                self._blocks.popitem(last=False)
        whole = b"".join(blocks[number] for number in range(first, last))
        return whole[offset - first * BLOCK_BYTES : stop - first * BLOCK_BYTES]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self.size}[whence]
        return self._place

    def readinto(self, buffer: Any) -> int:
        data = self.pread(len(buffer), self._place)
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)


def open_binary(path: Path) -> IO[bytes]:
    """Open a file, here or on a server, for reading without a buffer.

    Raises:
        OSError: it cannot be read.
        InputError, Incomplete: as `RemoteFile`.
    """
    url = url_of(path)
    return path.open("rb", buffering=0) if url is None else cast("IO[bytes]", RemoteFile(url))


def file_system(url: str) -> Any:
    """Return fsspec's file system of a URL; of s3 with the environment's credentials, anonymously where it has none.

    Raises:
        InputError: a library is not installed.
    """
    scheme, library = url.partition(":")[0], "fsspec"
    try:
        import fsspec

        if scheme != "s3":
            return fsspec.filesystem("https")
        library = "s3fs"
        return fsspec.filesystem("s3", anon=_is_anonymous())
    except ImportError:
        raise InputError(f"cannot read {url}: need {library} for {scheme}; install it with {INSTALL}") from None


def size_of(url: str) -> int:
    """Return how many bytes a file has; -1 if there is none.

    Raises:
        InputError: it may not be read, or its size is not told.
        Incomplete: the connection is lost.
    """
    anew = {"refresh": True} if url.startswith("s3:") else {}
    try:
        size = attempt(url, lambda: file_system(url).info(url, **anew)["size"])
    except FileNotFoundError:
        return -1
    if size is None:
        raise InputError(f"cannot read {url}: its server does not tell its size; download it")
    return int(size)


def version_of(url: str) -> str:
    """Return what changes where a file on a server is replaced: its size, ETag and time, as far as they are told.

    Raises:
        FileNotFoundError: there is none.
        InputError, Incomplete: as `RemoteFile`.
    """
    anew = {"refresh": True} if url.startswith("s3:") else {}
    info = attempt(url, lambda: file_system(url).info(url, **anew))
    return " ".join(str(info.get(key, "")) for key in ("size", "ETag", "LastModified", "Last-Modified"))


def read_range(url: str, start: int, stop: int) -> bytes:
    """Return bytes start … stop - 1 of a file; errors as those of `RemoteFile`.

    Raises:
        FileNotFoundError: there is none.
    """
    need = stop - start

    def read() -> bytes:
        if url.startswith("s3:"):
            return bytes(file_system(url).cat_file(url, start=start, end=stop))
        with file_system(url).open(url, "rb", block_size=max(need, 1), cache_type="none", size=stop) as file:
            if not file.seekable():
                raise InputError(f"cannot read {url}: its server gives no parts of files; download it")
            file.seek(start)
            data: bytes = file.read(need)
        return data

    def checked() -> bytes:
        data = read()
        if len(data) != need:
            raise ConnectionError(f"{len(data)} of {need} bytes came")
        return data

    return attempt(url, checked)


def read_part(url: str, start: int | None, stop: int | None) -> bytes:
    """Return a part of a file of which not much is left out; a negative `start` counts from its end.

    Raises:
        FileNotFoundError: there is none.
        InputError, Incomplete: as `RemoteFile`.
    """
    return attempt(url, lambda: bytes(file_system(url).cat_file(url, start=start, end=stop)))


def attempt(url: str, call: Callable[[], T]) -> T:
    """Return what a request gives, made again where the connection fails.

    Raises:
        FileNotFoundError: nothing is there.
        InputError: the server refuses.
        Incomplete: it failed every time.
    """
    for pause in (*PAUSES, None):
        try:
            return call()
        except Exception as error:
            refuse_lasting(url, error)
            if pause is None:
                raise lost(url, error) from error
        time.sleep(pause)
    raise AssertionError


def refuse_lasting(url: str, error: Exception) -> None:
    """Raise what no further attempt would mend.

    Raises:
        FileNotFoundError, InputError, Incomplete: it is one.
    """
    cause = error.__cause__
    if isinstance(error, FileNotFoundError) and isinstance(cause, Exception) and not url.startswith("s3:"):
        error = error if getattr(cause, "status", None) in (404, 410) else cause  # fsspec says it of any failure
    if isinstance(error, FileNotFoundError | InputError | Incomplete):
        raise error
    status = getattr(error, "status", None)
    if isinstance(error, PermissionError) or status in _LASTING:
        raise InputError(f"cannot read {url}: the server refuses it ({said(error)})") from error
    if isinstance(error, ValueError) and "range requests" in str(error):
        raise InputError(f"cannot read {url}: its server gives no parts of files; download it") from error


def size_if_any(url: str) -> int:
    """Return how many bytes one of several files has; -1 if there is none, or if the server forbids it.

    Raises:
        InputError, Incomplete: as `size_of`.
    """
    try:
        return size_of(url)
    except InputError as error:
        if is_forbidden(error):
            return -1
        raise


def is_forbidden(error: InputError) -> bool:
    """Whether a server refused to give something, as some do where nothing is."""
    cause = error.__cause__
    return isinstance(cause, PermissionError) or getattr(cause, "status", None) == 403


def lost(url: str, error: Exception) -> Incomplete:
    """Return what to raise where no attempt succeeded."""
    return Incomplete(f"the connection to {url} was lost ({said(error)}): give the same command again to go on")


def said(error: Exception) -> str:
    """Return an error in a few words."""
    return " ".join(str(error).split())[:120] or type(error).__name__


@cache
def _is_anonymous() -> bool:
    """Whether the environment has no credentials for s3."""
    import botocore.session

    return botocore.session.get_session().get_credentials() is None
