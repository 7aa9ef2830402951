"""The contract of canvases: what is written is read back by us and by others, the same bytes for the same pixels."""

from __future__ import annotations

import errno
import json
import tracemalloc
import zlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from unettile.box import Box
from unettile.errors import InputError, UsageError
from unettile.images.canvas import PIECE_BYTES, TILE_EDGE, Canvas, Layer, Reader
from unettile.images.colours import distinct_colours
from unettile.images.formats import format_of, write_image
from unettile.images.slide import open_labels, open_slide, read_image, read_labels
from unettile.images.write_ometiff import write_ometiff
from unettile.images.write_png import write_png
from unettile.images.write_tiff import write_tiff

SHAPES = ((1, 1), (1, 700), (513, 1), (512, 512), (511, 1025), (601, 1300))
each_shape = pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape[0]}x{shape[1]}")


def noise(dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    random = np.random.default_rng(len(shape))
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return random.normal(0, 10, shape).astype(kind)
    return random.integers(0, np.iinfo(kind).max, shape, dtype=kind, endpoint=True)


def reader_of(pixels: NDArray[Any]) -> Reader:
    """Return what gives the boxes of an array (H, W) or (K, H, W)."""
    return lambda box: pixels[(..., *box.slices)]


@each_shape
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "float32"])
def test_a_tiff_holds_what_was_painted(dtype: str, shape: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "mask.tif"
    pixels = noise(dtype, shape)
    write_tiff(path, Canvas(shape, dtype=np.dtype(dtype)), reader_of(pixels))
    assert np.array_equal(read_image(path)[:, :, 0], pixels)
    assert np.array_equal(tifffile.imread(path), pixels)
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        assert len(file.pages) == 1
        assert page.tile == (TILE_EDGE, TILE_EDGE)
        assert page.compression == tifffile.COMPRESSION.ADOBE_DEFLATE


@each_shape
@pytest.mark.parametrize("channels", [2, 3, 5])
def test_a_tiff_holds_planes(channels: int, shape: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "probabilities.tif"
    pixels = noise("uint8", (channels, *shape))
    write_tiff(path, Canvas(shape, (Layer("image", channels),)), reader_of(pixels))
    assert np.array_equal(read_image(path), np.moveaxis(pixels, 0, 2))
    assert np.array_equal(tifffile.imread(path), pixels)


@each_shape
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_png_holds_what_was_painted(dtype: str, shape: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    pixels = noise(dtype, shape)
    write_png(path, Canvas(shape, dtype=np.dtype(dtype)), reader_of(pixels))
    assert np.array_equal(read_labels(path), pixels)
    assert np.array_equal(imagecodecs.png_decode(path.read_bytes()), pixels)


@pytest.mark.parametrize("ending", [".tif", ".png"])
def test_a_palette_shows_classes_in_colour_and_keeps_their_numbers(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"mask{ending}"
    shape = (70, 90)
    classes = np.random.default_rng(0).integers(0, 4, shape).astype(np.uint8)
    palette = distinct_colours(4)
    layer = Layer("classes", names=("a", "b", "c", "d"), colours=palette)
    write_image(path, Canvas(shape, (layer,)), reader_of(classes))
    assert np.array_equal(read_labels(path), classes)
    with open_slide(path) as slide:
        assert np.array_equal(slide.read(Box.of_shape(shape)), np.array(palette, np.uint8)[classes])
    if ending == ".tif":
        assert np.array_equal(tifffile.imread(path), classes)
        with tifffile.TiffFile(path) as file:
            assert file.pages.first.photometric == tifffile.PHOTOMETRIC.PALETTE
            assert np.array_equal(file.pages.first.colormap[:, :4] // 257, np.array(palette).T)


ENDINGS = (".tif", ".ome.tif", ".ome.zarr", ".png")
each_ending = pytest.mark.parametrize("ending", ENDINGS)


def content(path: Path) -> dict[str, bytes]:
    """Return the bytes of a file, or of every file of a directory."""
    return {str(file.relative_to(path)): file.read_bytes() for file in (path, *path.rglob("*")) if file.is_file()}


@each_ending
def test_the_same_pixels_give_the_same_bytes(ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the name, the time and the state of the process, and whatever order the metadata were gathered in."""
    shape = (530, 700)
    pixels = noise("uint8", shape)
    first, second = tmp_path / f"a{ending}", tmp_path / f"another name{ending}"
    write_image(first, Canvas(shape, metadata={"a": 1, "b": [2, "ü"]}, pixel_size_um=(0.5, 0.25)), reader_of(pixels))
    monkeypatch.setattr("time.time", lambda: 0.0)
    write_image(second, Canvas(shape, metadata={"b": [2, "ü"], "a": 1}, pixel_size_um=(0.5, 0.25)), reader_of(pixels))
    assert content(first) == content(second)


@pytest.mark.parametrize("ending", ENDINGS[:3])
def test_the_threads_change_no_byte(ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.random.default_rng(0).integers(0, 3, (2, 1100, 1300), np.uint8)
    for threads in ("1", "3"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        write_image(tmp_path / f"{threads}{ending}", Canvas((1100, 1300), (Layer("a", 2, "mean"),)), reader_of(pixels))
    assert content(tmp_path / f"1{ending}") == content(tmp_path / f"3{ending}")


@pytest.mark.parametrize("ending", [".tif", ".png"])
def test_metadata_and_pixel_size_are_carried(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"mask{ending}"
    metadata = {"model": {"name": "nuclei", "sha256": "ab"}, "größe": [1, 2.5, None], "image": {"shape": [9, 9]}}
    canvas = Canvas((5, 6), metadata=metadata, pixel_size_um=(0.5, 0.2525))
    write_image(path, canvas, reader_of(np.zeros((5, 6), np.uint8)))
    with open_labels(path) as slide:
        assert slide.pixel_size_um == pytest.approx((0.5, 0.2525), rel=1e-5)
    if ending == ".tif":
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            assert json.loads(page.description) == metadata
            assert page.software.startswith("unettile ")
            assert "DateTime" not in page.tags
    else:
        data = path.read_bytes()
        text = data[data.index(b"Description\0") + 12 :]
        assert json.JSONDecoder().raw_decode(text.decode("latin-1"))[0] == metadata


def test_pieces_are_bounded_and_come_in_order(tmp_path: Path) -> None:
    """A wide image is asked for in whole tiles side by side, never in whole rows of tiles, and from top to bottom."""
    width = 4 * PIECE_BYTES // TILE_EDGE // 3  # more than one piece a row of tiles
    asked: list[Box] = []

    def read(box: Box) -> NDArray[np.uint8]:
        asked.append(box)
        return np.zeros(box.shape, np.uint8)

    tracemalloc.start()
    write_tiff(tmp_path / "wide.tif", Canvas((700, width)), read)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(asked) == 4
    assert asked == sorted(asked)
    assert sum(box.area for box in asked) == 700 * width
    assert all(box.area <= PIECE_BYTES and box.y0 % TILE_EDGE == box.x0 % TILE_EDGE == 0 for box in asked)
    assert peak < 3 * PIECE_BYTES  # one is compressed while the next is read


def test_what_could_outgrow_four_gigabytes_is_a_bigtiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit, big in ((2**18 * 4, False), (2**18 * 4 - 1, True)):
        monkeypatch.setattr("unettile.images.write_tiff._CLASSIC_LIMIT", limit)
        path = tmp_path / "mask.tif"
        write_tiff(path, Canvas((1000, 1000)), reader_of(np.zeros((1000, 1000), np.uint8)))
        with tifffile.TiffFile(path) as file:
            assert file.is_bigtiff is big
        assert read_labels(path).shape == (1000, 1000)


def test_png_rows_are_complete(tmp_path: Path) -> None:
    """The stream inflates to height × (1 + width) bytes: strict readers refuse more or less."""
    path = tmp_path / "mask.png"
    write_png(
        path,
        Canvas((600, 31), (Layer("classes", colours=distinct_colours(2)),)),
        reader_of(np.ones((600, 31), np.uint8)),
    )
    data, position, stream, names = path.read_bytes(), 8, b"", []
    while position < len(data):
        length = int.from_bytes(data[position : position + 4], "big")
        name = data[position + 4 : position + 8]
        body = data[position + 8 : position + 8 + length]
        assert int.from_bytes(data[position + 8 + length : position + 12 + length], "big") == zlib.crc32(name + body)
        stream += body if name == b"IDAT" else b""
        names.append(name)
        position += 12 + length
    assert len(zlib.decompress(stream)) == 600 * 32
    assert (names[0], names[1], names[-1]) == (b"IHDR", b"PLTE", b"IEND")


def test_endings() -> None:
    assert format_of(Path("a.tif")) is format_of(Path("b.TIFF")) and format_of(Path("a.tif")).write is write_tiff
    assert format_of(Path("a.png")).write is write_png
    assert (
        format_of(Path("a.ome.tif")) is format_of(Path("b.OME.TIFF"))
        and format_of(Path("a.ome.tif")).write is write_ometiff
    )
    for name in ("a.jpg", "a", "a.tif.bak", ".tif.gz"):
        with pytest.raises(UsageError, match=r"use one of \.ome\.tif, .*\.tif, \.tiff, .*\.zarr, \.png"):
            format_of(Path(name))


def test_what_a_png_cannot_hold_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    read = reader_of(np.zeros((2, 4, 4), np.uint8))
    with pytest.raises(UsageError, match=r"not 2 of uint8: use a name ending in \.tif"):
        write_png(path, Canvas((4, 4), (Layer("image", 2),)), read)
    with pytest.raises(UsageError, match=r"not 1 of float32: use a name ending in \.tif"):
        write_png(path, Canvas((4, 4), dtype=np.dtype(np.float32)), read)
    with pytest.raises(InputError, match="70000 × 70000 px are too many for a PNG"):
        write_png(path, Canvas((70_000, 70_000)), read)
    assert not path.exists()


@pytest.mark.parametrize(
    "values",
    [
        {"shape": (0, 5)},
        {"layers": ()},
        {"dtype": np.dtype(np.int64)},
        {"layers": (Layer("a", colours=((0, 0, 0),)),), "dtype": np.dtype(np.uint16)},
        {"layers": (Layer("a", reduction="mean"), Layer("b"))},
    ],
    ids=str,
)
def test_impossible_canvases(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="canvas"):
        Canvas(**{"shape": (4, 4), **values})


@pytest.mark.parametrize(
    "values",
    [
        {"channels": 0},
        {"colours": ((0, 0, 0),) * 257},
        {"colours": ((0, 0, 0),), "channels": 2},
        {"names": ("a",), "channels": 2},
        {"reduction": "median"},
    ],
    ids=str,
)
def test_impossible_layers(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="canvas"):
        Layer(**{"name": "a", **values})


def test_colours_are_distinct_and_do_not_depend_on_their_number() -> None:
    colours = distinct_colours(40)
    assert colours[0] == (0, 0, 0)
    assert len(set(colours)) == 40
    assert distinct_colours(7) == colours[:7]
    for first, second in pairwise(colours):
        assert max(abs(a - b) for a, b in zip(first, second, strict=True)) > 60


# A destination that fails.


@each_ending
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_is_named_and_nothing_is_left(ending: str, number: int, tmp_path: Path) -> None:
    final = tmp_path / f"mask{ending}"

    def read(box: Box) -> NDArray[np.uint8]:
        if box.y0 > 0:
            raise OSError(number, "no space")
        return np.zeros(box.shape, np.uint8)

    with pytest.raises(InputError, match=f"cannot write .*mask{ending}: "):
        write_image(final, Canvas((600, 20)), read)
    assert list(tmp_path.iterdir()) == []


@each_ending
def test_a_failure_while_reading_leaves_nothing_and_is_not_hidden(ending: str, tmp_path: Path) -> None:
    final = tmp_path / f"mask{ending}"

    def read(box: Box) -> NDArray[np.uint8]:
        raise InputError("the block is damaged")

    with pytest.raises(InputError, match="the block is damaged"):
        write_image(final, Canvas((600, 20)), read)
    assert list(tmp_path.iterdir()) == []


@each_ending
def test_a_missing_directory_is_refused(ending: str, tmp_path: Path) -> None:
    final = tmp_path / "missing" / f"mask{ending}"
    with pytest.raises(InputError, match="its directory does not exist"):
        write_image(final, Canvas((6, 20)), reader_of(np.zeros((6, 20), np.uint8)))
    assert list(tmp_path.iterdir()) == []
