"""The run directory of a stack: every plane an image of its own, with a run directory of its own.

stack.json            which planes, how far apart, and in how many shards
planes/t0000_z0003/   the run directory of a plane

Shards are of planes where there are as many; else each shard does its part of every plane.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from unettile.atomic import atomic_path
from unettile.errors import Incomplete, InputError
from unettile.images.planes import Planes
from unettile.images.slide import ImageSource
from unettile.images.spacing import UNKNOWN, Spacing
from unettile.inference.predict import Predictor
from unettile.regular import read_regular
from unettile.segmentation.division import Division
from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.plan import Plan
from unettile.segmentation.planes import of_plane
from unettile.segmentation.run.directory import RunDirectory
from unettile.segmentation.run.planfile import check_agrees, lacks_plan
from unettile.segmentation.run.watch import Tally, Watch
from unettile.segmentation.segment import segment_shard
from unettile.segmentation.share import Share
from unettile.segmentation.stitch import shard_list
from unettile.tiling import MOST_SHARDS, Shard
from unettile.typed import Unfit, from_json

_FORMAT = 1
_FILE = "stack.json"
_MOST_BYTES = 2**26

_Numbers = Annotated[tuple[Annotated[int, Meta(ge=0, le=2**31)], ...], Meta(min_length=1)]


@dataclass(frozen=True)
class _Stack:
    """What `stack.json` holds: its format, the numbers of the planes, how many shards there are, and the spacing."""

    format: Annotated[int, Meta(ge=_FORMAT, le=_FORMAT)]
    t: _Numbers
    z: _Numbers
    shards: Annotated[int, Meta(ge=1, le=MOST_SHARDS)]
    spacing: Spacing = UNKNOWN


class StackDirectory:
    """The run directory of a stack; make one with `join` or `open`."""

    def __init__(self, path: Path, planes: Planes, shards: int, spacing: Spacing = UNKNOWN) -> None:
        self.path, self.planes, self.shards, self.spacing = path, planes, shards, spacing
        self.paths = [path / "planes" / f"t{t:04d}_z{z:04d}" for t, z in planes]

    @classmethod
    def join(
        cls, path: Path, planes: Planes, shards: int, spacing: Spacing = UNKNOWN, discard: bool = False
    ) -> StackDirectory:
        """Create one, or go on with one of the same planes.

        Args:
            spacing: of the planes, for `stitch`; it decides no pixel, so that one that lacks it gets it.
            discard: one that is there is removed.

        Raises:
            InputError: it has other planes, is something else, or cannot be written.
        """
        wanted = _Stack(_FORMAT, planes.times, planes.depths, shards, spacing)
        if discard and is_stack_run(path):
            shutil.rmtree(path, ignore_errors=True)
        _check_stack(path)
        try:
            (path / "planes").mkdir(parents=True, exist_ok=True)
            if not is_stack_run(path) or _lacks_spacing(path, wanted):
                with atomic_path(path / _FILE) as temporary:
                    temporary.write_text(json.dumps(asdict(wanted)), "utf-8")
        except OSError as error:
            raise InputError(f"cannot write {path}: {(error.strerror or str(error)).lower()}") from error
        _check_same(path, wanted)
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> StackDirectory:
        """Open one that is there.

        Raises:
            InputError: it is damaged.
        """
        found = _read(path)
        return cls(path, Planes(found.t, found.z), found.shards, found.spacing)

    def compute(
        self,
        image: ImageSource,
        shard: Shard,
        predictor: Predictor,
        options: SegmentOptions,
        watch: Watch,
        share: Share | None = None,
    ) -> Tally:
        """Compute a shard, or what `share` says in its place; errors as `segment_shard`."""
        tally, planes = Tally(), list(self.planes)
        own = self.division.planes_of(shard.index) if share is None else share.planes
        for done, number in enumerate(own):
            seen = replace(watch, on_progress=_part_of(watch, done, len(own)))
            if done:  # what is to be said of the first plane is to be said of all
                seen = replace(seen, on_advice=lambda line: None)
            part = self.division.part(shard)
            one = of_plane(options, planes[number])
            result = segment_shard(image, self.paths[number], part, predictor, one, seen, share=share)
            tally.computed += result.tally.computed
            tally.resumed += result.tally.resumed
            tally.pixels += result.tally.pixels
        return tally

    @property
    def division(self) -> Division:
        """Which shard computes what."""
        return Division(len(self.planes), self.shards)

    def missing(self) -> list[int]:
        """Return the numbers of the planes that are not whole."""
        found = []
        for number, path in enumerate(self.paths):
            if not path.exists() or lacks_plan(path):
                found.append(number)
                continue
            run = RunDirectory.open(path)
            if not all(run.is_done(block) for block in run.plan.blocks):
                found.append(number)
        return found

    def remove(self) -> None:
        """Remove it, what says that it is one last."""
        shutil.rmtree(self.path / "planes", ignore_errors=True)
        shutil.rmtree(self.path, ignore_errors=True)

    def remove_if_empty(self) -> None:
        """Remove it unless something of a block is in it."""
        if not any(any(self.path.glob(f"planes/*/{name}/[!.]*")) for name in ("done", "parts")):
            self.remove()


class MissingPlanes(Incomplete):
    """Planes of a stack that are not finished, or damaged, and the shards that compute them."""

    def __init__(self, directory: StackDirectory, missing: list[int]) -> None:
        planes = list(directory.planes)
        self.planes = [list(planes[number]) for number in missing]
        self.count = directory.shards
        self.shards = sorted({shard for number in missing for shard in directory.division.shards_of(number)})
        self.array = shard_list(self.shards)
        super().__init__(
            f"{directory.path} lacks {len(missing)} of {len(planes)} planes (missing, unfinished or damaged): run"
            f" shard{'s' if len(self.shards) > 1 else ''} {self.array} of {self.count} again (--array={self.array},"
            f" --shard {self.shards[0]}/{self.count}), then stitch"
        )

    def to_dict(self) -> dict[str, object]:
        return {"planes": self.planes, "shards": self.shards, "of_shards": self.count, "array": self.array}


def is_stack_run(path: Path) -> bool:
    """Whether it is the run directory of a stack."""
    return (path / _FILE).is_file()


def check_joinable(path: Path, planes: Planes, shards: int, first: Plan) -> None:
    """Refuse a directory that no run of these planes could go on in; nothing is written.

    Args:
        first: the plan of the first plane.

    Raises:
        InputError: as `StackDirectory.join`, or the plane was begun with another plan.
    """
    _check_stack(path)
    if is_stack_run(path):
        _check_same(path, _Stack(_FORMAT, planes.times, planes.depths, shards))
        check_agrees(StackDirectory(path, planes, shards).paths[0], first)


def _check_stack(path: Path) -> None:
    if path.exists() and not is_stack_run(path) and not _is_unborn(path):
        raise InputError(f"{path} exists and is no run of a stack: choose another output, or remove it")


def _check_same(path: Path, wanted: _Stack) -> None:
    found = _read(path)
    names = {"t": "--time", "z": "--z", "shards": "the number of shards"}
    different = [name for key, name in names.items() if getattr(found, key) != getattr(wanted, key)]
    if different:
        raise InputError(
            f"{path} holds an unfinished run that differs in {', '.join(different)}: give the same options to go"
            " on, or remove that directory to start afresh"
        )


def _lacks_spacing(path: Path, wanted: _Stack) -> bool:
    """Whether all that a directory lacks of what is wanted is the spacing."""
    return replace(wanted, spacing=UNKNOWN) == _read(path) != wanted


def _part_of(watch: Watch, done: int, planes: int) -> Callable[[int, int], None]:
    return lambda pixels, total: watch.on_progress(done * total + pixels, planes * total)


def _is_unborn(path: Path) -> bool:
    """Whether a directory holds no more than a run leaves that died before its planes were written down."""
    with suppress(OSError):
        return all(entry.name == "planes" or entry.name.startswith(f".{_FILE}") for entry in path.iterdir())
    return False


def _read(path: Path) -> _Stack:
    file = path / _FILE
    try:
        return from_json(read_regular(file, _MOST_BYTES), _Stack)
    except OSError as error:
        raise InputError(f"cannot read {file}: {(error.strerror or str(error)).lower()}") from error
    except Unfit as error:
        raise InputError(f"{file} is damaged or of another version ({error}): remove {path} to start afresh") from error
