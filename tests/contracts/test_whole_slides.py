"""Whole slides that are TIFFs inside, as each maker lays them out: levels found, companions passed over, sizes known.

The files are generated: what counts is the order and the descriptions of their pages. A new maker costs one function.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from unettile.box import Box
from unettile.errors import InputError
from unettile.images.slide import Slide, open_slide
from unettile.images.view import View

PIXELS = np.random.default_rng(0).integers(0, 255, (512, 768, 3)).astype(np.uint8)
OPTIONS: dict[str, Any] = {"photometric": "rgb", "metadata": None}
TILED: dict[str, Any] = {**OPTIONS, "tile": (64, 64), "compression": "zlib"}
QUARTER_UM: dict[str, Any] = {"resolution": (40_000, 40_000), "resolutionunit": "CENTIMETER"}


def aperio(path: Path, depth: int = 1) -> None:
    with tifffile.TiffWriter(path) as file:
        file.write(
            PIXELS, description="Aperio Image Library v12\r\n768x512|AppMag = 40|MPP = 0.2500|Left = 25.6", **TILED
        )
        file.write(PIXELS[::8, ::8], description="Aperio thumbnail", **OPTIONS)
        for z in range(1, depth):
            file.write(PIXELS[::-1] + np.uint8(z), description="Aperio", **TILED)
        for step in (4, 16):
            for z in range(depth):
                file.write(PIXELS[::step, ::step] + np.uint8(z), description="Aperio", **TILED)
        file.write(PIXELS[:40, :50], subfiletype=1, description="Aperio label", **OPTIONS)
        file.write(PIXELS[:80, :50], subfiletype=9, description="Aperio macro", **OPTIONS)


def leica(path: Path) -> None:
    def image(name: str, size: int, ifds: tuple[int, ...]) -> str:
        height, width = PIXELS.shape[:2] if len(ifds) > 1 else (128, 64)
        levels = "".join(
            f'<dimension r="{r}" ifd="{ifd}" sizeX="{width // 4**r}" sizeY="{height // 4**r}"/>'
            for r, ifd in enumerate(ifds)
        )
        return f'<image name="{name}"><pixels>{levels}</pixels><view sizeX="{size}" sizeY="{2 * size}"/></image>'

    text = (
        '<scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01"><collection sizeX="1000" sizeY="2000">'
        f"{image('image_0', 1000, (0,))}{image('image_1', 100, (1, 2, 3))}</collection></scn>"
    )
    with tifffile.TiffWriter(path) as file:
        file.write(PIXELS[:128, :64], description=text, **TILED)
        file.write(PIXELS, **QUARTER_UM, **TILED)
        for step in (4, 16):
            file.write(PIXELS[::step, ::step], **TILED)


def philips(path: Path) -> None:
    def pixels(step: int) -> str:
        spacing = f"&quot;{0.00025 * step}&quot; &quot;{0.00025 * step}&quot;"
        attribute = f'<Attribute Name="DICOM_PIXEL_SPACING">{spacing}</Attribute>'
        return f'<DataObject ObjectType="PixelDataRepresentation">{attribute}</DataObject>'

    inner = f'<Attribute Name="PIIM"><Array>{"".join(pixels(step) for step in (1, 4, 16))}</Array></Attribute>'
    text = f'<DataObject ObjectType="DPUfsImport"><Attribute><Array>{inner}</Array></Attribute></DataObject>'
    with tifffile.TiffWriter(path) as file:
        file.write(PIXELS, software="Philips DP v1.0", description=text, **TILED)
        for step in (4, 16):  # levels are stored as whole tiles
            level = PIXELS[::step, ::step]
            height, width = (-(-length // 64) * 64 for length in level.shape[:2])
            padded = np.zeros((height, width, 3), np.uint8)
            padded[: level.shape[0], : level.shape[1]] = level
            file.write(padded, **TILED)
        file.write(PIXELS[:40, :50], description="Macro", **OPTIONS)
        file.write(PIXELS[:40, :60], description="Label", **OPTIONS)


def hamamatsu(path: Path) -> None:
    """Write an NDPI: a TIFF whose offsets have eight bytes, and whose tags four, the upper halves behind them."""
    data = bytearray(b"II*\0" + bytes(8))
    where = 4
    for pixels, magnification in [
        *((PIXELS[::step, ::step], 40 / step) for step in (1, 4, 16)),
        (PIXELS[:80, :90], -1.0),
    ]:
        strip = len(data)
        data += np.ascontiguousarray(pixels).tobytes()
        bits, rational = len(data), len(data) + 6
        data += struct.pack("<3H2I", 8, 8, 8, int(1000 * magnification) if magnification > 0 else 10, 1)
        height, width = pixels.shape[:2]
        tags = [
            (254, 4, 1, 0), (256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, bits), (259, 3, 1, 1), (262, 3, 1, 2),
            (271, 2, 4, 0x50444E), (273, 4, 1, strip), (277, 3, 1, 3), (278, 4, 1, height),
            (279, 4, 1, pixels.size), (282, 5, 1, rational), (283, 5, 1, rational), (296, 3, 1, 3), (65420, 4, 1, 1),
            (65421, 11, 1, struct.unpack("<I", struct.pack("<f", magnification))[0]),
        ]  # fmt: skip
        data[where : where + 8] = struct.pack("<Q", len(data))
        data += struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
        where = len(data)
        data += bytes(8 + 4 * len(tags))
    path.write_bytes(data)


def sub_pages(path: Path) -> None:
    with tifffile.TiffWriter(path) as file:
        file.write(PIXELS, subifds=2, **QUARTER_UM, **TILED)
        for step in (4, 16):
            file.write(PIXELS[::step, ::step], subfiletype=1, **TILED)


def marked_pages(path: Path) -> None:
    with tifffile.TiffWriter(path, bigtiff=True, byteorder=">") as file:
        file.write(PIXELS, **QUARTER_UM, **TILED)
        for step in (4, 16):
            file.write(PIXELS[::step, ::step], subfiletype=1, **TILED)
        file.write(PIXELS[:90, :50], subfiletype=1, **OPTIONS)


@dataclass(frozen=True)
class Maker:
    """One way of laying out a slide of 768 × 512 px, at 0.25 µm, with levels of a quarter and a sixteenth."""

    name: str
    write: Callable[[Path], None]
    ending: str = ""


MAKERS = (
    Maker("Aperio SVS", aperio),
    Maker("Leica SCN", leica),
    Maker("Philips TIFF", philips),
    Maker("Hamamatsu NDPI", hamamatsu, ".ndpi"),
    Maker("SubIFDs", sub_pages),
    Maker("marked pages, BigTIFF", marked_pages),
)
each_maker = pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.name)


def whole(slide: Slide) -> NDArray[Any]:
    return slide.read(Box.of_shape(slide.shape))


@each_maker
def test_levels_are_found_and_companions_passed_over(maker: Maker, tmp_path: Path) -> None:
    path = tmp_path / f"slide{maker.ending}"
    maker.write(path)
    for level, step in enumerate((1, 4, 16)):
        with open_slide(path, View(level=level)) as slide:
            assert np.array_equal(whole(slide), PIXELS[::step, ::step])
            assert slide.downsample == (step, step)
            assert slide.pixel_size_um == pytest.approx((0.25 * step, 0.25 * step))
            assert slide.reader == "tiff"
    with pytest.raises(InputError, match=r"--level 3 does not exist: it has 3 levels \(0: 512 × 768 px, 1: 128 × 192"):
        open_slide(path, View(level=3))


def test_focal_planes_of_a_slide(tmp_path: Path) -> None:
    path = tmp_path / "slide.svs"
    aperio(path, depth=3)
    with pytest.raises(InputError, match="stack of 3 planes in depth"):
        open_slide(path)
    with open_slide(path, View(z=2)) as slide:
        assert np.array_equal(whole(slide), PIXELS[::-1] + np.uint8(2))
    with open_slide(path, View(z=1, level=2)) as slide:
        assert np.array_equal(whole(slide), PIXELS[::16, ::16] + np.uint8(1))


def test_a_companion_is_read_if_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "slide.svs"
    aperio(path)
    with pytest.raises(
        InputError, match=r"4 images \(0: 512 × 768 px 'Baseline', 1: 64 × 96 px 'Thumbnail', 2: 40 × 50"
    ):
        open_slide(path, View(series=9))
    with open_slide(path, View(series=3)) as slide:
        assert np.array_equal(whole(slide), PIXELS[:80, :50])


def test_a_multiplexed_slide(tmp_path: Path) -> None:
    """PerkinElmer's: a page for each channel, then a thumbnail, then the pages of the next level."""
    path = tmp_path / "slide.qptiff"
    with tifffile.TiffWriter(path) as file:
        for step in (1, 0, 2, 4):
            if step == 0:
                file.write(PIXELS[::8, ::8], **OPTIONS)
                continue
            for channel, name in enumerate(("DAPI", "CD3", "CD8")):
                file.write(
                    PIXELS[::step, ::step, channel],
                    photometric="minisblack",
                    tile=(64, 64),
                    compression="lzw",
                    metadata=None,
                    subfiletype=int(step > 1),
                    software="PerkinElmer-QPI",
                    description=f"<PerkinElmer-QPI-ImageDescription><Name>{name}</Name>",
                    resolution=(20_000 / step, 20_000 / step),
                    resolutionunit="CENTIMETER",
                    extratags=[(286, 5, 1, (3, 2), True), (287, 5, 1, (5, 1), True)],
                )
    for level, step in enumerate((1, 2, 4)):
        with open_slide(path, View(level=level, channels=("CD8", "DAPI"))) as slide:
            assert np.array_equal(whole(slide), PIXELS[::step, ::step, [2, 0]])
            assert slide.pixel_size_um == pytest.approx((0.5 * step, 0.5 * step))
            assert slide.origin_um == (50_000, 15_000)
            assert slide.channel_names == ("CD8", "DAPI")


def test_what_a_scanner_left_out_is_white_in_its_slides_and_zero_elsewhere(tmp_path: Path) -> None:
    for name, write, expected in (("philips.tif", philips, 255), ("marked.tif", marked_pages, 0)):
        path = tmp_path / name
        write(path)
        with tifffile.TiffFile(path, mode="r+") as file:
            counts = file.pages.first.tags["TileByteCounts"]
            offsets = file.pages.first.tags["TileOffsets"]
            counts.overwrite((0, *counts.value[1:]))
            offsets.overwrite((0, *offsets.value[1:]))
        with open_slide(path) as slide:
            assert (slide.read(Box(0, 0, 64, 64)) == expected).all()
            assert np.array_equal(slide.read(Box(0, 64, 64, 128)), PIXELS[:64, 64:128])


def test_a_stack_without_pages_of_its_own(tmp_path: Path) -> None:
    """Large stacks of ImageJ have one page, behind which the planes follow each other."""
    path = tmp_path / "stack.tif"
    planes = np.random.default_rng(0).integers(0, 60_000, (5, 40, 30)).astype(np.uint16)
    for options in ({"imagej": True, "metadata": {"axes": "ZYX"}}, {"metadata": {"axes": "ZYX"}}):
        tifffile.imwrite(path, planes, truncate=True, byteorder=">", photometric="minisblack", **options)
        for z in range(5):
            with open_slide(path, View(z=z)) as slide:
                assert np.array_equal(slide.read(Box(3, 4, 40, 20))[:, :, 0], planes[z, 3:, 4:20])
        path.write_bytes(path.read_bytes()[:-1000])
        with pytest.raises(InputError, match="truncated"):
            open_slide(path, View(z=4))


def test_times_and_depths_of_a_stack(tmp_path: Path) -> None:
    path = tmp_path / "movie.ome.tif"
    planes = np.random.default_rng(0).integers(0, 255, (3, 4, 2, 40, 30)).astype(np.uint8)
    tifffile.imwrite(path, planes, metadata={"axes": "TZCYX"}, photometric="minisblack")
    with pytest.raises(InputError, match=r"3 points in time; need one: choose with --time N, from 0 to 2"):
        open_slide(path, View(z=1))
    for t in range(3):
        for z in range(4):
            with open_slide(path, View(z=z, t=t)) as slide:
                assert np.array_equal(whole(slide), np.moveaxis(planes[t, z], 0, 2))
