"""Lower resolutions of a CZI: the pixels of its smaller tiles, wherever they are all there."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pylibCZIrw import czi

from unettile.box import Box
from unettile.errors import InputError
from unettile.images import scenes
from unettile.images.slide import open_slide
from unettile.images.view import View

SHAPE = 163, 185
CORNER = -5, 7  # x, y


def noise(*shape: int, seed: int = 0, dtype: Any = np.uint8) -> NDArray[Any]:
    return np.random.default_rng(seed).integers(0, 250, shape).astype(dtype)


def write_pyramid(path: Path, levels: dict[int, NDArray[Any]], *, missing: tuple[int, int] = (0, 0)) -> Path:
    """Write (C, y, x, samples) by Zeiss's library, in tiles of 60 px; then say which tiles are how much smaller.

    The library cannot say it itself: in its directory every tile is as large as what it shows.

    Args:
        levels: pixels by how much smaller they are, each of its own, so that they can be told apart.
        missing: level and channel in which the first tile is not there.
    """
    factors = {}
    with czi.create_czi(str(path)) as file:
        for factor, pixels in levels.items():
            for c, y, x in np.ndindex(len(pixels), *(-(-length // 60) for length in pixels.shape[1:3])):
                tile = pixels[c, y * 60 : (y + 1) * 60, x * 60 : (x + 1) * 60]
                if (factor, c, y, x) == (*missing, 0, 0):
                    continue
                place = CORNER[0] + 60 * x * factor, CORNER[1] + 60 * y * factor
                file.write(tile[..., ::-1].copy(), location=place, scene=0, plane={"C": c})
                factors[c, len([key for key in factors if key[0] == c])] = factor  # by its number in the channel
        file.write_metadata("a", {0: "DAPI"}, scale_x=0.25e-6, scale_y=0.25e-6)
    content, at = bytearray(path.read_bytes()), 0
    while (at := content.find(b"DV", at)) >= 0:
        (count,) = struct.unpack_from("<i", content, at + 28)
        entries = range(at + 32, at + 32 + 20 * count, 20) if 0 < count < 12 else ()
        found = {content[entry]: entry for entry in entries}
        if found.keys() >= set(b"XYMC"):
            (c,), (m,) = (struct.unpack_from("<i", content, found[axis] + 4) for axis in b"CM")
            for entry in (found[axis] for axis in b"XY"):
                (stored,) = struct.unpack_from("<i", content, entry + 16)
                struct.pack_into("<i", content, entry + 8, stored * factors[c, m])
        at += 2
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("factors", [(2, 4), (3, 9)])
def test_a_level_holds_the_pixels_of_its_tiles(
    factors: tuple[int, int], samples: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scenes, "PIECE_EDGE", 32)
    channels = 2 if samples == 1 else 1
    shapes = {factor: tuple(length // factor for length in SHAPE) for factor in (1, *factors)}
    levels = {factor: noise(channels, *shape, samples, seed=factor) for factor, shape in shapes.items()}
    path = write_pyramid(tmp_path / "a.czi", levels)
    for number, (factor, pixels) in enumerate(levels.items()):
        expected = np.moveaxis(pixels, 0, 2).reshape(*shapes[factor], -1)
        with open_slide(path, View(level=number)) as slide:
            assert slide.shape == shapes[factor] and slide.downsample == (factor, factor)
            assert slide.pixel_size_um == pytest.approx((0.25 * factor, 0.25 * factor))
            assert np.array_equal(slide.read(Box.of_shape(slide.shape)), expected)
            box = Box(3, 5, 11, 17)
            assert np.array_equal(slide.read(box), expected[box.slices])
    with open_slide(path, View(mpp=0.25 * factors[0])) as slide:
        assert slide.view.level == 1 and slide.view.mpp is None
    with pytest.raises(InputError, match="--level 3 does not exist: it has 3 levels"):
        open_slide(path, View(level=3))


@pytest.mark.parametrize("channel", [0, 1])
def test_a_level_with_a_gap_is_none(channel: int, tmp_path: Path) -> None:
    """Not for any channel: which levels there are must not depend on what is chosen."""
    levels = {factor: noise(2, *(length // factor for length in SHAPE), 1, seed=factor) for factor in (1, 2, 4)}
    path = write_pyramid(tmp_path / "a.czi", levels, missing=(2, channel))
    with open_slide(path, View(level=1, channels=(0,))) as slide:
        assert slide.downsample == (4, 4)
        assert np.array_equal(slide.read(Box.of_shape(slide.shape))[..., 0], levels[4][0, ..., 0])
    with pytest.raises(InputError, match="it has 2 levels"):
        open_slide(path, View(level=2))
