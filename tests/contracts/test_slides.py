"""The contract of slides: whatever the file format, a region holds the pixels that were written, or is refused."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from unettile.box import Box
from unettile.errors import InputError
from unettile.images.segments import SegmentReader
from unettile.images.slide import Slide, open_labels, open_slide
from unettile.images.spacing import UNKNOWN

SHAPE = (83, 59)


def pixels_of(dtype: str, channels: int, shape: tuple[int, int] = SHAPE) -> NDArray[Any]:
    """Return noise (h, w, channels) over most of a type's range."""
    random = np.random.default_rng(channels)
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return random.normal(0, 100, (*shape, channels)).astype(kind)
    ends = np.iinfo(kind)
    return random.integers(ends.min // 2, ends.max // 2, (*shape, channels), dtype=kind, endpoint=True)


@dataclass(frozen=True)
class Form:
    """One way of storing an image: a type, a number of channels, and a function that writes (h, w, channels)."""

    name: str
    write: Callable[[Path, NDArray[Any]], None]
    dtype: str = "uint8"
    channels: int = 1


def tiff(**options: Any) -> Callable[[Path, NDArray[Any]], None]:
    """Return a writer of a TIFF with these options of tifffile's."""

    def write(path: Path, pixels: NDArray[Any]) -> None:
        settings = {"photometric": "minisblack", "metadata": None, **options}
        byteorder, big = settings.pop("byteorder", "<"), settings.pop("bigtiff", False)
        if settings.get("planarconfig") == "separate" or settings.get("pages"):
            pixels = np.moveaxis(pixels, 2, 0)
        elif pixels.shape[2] == 1:
            pixels = pixels[:, :, 0]
        else:
            settings["planarconfig"] = "contig"
        with tifffile.TiffWriter(
            path,
            byteorder=byteorder,
            bigtiff=big,
            ome=settings.pop("ome", False),
            imagej=settings.pop("imagej", False),
        ) as file:
            settings.pop("pages", None)
            file.write(pixels, **settings)

    return write


def png(path: Path, pixels: NDArray[Any]) -> None:
    path.write_bytes(imagecodecs.png_encode(pixels if pixels.shape[2] > 1 else pixels[:, :, 0]))


FORMS = (
    Form("one strip", tiff()),
    Form("strips of 7 rows", tiff(rowsperstrip=7)),
    Form("strips, big-endian", tiff(rowsperstrip=7, byteorder=">"), "uint16", 3),
    Form("tiles", tiff(tile=(16, 32))),
    Form("tiles, big-endian", tiff(tile=(16, 32), byteorder=">"), "float32"),
    Form("BigTIFF tiles", tiff(tile=(32, 16), bigtiff=True), "uint16"),
    Form("a tile larger than the image", tiff(tile=(128, 128), compression="zlib")),
    Form("planes in strips", tiff(planarconfig="separate", rowsperstrip=7), "uint16", 3),
    Form("planes in tiles", tiff(planarconfig="separate", tile=(32, 16), compression="zlib"), "uint8", 4),
    Form("five channels", tiff(rowsperstrip=9, compression="zlib"), "uint16", 5),
    Form("two channels", tiff(tile=(32, 32)), "uint8", 2),
    Form("RGB", tiff(photometric="rgb", tile=(32, 32), compression="zlib"), "uint8", 3),
    Form("RGBA", tiff(photometric="rgb", extrasamples=["unassalpha"]), "uint8", 4),
    Form("deflate, predictor", tiff(compression="zlib", predictor=2, rowsperstrip=10), "uint16", 3),
    Form("deflate, predictor, big-endian", tiff(compression="zlib", predictor=2, byteorder=">"), "uint16"),
    Form("floating predictor", tiff(compression="zlib", predictor=3, tile=(32, 32)), "float32"),
    Form("floating predictor, 64 bits", tiff(compression="zlib", predictor=3, byteorder=">"), "float64", 2),
    Form("LZW", tiff(compression="lzw", predictor=2), "uint8", 3),
    Form("zstd", tiff(compression="zstd", tile=(32, 32)), "uint16"),
    Form("LZMA", tiff(compression="lzma")),
    Form("PackBits", tiff(compression="packbits", rowsperstrip=5)),
    Form("JPEG 2000", tiff(compression="jpeg2000", tile=(32, 32)), "uint16"),
    Form("lossless WebP", tiff(compression="webp", tile=(32, 32), photometric="rgb", compressionargs={"level": -1}),
         "uint8", 3),
    Form("JPEG XR", tiff(compression="jpegxr", tile=(32, 32), compressionargs={"level": 1.0}), "uint16"),
    Form("JPEG XL", tiff(compression="jpegxl", tile=(32, 32), photometric="rgb"), "uint8", 3),
    Form("JPEG 2000, planes", tiff(compression="jpeg2000", tile=(32, 32), planarconfig="separate"), "uint8", 3),
    Form("LZW, planes, predictor, big-endian", tiff(compression="lzw", predictor=2, byteorder=">",
         planarconfig="separate", rowsperstrip=11, bigtiff=True), "uint16", 3),
    Form("tiles of odd edges", tiff(tile=(48, 80), compression="zstd", predictor=2), "uint32"),
    Form("LERC", tiff(compression="lerc", tile=(32, 32)), "float32"),
    Form("signed", tiff(), "int16"),
    Form("32 bits", tiff(tile=(32, 32)), "uint32"),
    Form("64 bits", tiff(compression="zlib"), "int64"),
    Form("half floats", tiff(tile=(16, 16)), "float16"),
    Form("doubles", tiff(rowsperstrip=20), "float64", 2),
    Form("pages as channels, OME", tiff(pages=True, ome=True, metadata={"axes": "CYX"}), "uint16", 3),
    Form("pages as channels, ImageJ", tiff(pages=True, imagej=True, metadata={"axes": "CYX"}), "uint16", 2),
    Form("PNG grey", png),
    Form("PNG grey, 16 bits", png, "uint16"),
    Form("PNG grey and opacity", png, "uint8", 2),
    Form("PNG RGB", png, "uint8", 3),
    Form("PNG RGB, 16 bits", png, "uint16", 3),
    Form("PNG RGBA", png, "uint8", 4),
)  # fmt: skip

each_form = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)


def random_boxes(shape: tuple[int, int], count: int) -> list[Box]:
    """Return boxes of all sizes, with the first and last pixel and an empty box among them."""
    random = np.random.default_rng(0)
    height, width = shape
    boxes = [Box(0, 0, 1, 1), Box(height - 1, width - 1, height, width), Box(3, 3, 3, 3), Box.of_shape(shape)]
    for _ in range(count):
        y0, y1 = sorted(random.integers(0, height + 1, 2).tolist())
        x0, x1 = sorted(random.integers(0, width + 1, 2).tolist())
        boxes.append(Box(y0, x0, y1, x1))
    return boxes


def whole(slide: Slide) -> NDArray[Any]:
    return slide.read(Box.of_shape(slide.shape))


@each_form
def test_every_region_holds_what_was_written(form: Form, tmp_path: Path) -> None:
    pixels = pixels_of(form.dtype, form.channels)
    path = tmp_path / "image"  # no ending: the content decides
    form.write(path, pixels)
    with open_slide(path) as slide:
        assert (slide.path, slide.shape, slide.channels) == (path, SHAPE, form.channels)
        assert slide.dtype == np.dtype(form.dtype) and slide.dtype.isnative
        assert slide.spacing == UNKNOWN
        for box in random_boxes(SHAPE, 25):
            region = slide.read(box)
            assert region.dtype == slide.dtype
            assert np.array_equal(region, pixels[box.slices]), box


@each_form
def test_a_file_cut_short_is_refused_before_it_is_used(form: Form, tmp_path: Path) -> None:
    """Whatever was cut off, either nothing is missing or opening says so in one line."""
    path, cut = tmp_path / "whole", tmp_path / "cut"
    pixels = pixels_of(form.dtype, form.channels)
    form.write(path, pixels)
    data = path.read_bytes()
    for length in sorted({0, 1, 4, 8, 20, *np.linspace(0, len(data) - 1, 12).astype(int).tolist(), len(data) - 1}):
        cut.write_bytes(data[:length])
        try:
            with open_slide(cut) as slide:
                assert np.array_equal(whole(slide), pixels)
        except InputError as error:
            assert str(error).startswith(f"cannot read {cut}: ")
            assert "\n" not in str(error)


@pytest.mark.parametrize("name", ["strips of 7 rows", "planes in tiles", "LZW", "pages as channels, OME", "PNG RGBA"])
def test_damage_never_escapes_as_another_error(name: str, tmp_path: Path) -> None:
    """Bytes changed at random: a region of some pixels, or one line; never a crash of Python."""
    form = next(form for form in FORMS if form.name == name)
    path = tmp_path / "image"
    form.write(path, pixels_of(form.dtype, form.channels, (33, 21)))
    data = path.read_bytes()
    random = np.random.default_rng(7)
    header = [*range(min(len(data), 16)), *range(max(0, len(data) - 300), len(data))]
    for _ in range(120):
        damaged = bytearray(data)
        for _ in range(random.integers(1, 4)):
            where = random.choice(header) if random.random() < 0.6 else random.integers(len(data))
            damaged[where] = random.integers(256)
        path.write_bytes(bytes(damaged))
        try:
            with open_slide(path) as slide:
                height, width = slide.shape
                slide.read(Box(0, 0, min(height, 40), min(width, 40)))
        except InputError as error:
            assert "\n" not in str(error)


def test_jpeg_tiles_become_rgb(tmp_path: Path) -> None:
    path = tmp_path / "tiles.tif"
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    pixels = np.stack([y * 2, x * 2, 120 + 0 * x], axis=-1).astype(np.uint8)
    tiff(tile=(32, 32), compression="jpeg", photometric="rgb", subsampling=(2, 2))(path, pixels)
    with open_slide(path) as slide:
        assert np.abs(whole(slide).astype(int) - pixels).max() < 40
        assert np.abs(whole(slide).astype(int) - pixels).mean() < 3
        assert np.array_equal(whole(slide), tifffile.imread(path))


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_files(channels: int, tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    pixels = np.full((*SHAPE, channels), 90, np.uint8)
    data = imagecodecs.jpeg_encode(pixels if channels == 3 else pixels[:, :, 0], 95)
    path.write_bytes(data)
    with open_slide(path) as slide:
        assert (slide.shape, slide.channels) == (SHAPE, channels)
        assert np.abs(whole(slide).astype(int) - 90).max() <= 2
    for length in (3, 10, len(data) // 2, len(data) - 2):
        path.write_bytes(data[:length])
        with pytest.raises(InputError, match="damaged or truncated JPEG"):
            open_slide(path)


def test_a_cmyk_jpeg_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "inks.jpg"
    path.write_bytes(imagecodecs.jpeg_encode(np.zeros((*SHAPE, 4), np.uint8), 90))
    with pytest.raises(InputError, match=r"4 channels .CMYK.*; save it as RGB"):
        open_slide(path)


# Numbers that stand for something else: colours in an image, labels in a label image.


def test_a_palette_is_colours_in_an_image_and_numbers_in_labels(tmp_path: Path) -> None:
    path = tmp_path / "palette.tif"
    numbers = np.random.default_rng(0).integers(0, 5, SHAPE).astype(np.uint8)
    table = np.random.default_rng(1).integers(0, 256, (3, 256)).astype(np.uint16)
    tifffile.imwrite(path, numbers, photometric="palette", colormap=table * 257)
    with open_slide(path) as slide, open_labels(path) as labels:
        assert np.array_equal(whole(slide), np.moveaxis(table, 0, 1)[numbers])
        assert (slide.channels, slide.dtype) == (3, np.uint8)
        assert np.array_equal(whole(labels)[:, :, 0], numbers)


def test_a_palette_of_greys_is_one_channel(tmp_path: Path) -> None:
    path = tmp_path / "greys.tif"
    numbers = np.random.default_rng(0).integers(0, 256, SHAPE).astype(np.uint8)
    table = np.tile(np.arange(256, dtype=np.uint16)[::-1], (3, 1))
    tifffile.imwrite(path, numbers, photometric="palette", colormap=table * 257)
    with open_slide(path) as slide:
        assert np.array_equal(whole(slide)[:, :, 0], 255 - numbers)


def png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", imagecodecs.zlib_crc32(name + content))


def packed_png(path: Path, numbers: NDArray[np.uint8], bits: int, kind: int, *extra: bytes) -> None:
    """Write a PNG of 1, 2, 4 or 8 bits, grey (kind 0) or palette (kind 3)."""
    height, width = numbers.shape
    unpacked = np.unpackbits(numbers[:, :, None], axis=2)[:, :, 8 - bits :].reshape(height, -1)
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in unpacked)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
        + b"".join(extra)
        + png_chunk(b"IDAT", imagecodecs.zlib_encode(rows))
        + png_chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_palette_png(bits: int, tmp_path: Path) -> None:
    path = tmp_path / "palette.png"
    numbers = np.random.default_rng(bits).integers(0, 2**bits, SHAPE).astype(np.uint8)
    table = np.random.default_rng(1).integers(0, 256, (2**bits, 3)).astype(np.uint8)
    packed_png(path, numbers, bits, 3, png_chunk(b"PLTE", table.tobytes()))
    with open_slide(path) as slide, open_labels(path) as labels:
        assert np.array_equal(whole(slide), table[numbers])
        assert np.array_equal(whole(labels)[:, :, 0], numbers)
    packed_png(path, numbers, bits, 3, png_chunk(b"PLTE", table.tobytes()), png_chunk(b"tRNS", b"\x07"))
    with open_slide(path) as slide, open_labels(path) as labels:
        assert np.array_equal(whole(slide)[:, :, 3], np.where(numbers == 0, 7, 255))
        assert np.array_equal(whole(labels)[:, :, 0], numbers)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_grey_png_of_few_bits(bits: int, tmp_path: Path) -> None:
    path = tmp_path / "grey.png"
    numbers = np.random.default_rng(bits).integers(0, 2**bits, SHAPE).astype(np.uint8)
    packed_png(path, numbers, bits, 0)
    with open_slide(path) as slide, open_labels(path) as labels:
        assert np.array_equal(whole(slide)[:, :, 0], numbers * (255 if bits == 1 else 1))
        assert np.array_equal(whole(labels)[:, :, 0], numbers)


def test_bilevel_is_0_and_255_in_an_image_and_0_and_1_in_labels(tmp_path: Path) -> None:
    path = tmp_path / "bits.tif"
    numbers = np.random.default_rng(0).integers(0, 2, SHAPE).astype(bool)
    for photometric in ("minisblack", "miniswhite"):
        tifffile.imwrite(path, numbers, photometric=photometric, rowsperstrip=8)
        with open_slide(path) as slide, open_labels(path) as labels:
            shown = numbers if photometric == "minisblack" else ~numbers
            assert np.array_equal(whole(slide)[:, :, 0], shown * np.uint8(255))
            assert np.array_equal(whole(labels)[:, :, 0], numbers.astype(np.uint8))


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_white_is_zero_is_turned_round_in_an_image_only(dtype: str, tmp_path: Path) -> None:
    path = tmp_path / "white.tif"
    pixels = pixels_of(dtype, 1)
    tiff(photometric="miniswhite", tile=(32, 32))(path, pixels)
    with open_slide(path) as slide, open_labels(path) as labels:
        assert np.array_equal(whole(slide), np.iinfo(dtype).max - pixels)
        assert np.array_equal(whole(labels), pixels)


# Several images in one file.


def test_levels_of_a_pyramid_and_companions_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "pyramid.tif"
    pixels = pixels_of("uint8", 3)
    for marked in (False, True):
        with tifffile.TiffWriter(path) as file:
            file.write(pixels, photometric="rgb", tile=(32, 32), metadata=None)
            for step in (2, 4):
                file.write(
                    pixels[::step, ::step],
                    photometric="rgb",
                    tile=(16, 16),
                    subfiletype=1 if marked else 0,
                    metadata=None,
                )
        with open_slide(path) as slide:
            assert np.array_equal(whole(slide), pixels)


def test_levels_below_the_image_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "pyramid.ome.tif"
    pixels = pixels_of("uint16", 2)
    planes = np.moveaxis(pixels, 2, 0)
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(planes, subifds=1, tile=(32, 32), metadata={"axes": "CYX"}, photometric="minisblack")
        file.write(planes[:, ::2, ::2], subfiletype=1, tile=(32, 32), photometric="minisblack")
    with open_slide(path) as slide:
        assert np.array_equal(whole(slide), pixels)


@pytest.mark.parametrize("axes", ["ZYX", "TYX", None])
def test_a_stack_is_refused(axes: str | None, tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    planes = np.zeros((3, *SHAPE), np.uint8)
    metadata = {"axes": axes} if axes else None
    tifffile.imwrite(path, planes, ome=axes is not None, metadata=metadata, photometric="minisblack")
    with pytest.raises(InputError, match=r"stack of 3 .*; need one: choose with --(z|time) N, from 0 to 2"):
        open_slide(path)


def test_a_volume_in_one_page_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "volume.tif"
    tifffile.imwrite(
        path,
        np.zeros((4, 32, 32), np.uint8),
        volumetric=True,
        tile=(16, 16, 16),
        photometric="minisblack",
        metadata=None,
    )
    with pytest.raises(InputError, match=r"stack of planes in one page .4 along Z"):
        open_slide(path)


def test_unlike_images_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "two.tif"
    with tifffile.TiffWriter(path) as file:
        file.write(np.zeros((50, 40), np.uint8), metadata=None)
        file.write(np.zeros((30, 60), np.uint8), metadata=None)
    with pytest.raises(InputError, match=r"2 images .0: 50 × 40 px, 1: 30 × 60 px.; need one: choose with --series N"):
        open_slide(path)


# Sizes that are declared.


def patched(path: Path, **tags: int) -> None:
    """Overwrite values of tags in the only page of a classic little-endian TIFF."""
    with tifffile.TiffFile(path, mode="r+b") as file:
        for name, value in tags.items():
            file.pages.first.tags[name].overwrite(value)


@pytest.mark.parametrize("options", [{}, {"tile": (16, 16)}, {"compression": "zlib"}, {"rowsperstrip": 5}], ids=str)
@pytest.mark.parametrize(
    "tags",
    [
        {"ImageWidth": 2**31},
        {"ImageLength": 2**31},
        {"ImageWidth": 2**31, "ImageLength": 2**31},
        {"ImageWidth": 2**16 * 3, "ImageLength": 2**16 * 3},
        {"ImageWidth": 0},
        {"ImageLength": 0},
    ],
    ids=str,
)
def test_absurd_sizes_are_refused_when_opened(tags: dict[str, int], options: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "absurd.tif"
    tiff(**options)(path, pixels_of("uint8", 1))
    patched(path, **tags)
    tracemalloc.start()
    with pytest.raises(InputError, match="cannot read"):
        open_slide(path)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


@pytest.mark.parametrize(("width", "height", "message"), [(0, 5, "no pixels"), (2**31 - 1, 2**31 - 1, "GiB")])
def test_absurd_png_sizes_are_refused_when_opened(width: int, height: int, message: str, tmp_path: Path) -> None:
    path = tmp_path / "absurd.png"
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IEND", b""))
    with pytest.raises(InputError, match=message):
        open_slide(path)


def test_an_absurd_jpeg_size_is_refused_when_opened(tmp_path: Path) -> None:
    path = tmp_path / "absurd.jpg"
    data = bytearray(imagecodecs.jpeg_encode(np.zeros((*SHAPE, 3), np.uint8), 90))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = b"\xff\xff\xff\xff"
    path.write_bytes(bytes(data))
    with pytest.raises(InputError, match=r"65535 × 65535 px take .* GiB in memory"):
        open_slide(path)


def test_memory_follows_the_region_of_an_uncompressed_strip(tmp_path: Path) -> None:
    """A gigabyte in one strip, of which the file system stores next to nothing."""
    path = tmp_path / "strip.tif"
    tifffile.imwrite(path, shape=(30_000, 40_000), dtype=np.uint8, metadata=None, photometric="minisblack")
    tracemalloc.start()
    with open_slide(path) as slide:
        assert not slide.read(Box(29_000, 39_000, 29_572, 39_572)).any()
        assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_memory_of_decoded_tiles_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from unettile.images import cache

    monkeypatch.setattr(cache, "KEPT_BYTES", 2**20)
    path = tmp_path / "tiles.tif"
    tifffile.imwrite(
        path, np.zeros((4096, 4096), np.uint8), tile=(256, 256), compression="zlib", metadata=None, maxworkers=1
    )
    tracemalloc.start()
    with open_slide(path) as slide:
        for y in range(0, 4096, 512):
            for x in range(0, 4096, 512):
                slide.read(Box(y, x, y + 512, x + 512))
        assert tracemalloc.get_traced_memory()[1] < 2**23
    tracemalloc.stop()


def test_neighbouring_windows_decode_every_tile_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tiles.tif"
    pixels = pixels_of("uint8", 3, (700, 900))
    tiff(tile=(64, 64), compression="zlib", planarconfig="separate")(path, pixels)
    decoded = []
    original = SegmentReader._decoded
    monkeypatch.setattr(SegmentReader, "_decoded", lambda *args: [decoded.append(args[1]), original(*args)][1])
    with open_slide(path) as slide:
        for y in range(0, 500, 50):
            for x in range(0, 700, 50):
                assert np.array_equal(slide.read(Box(y, x, y + 200, x + 200)), pixels[y : y + 200, x : x + 200])
    assert len(decoded) <= 3 * 11 * 15 + 1
    assert len(set(decoded)) == len(decoded) - decoded.count(0) + 1


def test_planes_share_one_bound_on_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty channels as pages, a region of each decoded: what is kept does not grow with their number."""
    from unettile.images import cache

    monkeypatch.setattr(cache, "KEPT_BYTES", 2**20)
    path = tmp_path / "many.ome.tif"
    pixels = np.zeros((40, 1024, 1024), np.uint8)
    tifffile.imwrite(
        path, pixels, tile=(256, 256), compression="zlib", metadata={"axes": "CYX"}, photometric="minisblack"
    )
    tracemalloc.start()
    with open_slide(path) as slide:
        for y in range(0, 1024, 128):
            slide.read(Box(y, 0, y + 128, 128))
            assert tracemalloc.get_traced_memory()[0] < 2**22
    tracemalloc.stop()


def test_an_enormous_compressed_strip_is_refused_with_advice(tmp_path: Path) -> None:
    path = tmp_path / "strip.tif"
    tiff(compression="zlib")(path, pixels_of("uint8", 1))
    patched(path, ImageWidth=2**16, ImageLength=2**15, RowsPerStrip=2**15)
    with pytest.raises(InputError, match=r"2\.0 GiB in memory, the limit is 1 GiB; rewrite it with smaller tiles"):
        open_slide(path)
