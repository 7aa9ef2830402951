"""Axes of TIFFs: whatever order the channels and planes of a stack lie in, as pages or as samples, each is found."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from unettile.box import Box
from unettile.errors import InputError
from unettile.images.slide import open_slide
from unettile.images.view import View

LENGTHS = {"Y": 40, "X": 31}
INSIDE = Box(7, 5, 30, 31)
SAMPLES: dict[str, Any] = {"photometric": "rgb", "planarconfig": "separate"}


@pytest.mark.parametrize("count", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "axes", ["CYX", "YXC", "ZYX", "TYX", "ZCYX", "TCYX", "CZYX", "TZCYX", "ZYXC", "TZYXC", "CTYX", "YXS", "ZYXS"]
)
@pytest.mark.parametrize("truncate", [False, True], ids=["pages", "one page"])
@pytest.mark.parametrize("tile", [None, (16, 16)], ids=["strips", "tiles"])
def test_every_plane_and_channel_is_found(
    axes: str, count: int, truncate: bool, tile: tuple[int, int] | None, tmp_path: Path
) -> None:
    """By itself, tifffile writes three or four planes of anything as the samples of one page, and says so nowhere."""
    if tile is not None and truncate:
        pytest.skip("what is tiled has a page for every plane")
    lengths = {**LENGTHS, axes[0]: count} if axes[0] not in "YX" else {**LENGTHS, axes[-1]: count}
    shape = tuple(lengths.get(axis, 3) for axis in axes)
    pixels = np.random.default_rng(count).integers(0, 60000, shape).astype(np.uint16)
    options: dict[str, Any] = {"photometric": "minisblack"}
    if axes[-1] in "CS":
        options["planarconfig"] = "contig"
    elif shape[-3] in (3, 4):
        options = SAMPLES
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, pixels, metadata={"axes": axes}, truncate=truncate, tile=tile, **options)
    steps = {axis: shape[axes.index(axis)] if axis in axes else 1 for axis in "TZ"}
    for t, z in product(range(steps["T"]), range(steps["Z"])):
        index = tuple({"T": t, "Z": z}.get(axis, slice(None)) for axis in axes)
        left = [axis for axis in axes if axis not in "TZ"]
        plane = pixels[index]
        plane = plane[..., None] if len(left) == 2 else np.moveaxis(plane, [left.index(axis) for axis in "YX"], [0, 1])
        with open_slide(path, View(t=t, z=z)) as slide:
            np.testing.assert_array_equal(slide.read(INSIDE), plane[INSIDE.slices])
            assert slide.channels == plane.shape[2]


def test_a_stack_in_samples_needs_a_plane(tmp_path: Path) -> None:
    pixels = np.zeros((4, 40, 31), np.uint8)
    tifffile.imwrite(tmp_path / "stack.tif", pixels, metadata={"axes": "ZYX"}, **SAMPLES)
    with pytest.raises(InputError, match=r"a stack of 4 planes in depth; need one: choose with --z N"):
        open_slide(tmp_path / "stack.tif")


def test_channels_of_such_files_can_be_chosen(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (5, 4, 40, 31)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "stack.tif", pixels, metadata={"axes": "ZCYX"}, **SAMPLES)
    with open_slide(tmp_path / "stack.tif", View(z=2, channels=(3, 1))) as slide:
        np.testing.assert_array_equal(slide.read(Box.of_shape(slide.shape)), np.moveaxis(pixels[2, [3, 1]], 0, 2))
