"""Run directory: where a run keeps what it has done, so that any process can go on with it.

plan.json         frozen; whoever comes first writes it, everyone else must agree
mask.zarr/        Zarr v3, one chunk a block: no two writers share a file
done/000012.json  marker of a finished block: its plan, index and the SHA-256 of its pixels; written after the block
parts/000013      the finished tiles of a block in work: a line of JSON, then its pixels

Nothing in it is believed: what does not fit its checksum is computed again.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.errors import ContainsArrayError
from zarr.storage import MemoryStore

from unettile.atomic import atomic_path, remove_all_leftovers
from unettile.box import Box
from unettile.errors import Incomplete, InputError
from unettile.images.zarrstore import ConfinedStore
from unettile.regular import read_regular
from unettile.segmentation.plan import Plan
from unettile.segmentation.run.markers import Marker, PartHeader, digest
from unettile.segmentation.run.planfile import (
    NAME,
    check_agrees,
    is_run_directory,
    is_unborn,
    lacks_plan,
    read_plan,
    reason,
    remove_run,
    write_first,
)
from unettile.tiling import Block
from unettile.typed import Unfit, from_json

T = TypeVar("T")

_HEADER_BYTES = 2**12


class RunDirectory:
    """A run directory that exists and agrees with its plan; make one with `join` or `open`."""

    def __init__(self, path: Path, plan: Plan) -> None:
        self.path = path
        self.plan = plan
        self._id = plan.id
        self._array = self._open_array()

    @classmethod
    def join(cls, path: Path, plan: Plan, discard: bool = False) -> RunDirectory:
        """Create a run directory, or go on with one that has the same plan.

        Args:
            discard: a run directory with another plan, or a damaged one, is removed.

        Raises:
            InputError: it has another plan, is something else, or cannot be written.
        """
        try:
            if path.exists() and not is_run_directory(path) and not is_unborn(path):
                raise InputError(f"{path} exists and is no run directory: choose another output, or remove it")
            path.mkdir(exist_ok=True)
            for name in ("done", "parts"):
                (path / name).mkdir(exist_ok=True)
                remove_all_leftovers(path / name)
            remove_all_leftovers(path)
            write_first(path / NAME, plan.to_json())
        except OSError as error:
            raise InputError(f"cannot write {path}: {reason(error)}; choose another output") from error
        try:
            check_agrees(path, plan)
        except InputError:
            if not discard:
                raise
            remove_run(path)
            return cls.join(path, plan)
        return cls(path, plan)

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """Open a run directory to stitch it.

        Raises:
            Incomplete: its plan was not written yet, or is lost.
            InputError: no run directory, or a damaged one.
        """
        if lacks_plan(path):
            raise Incomplete(f"{path} has no plan.json: give the command of any of its shards, which writes it")
        if not is_run_directory(path):
            raise InputError(f"{path} is no run directory: it has no plan.json; give the OUT of `segment --shard`")
        return cls(path, read_plan(path))

    def write_block(self, block: Block, pixels: NDArray[np.uint8]) -> None:
        """Store a block, (P, h, w), and then its marker, each safe on disk before the next step.

        Raises:
            InputError: the disk is full, or no longer writable.
        """
        try:
            self._array[self._region(block.box)] = pixels
            self._sync_chunk(block)
        except OSError as error:
            raise InputError(
                f"cannot write block {block.index} in {self.path}: {reason(error)}; what is finished is kept"
            ) from error
        with atomic_path(self._marker(block)) as temporary:
            temporary.write_text(Marker.of(self._id, block.index, pixels).to_json(), "utf-8")
        self._part(block).unlink(missing_ok=True)

    def write_part(self, block: Block, pixels: NDArray[np.uint8], tiles: int) -> None:
        """Store a block, (P, h, w), of which the first `tiles` tiles are computed.

        Raises:
            InputError: the disk is full, or no longer writable.
        """
        header = PartHeader(Marker.of(self._id, block.index, pixels), tiles)
        with atomic_path(self._part(block)) as temporary:
            temporary.write_bytes(header.to_json().encode() + b"\n" + pixels.tobytes())

    def read_part(self, block: Block) -> tuple[NDArray[np.uint8], int] | None:
        """Return what `write_part` stored of a block, the pixels and the number of tiles; None if there is nothing."""
        shape = self.plan.planes, *block.box.shape
        try:
            content = read_regular(self._part(block), _HEADER_BYTES + math.prod(shape))
        except OSError:
            return None
        text, _, pixel_bytes = content.partition(b"\n")
        header = _read(text, PartHeader)
        if header is None or not header.marker.is_of(self._id, block.index) or len(pixel_bytes) != math.prod(shape):
            return None
        pixels = np.frombuffer(pixel_bytes, np.uint8).reshape(shape).copy()
        whole = header.tiles <= sum(1 for _ in self.plan.tiles.tiles_in(block.box))
        return (pixels, header.tiles) if whole and header.marker.sha256 == digest(pixels) else None

    def is_done(self, block: Block) -> bool:
        """Whether the block is there, of this plan, and as it was written."""
        return self.load(block) is not None

    def unmarked(self) -> list[int]:
        """Return the indices of the blocks that have no marker of this plan; no pixel is read."""
        return [block.index for block in self.plan.blocks if self._digest_of(block) is None]

    def load(self, block: Block) -> NDArray[np.uint8] | None:
        """Return the pixels of a finished block, (P, h, w), checked against its marker.

        Returns:
            None if it is not finished, of another plan, or damaged.
        """
        expected = self._digest_of(block)
        if expected is None:
            return None
        try:
            pixels = np.asarray(self._array[self._region(block.box)], np.uint8)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError):  # a damaged chunk fails to decode
            return None
        return pixels if digest(pixels) == expected else None

    def remove(self) -> None:
        remove_run(self.path)

    def remove_if_empty(self) -> None:
        """Remove the directory unless something of a block is in it."""
        if not any(any((self.path / name).glob("[!.]*")) for name in ("done", "parts")):
            self.remove()

    def _digest_of(self, block: Block) -> str | None:
        """Return what the marker of a block says of its pixels."""
        try:
            marker = _read(read_regular(self._marker(block), _HEADER_BYTES), Marker)
        except OSError:
            return None
        return marker.sha256 if marker is not None and marker.is_of(self._id, block.index) else None

    def _sync_chunk(self, block: Block) -> None:
        row, column = divmod(block.index, self.plan.blocks.columns)
        chunk = self.path / "mask.zarr" / self._array.metadata.encode_chunk_key((0, row, column))
        for path in (chunk, chunk.parent):
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def _marker(self, block: Block) -> Path:
        return self.path / "done" / f"{block.name}.json"

    def _part(self, block: Block) -> Path:
        return self.path / "parts" / block.name

    def _region(self, box: Box) -> tuple[slice, ...]:
        return slice(None), *box.slices

    def _open_array(self) -> zarr.Array[Any]:
        """Open the array, or create it; other metadata are written anew: checksums tell which chunks fit."""
        store = self.path / "mask.zarr"
        try:
            try:
                return self._create_array(ConfinedStore(store))
            except OSError:
                raise
            except ContainsArrayError:
                array = self._existing_array(store)
                if array is not None:
                    return array
            except Exception:  # whatever zarr makes of foreign JSON
                pass
            (store / "zarr.json").unlink(missing_ok=True)
            return self._create_array(ConfinedStore(store))
        except OSError as error:
            raise InputError(f"cannot write {store}: {reason(error)}") from error

    def _existing_array(self, store: Path) -> zarr.Array[Any] | None:
        """Return the array that is there if its metadata are ours."""
        try:
            array = zarr.open_array(ConfinedStore(store), mode="r+")
            if array.metadata != self._create_array(MemoryStore()).metadata:
                return None
        except OSError:
            raise
        except Exception:  # whatever zarr makes of foreign JSON
            return None
        _bound(array)
        return array.with_config({"write_empty_chunks": True})

    def _create_array(self, store: ConfinedStore | MemoryStore) -> zarr.Array[Any]:
        array = zarr.create_array(
            store,
            shape=(self.plan.planes, *self.plan.shape),
            chunks=self._chunks,
            dtype="uint8",
            config={"write_empty_chunks": True},  # a chunk that is absent was not written, whatever it would hold
        )
        _bound(array)
        return array

    @property
    def _chunks(self) -> tuple[int, int, int]:
        edge = self.plan.blocks.edge
        return self.plan.planes, min(edge, self.plan.shape[0]), min(edge, self.plan.shape[1])


def marked(path: Path) -> frozenset[int]:
    """Return the indices of the blocks that have a marker, of whichever plan; none of a directory that is not there."""
    try:
        names = [entry.name for entry in os.scandir(path / "done")]
    except FileNotFoundError:
        return frozenset()
    return frozenset(int(name.removesuffix(".json")) for name in names if name.removesuffix(".json").isdecimal())


def _bound(array: zarr.Array[Any]) -> None:
    """Let no chunk unpack to more than a block."""
    if isinstance(array.store, ConfinedStore):
        array.store.bound(array)


def _read(text: bytes, kind: type[T]) -> T | None:
    """Return a marker; None if it is damaged."""
    try:
        return from_json(text, kind)
    except Unfit:
        return None
