"""Channels by name: a name is a name, even where it looks like a number; what no channel is called is a number."""

from __future__ import annotations

import doctest
from pathlib import Path

import numpy as np
import pytest
import tifffile

from unettile.box import Box
from unettile.commands.options import parse_channels
from unettile.errors import InputError
from unettile.images import channels
from unettile.images.slide import open_slide
from unettile.images.view import View

LASERS = ["405", "488", "561"]


def write(path: Path, names: list[str]) -> Path:
    planes = np.stack([np.full((8, 9), number, np.uint8) for number in range(len(names))])
    metadata = {"axes": "CYX", "Channel": {"Name": names}}
    tifffile.imwrite(path, planes, ome=True, photometric="minisblack", metadata=metadata)
    return path


def found(path: Path, given: str) -> list[int]:
    """Return the channels that the command line means by some text."""
    with open_slide(path, View(channels=parse_channels(given))) as slide:
        shown: list[int] = slide.read(Box.of_shape(slide.shape))[0, 0].tolist()
        assert slide.view.channels == tuple(shown)
        return shown


@pytest.mark.parametrize(
    ("names", "given", "expected"),
    [
        (LASERS, "488", [1]),
        (LASERS, "561,405", [2, 0]),
        (LASERS, "0,2", [0, 2]),
        (["2", "1", "0"], "2", [0]),
        (["DAPI", "dapi", "x"], "dapi", [1]),
        (["DAPI", "dapi", "x"], "2", [2]),
        (["7", "7", "x"], "1,0", [1, 0]),
        (["a,b", "DAPI, nuclei", "b"], "a,b", [0]),
        (["a,b", "DAPI, nuclei", "b"], "dapi,nuclei,b,1", [1, 2, 1]),
        ([" gfp ", "DAPI  (405)", "x"], "GFP,DAPI (405)", [0, 1]),
        (["µ-opioid", "Ω", "x"], "μ-opioid,ω", [0, 1]),
    ],
    ids=str,
)
def test_what_text_means(names: list[str], given: str, expected: list[int], tmp_path: Path) -> None:
    assert found(write(tmp_path / "image.ome.tif", names), given) == expected


@pytest.mark.parametrize(
    ("names", "given", "message"),
    [
        (LASERS, "640", "channel 640 does not exist: it has 3; use numbers from 0 to 2; its channels are 0: 405, 1: 4"),
        (["x", "x", "y"], "x ", "2 channels are named 'x': choose by number, from 0 to 2"),
        (["", "", ""], "DAPI", "channel 'DAPI' does not exist: the file names none"),
        (LASERS, "DAPI", "channel 'DAPI' does not exist: its channels are 0: 405"),
    ],
    ids=str,
)
def test_what_nothing_means(names: list[str], given: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refusal:
        found(write(tmp_path / "image.ome.tif", names), given)
    assert message in str(refusal.value)


def test_a_number_of_an_opened_view_stays_a_number(tmp_path: Path) -> None:
    """A run that is gone on with opens the image by the numbers that its plan holds."""
    path = write(tmp_path / "image.ome.tif", ["2", "1", "0"])
    with open_slide(path, View(channels=("2",))) as slide, open_slide(path, slide.view) as again:
        assert again.view == slide.view and again.view.channels == (0,)


def test_names_of_pages(tmp_path: Path) -> None:
    planes = np.zeros((2, 8, 9), np.uint8)
    tifffile.imwrite(tmp_path / "imagej.tif", planes, imagej=True, metadata={"axes": "CYX", "Labels": ["GFP", "DAPI"]})
    with open_slide(tmp_path / "imagej.tif", View(channels=("DAPI",))) as slide:
        assert slide.view.channels == (1,) and slide.channel_names == ("DAPI",)
    with tifffile.TiffWriter(tmp_path / "pages.tif") as file:
        for plane, name in zip(planes, ("GFP", "DAPI"), strict=True):
            options = {"description": '{"shape": [2, 8, 9], "axes": "CYX"}'} if name == "GFP" else {}
            file.write(plane, metadata=None, extratags=[(285, "s", 0, name, True)], **options)
    with open_slide(tmp_path / "pages.tif", View(channels=("gfp",))) as slide:
        assert slide.view.channels == (0,)


def test_examples() -> None:
    done = doctest.testmod(channels)
    assert done.attempted >= 1 and done.failed == 0
