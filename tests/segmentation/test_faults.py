"""Faults while a run is at work: named in one line, what is finished kept, and the mask that comes in the end unharmed.

Demanded throughout: no file under the final name before it is whole, and, once the fault is mended, the bytes of an
undisturbed run from the same command.
"""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tifffile

import unettile.tiling
from tests.narrow import make_pixels
from unettile.errors import Incomplete, InputError, Interrupted
from unettile.inference.predict import Predictor
from unettile.segmentation.options import SegmentOptions
from unettile.segmentation.planning import plan_image
from unettile.segmentation.run.directory import RunDirectory
from unettile.segmentation.run.watch import Watch
from unettile.segmentation.segment import SegmentResult, run_directory_for, segment_image

OPTIONS = SegmentOptions(output_edge=68)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty blocks of 64 px in the image of 211 × 307 px."""
    monkeypatch.setattr(unettile.tiling, "BLOCK_EDGE", 64)


@pytest.fixture
def whole(tmp_path_factory: pytest.TempPathFactory, image: Path, predictor: Predictor) -> bytes:
    """The file of an undisturbed run."""
    out = tmp_path_factory.mktemp("whole") / "mask.tif"
    segment_image(image, out, predictor, OPTIONS)
    return out.read_bytes()


def at(share: float, act: Callable[[], object]) -> Watch:
    """Return a watch that acts once, when that share of the pixels is done."""
    waiting = [act]

    def on_progress(done: int, total: int) -> None:
        if waiting and done >= share * total:
            waiting.pop()()

    return Watch(on_progress)


def assert_goes_on(image: Path, out: Path, predictor: Predictor, whole: bytes) -> SegmentResult:
    """The same command finishes what is there."""
    assert not out.exists()
    result = segment_image(image, out, predictor, OPTIONS)
    assert out.read_bytes() == whole and not run_directory_for(out).exists()
    assert result.tally.resumed > 0
    return result


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", place], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a file system needs root")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def fill(place: Path) -> None:
    with (place / "filler").open("wb", buffering=0) as filler, pytest.raises(OSError, match="No space"):
        while True:
            filler.write(bytes(512))


@pytest.mark.parametrize(("share", "named"), [(0.3, r"mask\.tif\.run"), (1.0, r"mask\.tif")])
def test_a_disk_that_fills_up(
    disk: Path, image: Path, predictor: Predictor, whole: bytes, share: float, named: str
) -> None:
    """In the run directory, and while the final file is written."""
    out = disk / "mask.tif"
    with pytest.raises(InputError, match=f"cannot write .*{named}.*: the disk is full"):
        segment_image(image, out, predictor, OPTIONS, at(share, lambda: fill(disk)))
    assert not list(disk.glob(".*"))
    (disk / "filler").unlink()
    assert_goes_on(image, out, predictor, whole)


@pytest.mark.parametrize("damage", ["gone", "truncated", "changed"])
def test_an_image_that_does_not_stay(
    tmp_path: Path, image: Path, predictor: Predictor, whole: bytes, damage: str
) -> None:
    out, kept = tmp_path / "mask.tif", image.read_bytes()

    def act() -> None:
        match damage:
            case "gone":
                image.unlink()
            case "truncated":
                os.truncate(image, len(kept) // 2)
            case "changed":
                image.write_bytes(kept[:-2000] + bytes(2000))

    named = {
        "gone": "no such file",
        "truncated": "ended at byte|truncated|was changed while",
        "changed": "was changed while",
    }[damage]
    with pytest.raises(InputError, match=named) as refusal:
        segment_image(image, out, predictor, OPTIONS, at(0.2, act))
    assert "image.tif" in str(refusal.value) and "\n" not in str(refusal.value)
    image.write_bytes(kept)
    assert_goes_on(image, out, predictor, whole)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_a_read_that_fails(
    tmp_path: Path, image: Path, predictor: Predictor, whole: bytes, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, as network file systems do, it is tried again; for good, it is named."""
    read, failing = os.pread, [0]

    def pread(handle: int, count: int, offset: int) -> bytes:
        if failing[0]:
            failing[0] -= 1
            raise OSError(number, os.strerror(number))
        return read(handle, count, offset)

    monkeypatch.setattr(os, "pread", pread)

    def fail(times: int) -> Callable[[], None]:
        return lambda: failing.__setitem__(0, times)

    out = tmp_path / "mask.tif"
    segment_image(image, out, predictor, OPTIONS, at(0.3, fail(1)))
    assert failing == [0] and out.read_bytes() == whole
    out.unlink()
    with pytest.raises(InputError, match=os.strerror(number)):
        segment_image(image, out, predictor, OPTIONS, at(0.3, fail(10**6)))
    failing[0] = 0
    assert_goes_on(image, out, predictor, whole)


def test_another_process_with_the_same_command_is_faster(
    tmp_path: Path, image: Path, predictor: Predictor, whole: bytes
) -> None:
    """It writes the file and takes the run directory away, in which this one is at work."""
    out = tmp_path / "mask.tif"
    for share in (0.2, 0.7, 1.0):
        other = at(share, lambda: segment_image(image, out, predictor, OPTIONS))
        result = segment_image(image, out, predictor, OPTIONS, other)
        assert result.output == out and out.read_bytes() == whole
        assert sorted(path.name for path in tmp_path.iterdir()) == ["image.tif", "mask.tif"]
        out.unlink()


def test_killed_between_the_file_and_the_end(tmp_path: Path, image: Path, predictor: Predictor, whole: bytes) -> None:
    out, place = tmp_path / "mask.tif", run_directory_for(tmp_path / "mask.tif")
    RunDirectory.join(place, plan_image(image, predictor, OPTIONS))
    out.write_bytes(whole)
    assert segment_image(image, out, predictor, OPTIONS).tally.computed == 0
    assert out.read_bytes() == whole and not place.exists()
    RunDirectory.join(place, plan_image(image, predictor, OPTIONS))
    out.write_bytes(b"another's")
    with pytest.raises(InputError, match="--overwrite"):
        segment_image(image, out, predictor, OPTIONS)
    assert out.read_bytes() == b"another's"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": 1}', '{"format": 99}', "\0\0"])
def test_a_damaged_plan_is_refused_or_discarded(
    tmp_path: Path, image: Path, predictor: Predictor, whole: bytes, text: str
) -> None:
    out, place = tmp_path / "mask.tif", run_directory_for(tmp_path / "mask.tif")
    RunDirectory.join(place, plan_image(image, predictor, OPTIONS))
    (place / "plan.json").write_text(text)
    with pytest.raises(InputError, match=r"plan\.json is damaged"):
        segment_image(image, out, predictor, OPTIONS)
    segment_image(image, out, predictor, OPTIONS, overwrite=True)
    assert out.read_bytes() == whole


def test_overwrite_discards_an_unfinished_run_of_other_options(
    tmp_path: Path, image: Path, predictor: Predictor, whole: bytes
) -> None:
    out = tmp_path / "mask.tif"
    with pytest.raises(Interrupted):
        segment_image(image, out, predictor, SegmentOptions(output_edge=84), Watch(should_stop=lambda: 15))
    with pytest.raises(InputError, match=r"--tile \(84 before, 68 now\)"):
        segment_image(image, out, predictor, OPTIONS)
    segment_image(image, out, predictor, OPTIONS, overwrite=True)
    assert out.read_bytes() == whole


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"zarr_format": 3, "node_type": "group"}'])
def test_damaged_array_metadata_cost_no_block(
    tmp_path: Path, image: Path, predictor: Predictor, whole: bytes, text: str
) -> None:
    out = tmp_path / "mask.tif"
    with pytest.raises(Incomplete):
        segment_image(image, out, predictor, OPTIONS, at(0.5, lambda: stop(Incomplete)))
    (run_directory_for(out) / "mask.zarr" / "zarr.json").write_text(text)
    assert assert_goes_on(image, out, predictor, whole).tally.resumed >= 6


def stop(kind: type[Exception]) -> None:
    raise kind("stopped")


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_a_run_directory_of_another_user(tmp_path: Path, image: Path, predictor: Predictor) -> None:
    plan = plan_image(image, predictor, OPTIONS)
    os.seteuid(65534)
    try:
        with pytest.raises(InputError, match="permission denied"):
            RunDirectory.join(tmp_path / "run", plan)
    finally:
        os.seteuid(0)


def test_the_image_of_an_unfinished_run_is_not_changed_unseen(
    tmp_path: Path, image: Path, predictor: Predictor
) -> None:
    out = tmp_path / "mask.tif"
    with pytest.raises(Interrupted):
        segment_image(image, out, predictor, OPTIONS, Watch(should_stop=lambda: 15))
    tifffile.imwrite(image, make_pixels(211, 307, seed=9))
    with pytest.raises(InputError, match="differs in the image"):
        segment_image(image, out, predictor, OPTIONS)
