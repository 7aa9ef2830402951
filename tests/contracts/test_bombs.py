"""Files that would unpack to far more than they state, and chunks that are no files: refused in a line, at once."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
import zarr
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec

from unettile.box import Box
from unettile.errors import InputError
from unettile.images.declared import picture_size, unpacked_size
from unettile.images.slide import open_slide

WHOLE = Box(0, 0, 200, 200)
PIXELS = np.random.default_rng(0).integers(0, 255, (200, 200), np.uint8)
LARGE = np.zeros((6000, 6000), np.uint8)


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.parametrize("compression", ["jpeg", "jpeg2000", "png", "webp", "jpegxl", "jpegxr", "lerc"])
def test_a_tile_holds_no_larger_picture_than_its_page(tmp_path: Path, compression: str) -> None:
    path, colour = tmp_path / "bomb.tif", compression == "webp"
    encode = getattr(imagecodecs, {"jpeg": "jpeg8", "jpeg2000": "jpeg2k"}.get(compression, compression) + "_encode")
    for inner, fits in ((PIXELS[:176, :176], True), (LARGE, False)):
        picture = np.repeat(inner[..., None], 3, axis=2) if colour else inner
        tile = encode(np.ascontiguousarray(picture))
        assert picture_size(tile) == inner.shape
        kind = {"photometric": "rgb"} if colour else {"photometric": "minisblack"}
        tifffile.imwrite(
            path,
            iter([tile]),
            shape=(176, 176, 3) if colour else (176, 176),
            dtype=np.uint8,
            tile=(176, 176),
            compression=compression,
            **kind,
        )
        if fits:
            with open_slide(path) as slide:
                assert slide.read(Box(0, 0, 9, 9)).shape[:2] == (9, 9)
        else:
            before = peak_mib()
            with pytest.raises(InputError, match=r"a picture of 6000 × 6000 px, need 176 × 176"):
                open_slide(path)
            assert peak_mib() - before < 20


def swap_chunk(change: Callable[[Path], None], path: Path, **codec: object) -> None:
    array = zarr.create_array(path, shape=(200, 200), chunks=(100, 100), dtype="uint8", **codec)  # type: ignore[arg-type]
    array[:] = PIXELS
    with open_slide(path) as slide:
        assert (slide.read(WHOLE)[..., 0] == PIXELS).all()
    chunk = path / "c" / "0" / "1"
    chunk.unlink()
    change(chunk)


@pytest.mark.parametrize(
    ("codec", "bomb"),
    [
        (ZstdCodec(), imagecodecs.zstd_encode(bytes(2**26))),
        (GzipCodec(), imagecodecs.gzip_encode(bytes(2**26))),
        (BloscCodec(), imagecodecs.blosc_encode(bytes(2**26))),
    ],
    ids=["zstd", "gzip", "blosc"],
)
def test_a_chunk_unpacks_to_no_more_than_the_array_says(tmp_path: Path, codec: object, bomb: bytes) -> None:
    path = tmp_path / "a.zarr"
    swap_chunk(lambda chunk: chunk.write_bytes(bomb) and None, path, compressors=[codec])
    with open_slide(path) as slide, pytest.raises(InputError, match=r"chunk c/0/1 .* unpacks to more than the 10000"):
        slide.read(WHOLE)


def test_an_array_of_missing_chunks_ends_in_a_line(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a.zarr", shape=(10**6, 10**6), chunks=(512, 512), dtype="uint8")
    with pytest.raises(InputError, match=r"states 1000000 × 1000000 px, which no command would finish; need at most"):
        open_slide(tmp_path / "a.zarr")


def test_chunks_that_are_packed_twice_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    zarr.create_array(path, shape=(200, 200), chunks=(100, 100), dtype="uint8", compressors=[GzipCodec(), ZstdCodec()])
    with pytest.raises(InputError, match=r"a.zarr.*packed several times over: gzip, zstd"):
        open_slide(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (os.mkfifo, "no regular file"),
        (lambda chunk: chunk.symlink_to("/dev/zero"), "no regular file"),
        (lambda chunk: chunk.symlink_to("/etc/passwd"), "a link out of the directory"),
        (lambda chunk: chunk.write_bytes(bytes(2**26)), "far more than a chunk needs"),
    ],
    ids=["pipe", "device", "link", "long"],
)
def test_only_files_of_the_directory_are_read(tmp_path: Path, change: Callable[[Path], None], message: str) -> None:
    swap_chunk(change, tmp_path / "a.zarr")
    with open_slide(tmp_path / "a.zarr") as slide, pytest.raises(InputError, match=message) as refused:
        slide.read(WHOLE)
    assert "\n" not in str(refused.value)


def test_shards_with_missing_chunks_and_links_within_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.zarr"
    array = zarr.create_array(
        path, shape=(200, 200), shards=(200, 200), chunks=(100, 100), dtype="uint8", compressors=[BloscCodec()]
    )
    array[:100] = PIXELS[:100]
    with open_slide(path) as slide:
        assert (slide.read(WHOLE)[:100, :, 0] == PIXELS[:100]).all() and not slide.read(WHOLE)[100:].any()
    (path / "c" / "0" / "0").rename(path / "kept")
    (path / "c" / "0" / "0").symlink_to(path / "kept")
    with open_slide(path) as slide:
        assert (slide.read(WHOLE)[:100, :, 0] == PIXELS[:100]).all()


@pytest.mark.parametrize("codec", ["zstd", "gzip", "zlib", "bz2", "lzma", "blosc", "lz4"])
def test_damaged_pieces_are_counted_or_refused(codec: str) -> None:
    rng = np.random.default_rng(0)
    for length in (0, 1, 4, 9, 50, 300):
        for begin in (b"", b"\x28\xb5\x2f\xfd", b"\x1f\x8b\x08", b"\x78\x9c", b"BZh9"):
            try:
                assert unpacked_size(begin + rng.bytes(length), codec, 2**20) >= 0
            except ValueError as error:
                assert "damaged" in str(error)


def test_an_array_of_absurd_size_whose_chunks_are_missing_is_refused(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "a.zarr", shape=(10**9, 10**9), chunks=(512, 512), dtype="uint8")
    with pytest.raises(InputError, match="need at most 550 Gpx"):
        open_slide(tmp_path / "a.zarr")
