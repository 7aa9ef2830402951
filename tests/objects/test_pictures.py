"""The gallery shows the objects that it names, and the page tells what the table says; the same for any blocks."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import skimage.io
import tifffile
from numpy.typing import NDArray

import unettile
from tests.objects.test_job import silent
from unettile.errors import UsageError
from unettile.objects.gallery import EDGE, GAP, LINE, OTHER, OWN
from unettile.objects.job import find_objects
from unettile.objects.lettering import HEIGHT, WIDTH, letter
from unettile.objects.products import Products, Sources
from unettile.objects.rules import Foreground, Labelling
from unettile.objects.survey import cell_edge
from unettile.report.bars import _whole_ticks
from unettile.report.objects import write_page

SIDES = (4, 30, 12, 100, 7, 20)  # of squares, in order of id


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    """Squares side by side, the last two of another class."""
    classes = np.zeros((120, 260), np.uint8)
    x = 3
    for number, side in enumerate(SIDES):
        classes[2 : 2 + side, x : x + side] = 1 + (number > 3)
        x += side + 10
    tifffile.imwrite(tmp_path / "mask.tif", classes, resolution=(2e4, 2e4), resolutionunit="CENTIMETER")
    return tmp_path / "mask.tif"


def make(mask: Path, folder: Path, edge: int, image: Path | None = None, count: int = 2) -> tuple[Path, Path]:
    folder.mkdir()
    gallery, report = folder / "cells.png", folder / "cells.html"
    find_objects(
        Sources(mask, image=image),
        Foreground(),
        Labelling(),
        Products(gallery=gallery, gallery_objects=count, report=report),
        overwrite=False,
        stage=silent,
        block_edge=edge,
        page=write_page,
    )
    return gallery, report


def tile(picture: NDArray[np.uint8], row: int, column: int) -> NDArray[np.uint8]:
    top, left = row * (GAP + LINE + EDGE + 2 * LINE) + GAP + LINE, GAP + column * (EDGE + GAP)
    return picture[top : top + EDGE, left : left + EDGE]


def side_of(shown: NDArray[np.uint8]) -> int:
    """The side of the square that has the yellow outline, px of the picture."""
    columns = np.flatnonzero((shown == OWN).all(axis=2).any(axis=0))
    return int(columns[-1] - columns[0] + 1)


def test_the_gallery_shows_the_largest_and_the_smallest_enlarged(tmp_path: Path, mask: Path) -> None:
    picture = skimage.io.imread(make(mask, tmp_path / "a", 32)[0])
    zooms = {100: (1, 2), 30: (2, 1), 4: (4, 1), 7: (4, 1)}  # 200 px do not fit into 168; 42 px do, four times
    for row, sides in enumerate(((100, 30), (4, 7))):
        for column, side in enumerate(sides):
            zoom, factor = zooms[side]
            assert side_of(tile(picture, row, column)) == side * zoom // factor, side
    assert (tile(picture, 0, 1) == OTHER).all(axis=2).any(), "its neighbours have outlines, too"
    assert picture.shape == (3 * (GAP + LINE + EDGE + 2 * LINE) + GAP, 2 * (EDGE + GAP) + GAP, 3)
    name = picture.copy()
    letter(name, "id 4", (GAP + LINE + EDGE + 3, GAP), 2, np.array([226, 230, 235], np.uint8))
    assert np.array_equal(name, picture), "the square of 100 px is number 4"
    assert make(mask, tmp_path / "b", 500)[0].read_bytes() == (tmp_path / "a" / "cells.png").read_bytes()


def test_a_dark_object_is_brightened_and_colours_are_not(tmp_path: Path, mask: Path) -> None:
    classes = tifffile.imread(mask)
    light = np.where(classes == 1, 300, np.where(classes == 2, 60000, 100)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "light.tif", light)
    dark = tile(skimage.io.imread(make(mask, tmp_path / "a", 64, tmp_path / "light.tif")[0]), 0, 0)
    assert dark[EDGE // 2, EDGE // 2, 0] > dark[EDGE - 1, EDGE // 2, 0] + 5
    colours = np.where(classes[..., None] > 0, np.array([120, 70, 150]), 230).astype(np.uint8)
    tifffile.imwrite(tmp_path / "colours.tif", colours, photometric="rgb")
    seen = tile(skimage.io.imread(make(mask, tmp_path / "b", 64, tmp_path / "colours.tif")[0]), 0, 0)
    assert seen[EDGE // 2, EDGE // 2].tolist() == [120, 70, 150]


def test_the_least_certain_come_with_their_confidence(tmp_path: Path) -> None:
    chance = np.zeros((40, 60), np.uint8)
    chance[5:15, 5:15], chance[5:15, 25:45] = 250, 200
    gallery = tmp_path / "g.png"
    cells = unettile.objects(chance[:, :, None], threshold=0.5, gallery=gallery, gallery_objects=1)
    np.testing.assert_allclose(cells["confidence"], [250 / 255, 200 / 255])
    picture = skimage.io.imread(gallery)
    assert picture.shape[0] == 4 * (GAP + LINE + EDGE + 2 * LINE) + GAP
    assert side_of(tile(picture, 2, 0)) == 20 * 4 and side_of(tile(picture, 1, 0)) == 10 * 4


def test_the_page_tells_what_the_table_says(tmp_path: Path, mask: Path) -> None:
    image = tmp_path / "image.tif"
    tifffile.imwrite(image, np.arange(120 * 260, dtype=np.uint16).reshape(120, 260))
    page = make(mask, tmp_path / "a", 32, image)[1].read_text("utf-8")
    assert page == make(mask, tmp_path / "b", 500, image)[1].read_text("utf-8")
    area = sum(side**2 for side in SIDES)
    for part in (
        "<h1>Objects of image.tif</h1>",
        "<b>6</b>objects",
        f"<b>{100 * area / (120 * 260):.3g} %</b>",
        "120 × 260 px, 0.5 × 0.5 µm a pixel",
        "<td>4</td><td>66.7 %</td>",
        f"<td>{(49 + 400) / 2 / 4:,.4g}</td>",
        f"mean {area / 6 / 4:.4g}",
        "area, µm²",
        "mean intensity 0",
    ):
        assert part in page, part
    bars = re.findall(r"<title>[^<]* to [^<]*: ([\d,]+)</title>", page)
    assert len(bars) == 80 and sum(int(count) for count in bars) == 12
    assert not re.search(r"(src|href)=\"(?!data:)", page) and "<script" not in page


def test_pages_and_galleries_without_objects(tmp_path: Path) -> None:
    mask = tmp_path / "empty.tif"
    tifffile.imwrite(mask, np.zeros((9, 9), np.uint8))
    gallery, report = make(mask, tmp_path / "a", 32)
    assert "<b>0</b>objects" in report.read_text("utf-8") and skimage.io.imread(gallery).shape[2] == 3


def test_names_that_html_would_read_are_escaped(tmp_path: Path, mask: Path) -> None:
    odd = tmp_path / "<b>&.tif"
    odd.write_bytes(mask.read_bytes())
    assert "Objects of &lt;b&gt;&amp;.tif" in make(odd, tmp_path / "a", 32)[1].read_text("utf-8")


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--gallery-objects is 41"):
        Products(gallery=tmp_path / "a.png", gallery_objects=41)
    with pytest.raises(UsageError, match="--report"):
        Products(report=tmp_path / "a.txt")


def test_round_numbers() -> None:
    assert [cell_edge((8192, 8192), count) for count in (90000, 60, 1)] == [100, 2000, 2000]
    assert _whole_ticks(1234) == [0, 500, 1000] and _whole_ticks(1) == [0, 1]


def test_letters_that_do_not_fit_are_cut() -> None:
    picture = np.zeros((12, 9, 3), np.uint8)
    letter(picture, "11", (0, 0), 1, np.array([255, 255, 255], np.uint8))
    assert picture[:HEIGHT, :WIDTH].any() and picture[6, 1:4].all() and not picture[7:].any()
