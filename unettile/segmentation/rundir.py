"""Run directory: where a run keeps what it has done, so that any process can go on with it.

plan.json         frozen; whoever comes first writes it, everyone else must agree
mask.zarr/        Zarr v3, one chunk a block: no two writers share a file
done/000012.json  marker of a finished block: plan id and SHA-256 of its pixels; written after the block
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.errors import ContainsArrayError

from unettile.atomic import REFUSALS, atomic_path
from unettile.box import Box
from unettile.errors import Incomplete, InputError
from unettile.segmentation.plan import Plan
from unettile.tiling import Block

CACHE_BYTES = 2**27  # decoded blocks kept while the output is written in bands that are lower than a block


class RunDirectory:
    """A run directory that exists and agrees with its plan; make one with `join` or `open`."""

    def __init__(self, path: Path, plan: Plan) -> None:
        self.path = path
        self.plan = plan
        self._array = self._open_array()
        self._cache: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()

    @classmethod
    def join(cls, path: Path, plan: Plan) -> RunDirectory:
        """Create a run directory, or go on with one that has the same plan.

        Raises:
            InputError: it has another plan, is something else, or cannot be written.
        """
        try:
            if path.exists() and not is_run_directory(path) and not _is_unborn(path):
                raise InputError(f"{path} exists and is no run directory: choose another output, or remove it")
            path.mkdir(exist_ok=True)
            (path / "done").mkdir(exist_ok=True)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise InputError(f"cannot write {path}: {reason}; choose another output") from error
        _write_first(path / "plan.json", plan.to_json())
        earlier = _read_plan(path)
        differences = plan.differences(earlier)
        if differences:
            raise InputError(
                f"{path} holds an unfinished run that differs in {', '.join(differences)}: give the same options "
                "to go on, or remove that directory to start afresh"
            )
        return cls(path, earlier)

    @classmethod
    def open(cls, path: Path) -> RunDirectory:
        """Open a run directory to stitch it.

        Raises:
            InputError: no run directory, or a damaged one.
        """
        if not is_run_directory(path):
            raise InputError(f"{path} is no run directory: it has no plan.json; give the OUT of `segment --shard`")
        return cls(path, _read_plan(path))

    def write_block(self, block: Block, pixels: NDArray[np.uint8]) -> None:
        """Store a block, (h, w) or (K, h, w), and then its marker, each safe on disk before the next step.

        Raises:
            InputError: the disk is full, or no longer writable.
        """
        try:
            self._array[self._region(block.box)] = pixels
            self._sync_chunk(block)
        except OSError as error:
            reason = REFUSALS.get(error.errno or 0, (error.strerror or str(error)).lower())
            raise InputError(
                f"cannot write block {block.index} in {self.path}: {reason}; what is finished is kept"
            ) from error
        marker = {"plan": self.plan.id, "sha256": _digest(pixels)}
        with atomic_path(self._marker(block)) as temporary:
            temporary.write_text(json.dumps(marker), "utf-8")

    def read_block(self, block: Block) -> NDArray[np.uint8]:
        """Return the pixels of a finished block, checked against its marker.

        Raises:
            Incomplete: it is not finished, or damaged.
        """
        if block.index in self._cache:
            self._cache.move_to_end(block.index)
            return self._cache[block.index]
        pixels = self._load(block)
        if pixels is None:
            raise Incomplete(f"block {block.index} of {self.path} is missing or damaged: run its shard again")
        self._cache[block.index] = pixels
        while sum(kept.nbytes for kept in self._cache.values()) > CACHE_BYTES and len(self._cache) > 1:
            self._cache.popitem(last=False)
        return pixels

    def is_done(self, block: Block) -> bool:
        """Whether the block is there, of this plan, and as it was written."""
        return self._load(block) is not None

    def read_box(self, box: Box) -> NDArray[np.uint8]:
        """Return any box of the image, (h, w) or (K, h, w), from finished blocks."""
        planes = () if self.plan.planes == 1 else (self.plan.planes,)
        result = np.empty((*planes, *box.shape), np.uint8)
        blocks = self.plan.blocks
        for row in range(box.y0 // blocks.edge, -(-box.y1 // blocks.edge)):
            for column in range(box.x0 // blocks.edge, -(-box.x1 // blocks.edge)):
                block = blocks[row * blocks.columns + column]
                part = block.box.intersect(box)
                source = self.read_block(block)[(..., *part.relative_to(block.box).slices)]
                result[(..., *part.relative_to(box).slices)] = source
        return result

    def missing(self, indices: Iterable[int]) -> list[int]:
        """Return those of the blocks that are missing, of another plan, or damaged; every block is read."""
        return [index for index in indices if not self.is_done(self.plan.blocks[index])]

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def remove_if_empty(self) -> None:
        """Remove the directory unless a block is finished."""
        if not any((self.path / "done").glob("*.json")):
            self.remove()

    def _load(self, block: Block) -> NDArray[np.uint8] | None:
        try:
            marker = json.loads(self._marker(block).read_text("utf-8"))
            if marker["plan"] != self.plan.id:
                return None
            pixels = np.asarray(self._array[self._region(block.box)], np.uint8)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError):  # a damaged chunk fails to decode
            return None
        return pixels if _digest(pixels) == marker["sha256"] else None

    def _sync_chunk(self, block: Block) -> None:
        row, column = divmod(block.index, self.plan.blocks.columns)
        place = (row, column) if self.plan.planes == 1 else (0, row, column)
        chunk = self.path / "mask.zarr" / self._array.metadata.encode_chunk_key(place)
        for path in (chunk, chunk.parent):
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def _marker(self, block: Block) -> Path:
        return self.path / "done" / f"{block.name}.json"

    def _region(self, box: Box) -> tuple[slice, ...]:
        return box.slices if self.plan.planes == 1 else (slice(None), *box.slices)

    def _open_array(self) -> zarr.Array[Any]:
        planes = () if self.plan.planes == 1 else (self.plan.planes,)
        edge = self.plan.blocks.edge
        chunk = tuple(min(edge, length) for length in self.plan.shape)
        store = self.path / "mask.zarr"
        try:
            return zarr.create_array(
                store,
                shape=(*planes, *self.plan.shape),
                chunks=(*planes, *chunk),
                dtype="uint8",
                config={"write_empty_chunks": True},  # a chunk that is absent was not written, whatever it would hold
            )
        except ContainsArrayError:
            try:
                array = zarr.open_array(store, mode="r+")
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(f"{store} is damaged: remove {self.path}, and start afresh") from error
        except OSError as error:
            raise InputError(f"cannot write {store}: {(error.strerror or str(error)).lower()}") from error
        return array.with_config({"write_empty_chunks": True})


def is_run_directory(path: Path) -> bool:
    """Whether there is a plan in it."""
    return (path / "plan.json").is_file()


def _digest(pixels: NDArray[np.uint8]) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()


def _is_unborn(path: Path) -> bool:
    """Whether a directory holds no more than a run leaves that died before its plan was written."""
    return path.is_dir() and all(entry.name == "done" or ".plan.json." in entry.name for entry in path.iterdir())


def _write_first(path: Path, text: str) -> None:
    """Write a file unless it exists, whole at its first appearance; of several writers, the first wins.

    A hard link to a finished file is atomic and fails if the name is taken, on network file systems too.
    """
    if path.exists():
        return
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, "utf-8")
        with suppress(FileExistsError):
            os.link(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _read_plan(path: Path) -> Plan:
    try:
        return Plan.from_json((path / "plan.json").read_text("utf-8"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path / 'plan.json'} is damaged or of another version: remove {path}") from error
