"""Run directory: where a run keeps what it has done, so that any process can go on with it.

plan.json         frozen; whoever comes first writes it, everyone else must agree
mask.zarr/        Zarr v3, one chunk a block: no two writers share a file
done/000012.json  marker of a finished block: plan id and SHA-256 of its pixels; written after the block
parts/000013      the finished tiles of a block in work: a line of JSON, then its pixels

Nothing in it is believed: what does not fit its checksum is computed again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
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


class RunDirectory:
    """A run directory that exists and agrees with its plan; make one with `join` or `open`."""

    def __init__(self, path: Path, plan: Plan) -> None:
        self.path = path
        self.plan = plan
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
            if path.exists() and not is_run_directory(path) and not _is_unborn(path):
                raise InputError(f"{path} exists and is no run directory: choose another output, or remove it")
            path.mkdir(exist_ok=True)
            for name in ("done", "parts"):
                (path / name).mkdir(exist_ok=True)
            _write_first(path / "plan.json", plan.to_json())
        except OSError as error:
            raise InputError(f"cannot write {path}: {_reason(error)}; choose another output") from error
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
        return cls(path, _read_plan(path))

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
                f"cannot write block {block.index} in {self.path}: {_reason(error)}; what is finished is kept"
            ) from error
        marker = {"plan": self.plan.id, "sha256": _digest(pixels)}
        with atomic_path(self._marker(block)) as temporary:
            temporary.write_text(json.dumps(marker), "utf-8")
        self._part(block).unlink(missing_ok=True)

    def write_part(self, block: Block, pixels: NDArray[np.uint8], tiles: int) -> None:
        """Store a block, (P, h, w), of which the first `tiles` tiles are computed.

        Raises:
            InputError: the disk is full, or no longer writable.
        """
        header = {"plan": self.plan.id, "sha256": _digest(pixels), "tiles": tiles}
        with atomic_path(self._part(block)) as temporary:
            temporary.write_bytes(json.dumps(header).encode() + b"\n" + pixels.tobytes())

    def read_part(self, block: Block) -> tuple[NDArray[np.uint8], int] | None:
        """Return what `write_part` stored of a block, the pixels and the number of tiles; None if there is nothing."""
        try:
            header, _, content = self._part(block).read_bytes().partition(b"\n")
            values = json.loads(header)
            pixels = np.frombuffer(content, np.uint8).reshape(self.plan.planes, *block.box.shape).copy()
            whole = values["plan"] == self.plan.id and values["sha256"] == _digest(pixels)
            return (pixels, int(values["tiles"])) if whole else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

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
        return pixels if _digest(pixels) == expected else None

    def remove(self) -> None:
        remove_run(self.path)

    def remove_if_empty(self) -> None:
        """Remove the directory unless something of a block is in it."""
        if not any(any((self.path / name).glob("[!.]*")) for name in ("done", "parts")):
            self.remove()

    def _digest_of(self, block: Block) -> str | None:
        """Return what the marker of a block says of its pixels."""
        try:
            marker = json.loads(self._marker(block).read_text("utf-8"))
            return str(marker["sha256"]) if marker["plan"] == self.plan.id else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

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
        """Open the array, or create it; damaged metadata are written anew: checksums tell which chunks fit."""
        store = self.path / "mask.zarr"
        try:
            try:
                return self._create_array(store)
            except ContainsArrayError:
                array = zarr.open_array(store, mode="r+")
                if array.shape == (self.plan.planes, *self.plan.shape) and array.chunks == self._chunks:
                    return array.with_config({"write_empty_chunks": True})
            except (ValueError, KeyError, TypeError, AttributeError):  # whatever zarr makes of foreign JSON
                pass
            (store / "zarr.json").unlink(missing_ok=True)
            return self._create_array(store)
        except OSError as error:
            raise InputError(f"cannot write {store}: {_reason(error)}") from error

    def _create_array(self, store: Path) -> zarr.Array[Any]:
        return zarr.create_array(
            store,
            shape=(self.plan.planes, *self.plan.shape),
            chunks=self._chunks,
            dtype="uint8",
            config={"write_empty_chunks": True},  # a chunk that is absent was not written, whatever it would hold
        )

    @property
    def _chunks(self) -> tuple[int, int, int]:
        edge = self.plan.blocks.edge
        return self.plan.planes, min(edge, self.plan.shape[0]), min(edge, self.plan.shape[1])


def check_agrees(path: Path, plan: Plan) -> None:
    """Refuse a run directory, if there is one, that was begun with another plan.

    Raises:
        InputError: says what differs.
    """
    differences = plan.differences(_read_plan(path)) if is_run_directory(path) else []
    if differences:
        raise InputError(
            f"{path} holds an unfinished run that differs in {', '.join(differences)}: give the same options "
            "to go on, or remove that directory to start afresh"
        )


def begun_plan(path: Path) -> Plan | None:
    """Return the plan of a run that was begun there; None if there is none, or none that can be read."""
    try:
        return _read_plan(path) if is_run_directory(path) else None
    except InputError:
        return None


def is_run_directory(path: Path) -> bool:
    """Whether there is a plan in it."""
    return (path / "plan.json").is_file()


def lacks_plan(path: Path) -> bool:
    """Whether it is a run directory but for its plan."""
    return path.is_dir() and not is_run_directory(path) and any(path.iterdir()) and _is_unborn(path)


def _digest(pixels: NDArray[np.uint8]) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels).data).hexdigest()


def remove_run(path: Path) -> None:
    """Remove a run directory, its plan last: what a kill leaves of it is a run directory still."""
    for entry in path.glob("*"):
        if entry.name != "plan.json":
            shutil.rmtree(entry, ignore_errors=True)
    shutil.rmtree(path, ignore_errors=True)


def _is_unborn(path: Path) -> bool:
    """Whether a directory holds no more than a run leaves that died before its plan was written, or that lost it."""
    return path.is_dir() and all(
        entry.name in ("done", "parts", "mask.zarr") or ".plan.json." in entry.name for entry in path.iterdir()
    )


def _write_first(path: Path, text: str) -> None:
    """Write a file unless it exists, whole at its first appearance; of several writers, the first wins.

    A hard link to a finished file is atomic and fails if the name is taken, on network file systems too.
    """
    if path.exists():
        return
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, "utf-8")
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
        except OSError:  # a file system without hard links; of writers at the same moment the last wins there
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _read_plan(path: Path) -> Plan:
    try:
        return Plan.from_json((path / "plan.json").read_text("utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {path / 'plan.json'}: {_reason(error)}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path / 'plan.json'} is damaged or of another version: remove it and give the command again to keep"
            f" the blocks that fit, or remove {path} to start afresh"
        ) from error


def _reason(error: OSError) -> str:
    return REFUSALS.get(error.errno or 0, (error.strerror or str(error)).lower())
